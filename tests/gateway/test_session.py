"""Signing in from a browser: a key becomes a ticket in a cookie that no page can read or misuse."""

from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.credentials import COOKIE
from callsheet.gateway.plane import Plane
from callsheet.ledger.keys import revoke_key
from tests.support.controls import running_plane
from tests.support.cut_proxy import Fate, always, cut_proxy
from tests.support.gateways import RunningGateway, gateway_before

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
        assert who["expire_time"] < who["session_end_time"]
        assert "Max-Age=3600" in cookie


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


async def test_signing_out_ends_the_session_wherever_its_ticket_is(
    gateway: RunningGateway,
) -> None:
    """A copy of the cookie is worth nothing, its streams end, and another session goes on."""
    task_id = await gateway.submit()
    async with gateway.client() as browser, gateway.client() as thief, gateway.client() as other:
        await signed_in(gateway, browser)
        await signed_in(gateway, other)
        thief.cookies.set(COOKIE, browser.cookies[COOKIE])
        async with thief.stream("GET", f"/api/v1/tasks/{task_id}/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            answer = await browser.delete(SESSION, headers={"origin": gateway.url})
            assert answer.status_code == 204
            rest = [line async for line in lines]
        assert '"reason":"TICKET_REVOKED"' in rest[-2]
        answer = await thief.get("/api/v1/tasks")
        assert (answer.status_code, answer.json()["reason"]) == (401, "TICKET_REVOKED")
        assert (await other.get("/api/v1/tasks")).status_code == 200


async def test_signing_out_of_what_is_over_is_no_error(gateway: RunningGateway) -> None:
    async with gateway.client() as browser:
        for ticket in ("ct_over", "ü", gateway.key):
            headers = {"cookie": f"{COOKIE}={ticket}".encode(), b"origin": gateway.url.encode()}
            answer = await browser.delete(SESSION, headers=headers)  # pyright: ignore[reportArgumentType]  # bytes, as httpx takes them
            assert answer.status_code == 204
            assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await gateway.http.get("/api/v1/tasks")).status_code == 200  # the key still stands


async def test_a_session_that_could_not_be_ended_is_said_to_go_on(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Plane("127.0.0.1:1", timeout=timedelta(milliseconds=100))
    async with gateway.client() as browser:
        await signed_in(gateway, browser)
        monkeypatch.setattr(gateway.gateway.plane, "client", nobody.client)
        answer = await browser.delete(SESSION, headers={"origin": gateway.url})
        assert answer.status_code == 503
        assert COOKIE in browser.cookies
    await nobody.close()


async def test_nobody_is_signed_out_while_the_ledger_is_away_and_whoever_asks_again_is(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        cut_proxy(valkey_server.url) as ledger,
        running_plane(ledger.url, cell) as plane,
        gateway_before(plane, valkey_server.url, cell, tmp_path) as gateway,
        gateway.client() as browser,
    ):
        await signed_in(gateway, browser)
        ticket = browser.cookies[COOKIE]
        # Control says when to come back, and here nobody waits for that long
        hasty = Plane(plane.address, timeout=timedelta(seconds=1))
        monkeypatch.setattr(gateway.gateway.plane, "client", hasty.client)
        ledger.judge = always(Fate.CUT, word=b"")
        answer = await browser.delete(SESSION, headers={"origin": gateway.url})
        assert (answer.status_code, answer.json()["reason"]) == (503, "LEDGER_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        # What is not over stays in the browser, so that it can be ended
        assert browser.cookies[COOKIE] == ticket
        ledger.judge = lambda _: Fate.PASS
        answer = await browser.delete(SESSION, headers={"origin": gateway.url})
        assert answer.status_code == 204
        assert COOKIE not in browser.cookies
        await hasty.close()


async def test_a_session_may_ask_for_less_than_its_key_allows(gateway: RunningGateway) -> None:
    key = await gateway.new_key(projects=frozenset({"default", "film"}))
    async with gateway.client() as browser:
        answer = await browser.post(
            SESSION, json={"api_key": key, "roles": ["read"], "projects": ["film"]}
        )
        assert answer.status_code == 201
        assert (answer.json()["roles"], answer.json()["projects"]) == (["read"], ["film"])
        headers = {"origin": gateway.url}
        answer = await browser.post(
            "/api/v1/tasks/submit", json={"task_type": "ping"}, headers=headers
        )
        assert (answer.status_code, answer.json()["reason"]) == (403, "ROLE_MISSING")
        answer = await browser.get("/api/v1/tasks", params={"project_id": "default"})
        assert (answer.status_code, answer.json()["reason"]) == (404, "PROJECT_NOT_FOUND")


#: What a key of the role read and the project default cannot be signed in for.
TOO_MUCH: list[tuple[dict[str, object], int, str]] = [
    ({"roles": ["read", "operate"]}, 403, "ROLE_MISSING"),
    ({"projects": ["elsewhere"]}, 404, "PROJECT_NOT_FOUND"),
    ({"roles": ["admin"]}, 400, "FIELD_INVALID"),
    ({"roles": "read"}, 400, "FIELD_INVALID"),
    ({"projects": [7]}, 400, "FIELD_INVALID"),
    ({"projects": ["a/b"]}, 400, "FIELD_INVALID"),
]


async def test_a_session_never_gets_more_than_its_key_allows(gateway: RunningGateway) -> None:
    key = await gateway.new_key(roles=frozenset({"read"}))
    async with gateway.client() as browser:
        for asked, status, reason in TOO_MUCH:
            answer = await browser.post(SESSION, json={"api_key": key, **asked})
            assert (answer.status_code, answer.json()["reason"]) == (status, reason), asked
            assert COOKIE not in browser.cookies


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
