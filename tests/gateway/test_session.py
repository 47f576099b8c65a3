"""Signing in from a browser: a key becomes a ticket in a cookie that no page can read or misuse."""

import httpx

from callsheet.gateway.credentials import COOKIE
from callsheet.ledger.keys import revoke_key
from tests.support.gateways import RunningGateway

SESSION = "/api/v1/session"


async def signed_in(gateway: RunningGateway, browser: httpx.AsyncClient) -> httpx.Response:
    """Sign the browser in, as the gateway's own page does."""
    return await browser.post(
        SESSION, json={"api_key": gateway.key}, headers={"origin": gateway.url}
    )


async def test_a_key_becomes_a_cookie_that_no_script_can_read(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        answer = await signed_in(gateway, browser)
        assert answer.status_code == 201
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Path=/"} <= {each.strip() for each in cookie.split(";")}
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie  # this is loopback, without TLS
        assert gateway.key not in cookie
        who = (await browser.get(SESSION)).json()
        assert who["projects"] == ["default"]
        assert sorted(who["roles"]) == ["operate", "read", "submit"]
        assert who["key_id"] == gateway.key.split("_")[1]
        assert who["expire_time"] is not None


async def test_the_cookie_opens_the_api_for_the_gateways_own_pages(
    gateway: RunningGateway,
) -> None:
    async with gateway.client() as browser:
        await signed_in(gateway, browser)
        body = {"task_type": "ping"}
        for headers in ({"origin": gateway.url}, {"sec-fetch-site": "same-origin"}):
            answer = await browser.post("/api/v1/tasks/submit", json=body, headers=headers)
            assert answer.status_code == 202
        assert len((await browser.get("/api/v1/tasks")).json()["tasks"]) == 2


#: What a browser says of a request that another site's page made, or nothing at all.
FOREIGN: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {},
]


async def test_a_cookie_changes_nothing_from_another_origin(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        await signed_in(gateway, browser)
        before = await gateway.plane.written()
        body = {"task_type": "ping"}
        for headers in FOREIGN:
            for path in ("/api/v1/tasks/submit", "/callsheet.v1.TaskService/SubmitTask"):
                answer = await browser.post(path, json=body, headers=headers)
                assert answer.status_code == 403, (path, headers)
        assert await gateway.plane.written() == before


async def test_a_key_in_a_header_needs_no_origin(gateway: RunningGateway) -> None:
    headers = {"origin": "https://elsewhere.example"}
    body = {"task_type": "ping"}
    answer = await gateway.http.post("/api/v1/tasks/submit", json=body, headers=headers)
    assert answer.status_code == 202


async def test_another_origin_signs_nobody_in_or_out(gateway: RunningGateway) -> None:
    headers = {"origin": "https://evil.example"}
    async with gateway.client() as browser:
        body = {"api_key": gateway.key}
        answer = await browser.post(SESSION, json=body, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "CROSS_ORIGIN")
        await signed_in(gateway, browser)
        assert (await browser.delete(SESSION, headers=headers)).status_code == 403
        assert COOKIE in browser.cookies


async def test_signing_out_takes_the_cookie_away(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        await signed_in(gateway, browser)
        answer = await browser.delete(SESSION, headers={"origin": gateway.url})
        assert answer.status_code == 204
        assert COOKIE not in browser.cookies
        assert (await browser.get(SESSION)).status_code == 401


async def test_a_wrong_key_signs_nobody_in(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        for key in ("cs_00000000_nothing", "ä", " ", "x" * 5000):
            answer = await browser.post(SESSION, json={"api_key": key})
            assert answer.status_code == 401, key
            assert COOKIE not in browser.cookies


async def test_a_ticket_makes_no_other_ticket(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        await signed_in(gateway, browser)
        ticket = browser.cookies[COOKIE]
    async with gateway.client() as other:
        answer = await other.post(SESSION, json={"api_key": ticket})
        assert answer.status_code == 403
        assert COOKIE not in other.cookies


async def test_a_revoked_key_ends_its_sessions_and_their_streams(gateway: RunningGateway) -> None:
    key = await gateway.new_key()
    task_id = await gateway.submit()
    async with gateway.client() as browser:
        assert (await browser.post(SESSION, json={"api_key": key})).status_code == 201
        async with browser.stream("GET", f"/api/v1/tasks/{task_id}/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            cell = gateway.settings.cell
            await revoke_key(gateway.plane.redis, cell=cell, key_id=key.split("_")[1])
            rest = [line async for line in lines]
        assert "event: problem" in rest
        assert '"status":401' in rest[-2]
        assert (await browser.get(SESSION)).status_code == 401


async def test_sign_ins_of_one_address_are_limited(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        for _ in range(20):
            answer = await browser.post(SESSION, json={"api_key": "cs_00000000_x"})
            assert answer.status_code == 401
        answer = await browser.post(SESSION, json={"api_key": gateway.key})
        for _ in range(100):  # on a slow machine another one is let through now and then
            if answer.status_code == 429:
                break
            answer = await browser.post(SESSION, json={"api_key": gateway.key})
        assert (answer.status_code, answer.json()["reason"]) == (429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) >= 1
