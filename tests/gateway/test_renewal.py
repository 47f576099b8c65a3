"""Sessions of browsers: short tickets, renewed while they are used, until the sign-in is over."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect

from callsheet.gateway.credentials import COOKIE
from callsheet.gateway.plane import Plane
from callsheet.gateway.renewal import MARGIN, Renewal, can_be_renewed, ends_soon, stream_time
from callsheet.v1.access_service_pb2 import Principal
from tests.support.gateways import PATIENCE, RunningGateway

SESSION = "/api/v1/session"
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@asynccontextmanager
async def browser_with(
    gateway: RunningGateway, *, life: timedelta, renewable_for: timedelta | None
) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser whose ticket is good for so long."""
    client = gateway.gateway.plane.client(gateway.key)
    made = await client.create_ticket(time_to_live=life, renewable_for=renewable_for)
    async with gateway.client() as browser:
        browser.cookies.set(COOKIE, made.ticket, domain="127.0.0.1")
        yield browser


async def test_a_ticket_with_less_than_half_of_its_time_left_is_renewed(
    gateway: RunningGateway,
) -> None:
    async with browser_with(gateway, life=MINUTE, renewable_for=2 * HOUR) as browser:
        before = browser.cookies[COOKIE]
        answer = await browser.get("/api/v1/tasks")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Max-Age=3600"} <= {each.strip() for each in cookie.split(";")}
        after = browser.cookies[COOKIE]
        assert after != before
        # And the new one, which is whole, is not renewed
        answer = await browser.get(SESSION)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers


async def test_many_requests_at_once_are_given_one_new_ticket(gateway: RunningGateway) -> None:
    async with browser_with(gateway, life=MINUTE, renewable_for=2 * HOUR) as browser:
        headers = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
    async with gateway.client(headers=headers) as page:
        answers = await asyncio.gather(*(page.get("/api/v1/tasks") for _ in range(10)))
    assert len({answer.headers["set-cookie"] for answer in answers}) == 1


async def test_only_the_cookie_of_a_browser_is_renewed(gateway: RunningGateway) -> None:
    async with browser_with(gateway, life=MINUTE, renewable_for=2 * HOUR) as browser:
        ticket = browser.cookies[COOKIE]
        # What browsers keep for long carries no cookie
        assert "set-cookie" not in (await browser.get("/openapi.json")).headers
    async with gateway.client(ticket) as program:
        assert "set-cookie" not in (await program.get("/api/v1/tasks")).headers


async def test_a_session_ends_at_its_age_however_it_is_used(gateway: RunningGateway) -> None:
    async with browser_with(gateway, life=MINUTE, renewable_for=SECOND) as browser:
        async with asyncio.timeout(PATIENCE):
            while (answer := await browser.get("/api/v1/tasks")).status_code == 200:
                assert "set-cookie" not in answer.headers  # there is nothing to renew
        assert (answer.status_code, answer.json()["reason"]) == (401, "TICKET_EXPIRED")


async def test_a_ticket_that_cannot_be_renewed_is_left_alone(gateway: RunningGateway) -> None:
    async with browser_with(gateway, life=MINUTE, renewable_for=None) as browser:
        assert "set-cookie" not in (await browser.get("/api/v1/tasks")).headers


async def test_a_stream_ends_before_its_ticket_so_that_its_reader_brings_the_next_one(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit()
    async with (
        browser_with(gateway, life=SECOND, renewable_for=HOUR) as browser,
        browser.stream("GET", f"/api/v1/tasks/{task_id}/events") as stream,
    ):
        lines = [line async for line in stream.aiter_lines()]
    assert "event: problem" not in lines  # it was not refused: it is over
    assert "set-cookie" in stream.headers


async def test_a_websocket_brings_the_next_ticket_and_leaves_before_its_own_ends(
    gateway: RunningGateway,
) -> None:
    async with browser_with(gateway, life=MINUTE / 3, renewable_for=2 * HOUR) as browser:
        headers = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}", "origin": gateway.url}
    async with connect(f"ws://{gateway.host}/ws", additional_headers=headers, proxy=None) as socket:
        assert socket.response is not None
        assert COOKIE in socket.response.headers["set-cookie"]
        await gateway.gateway.beside.rooms.caretaker.check()
        await asyncio.wait_for(socket.wait_closed(), PATIENCE)
        assert socket.close_code == 1012


async def test_a_renewal_that_failed_is_tried_again_later(gateway: RunningGateway) -> None:
    """Not with every request: control has enough to do when it is slow."""
    now = 1000.0
    plane, nobody = gateway.gateway.plane, Plane("127.0.0.1:1", timeout=SECOND / 10)
    made = await plane.client(gateway.key).create_ticket(time_to_live=MINUTE, renewable_for=HOUR)
    headers = [(b"cookie", f"{COOKIE}={made.ticket}".encode()), (b"host", b"127.0.0.1")]
    asked = HTTPConnection({"type": "http", "method": "GET", "path": "/", "headers": headers})
    renewal = Renewal(plane, ticket_time=HOUR, clock=lambda: now)
    await plane.principal(made.ticket)
    with pytest.MonkeyPatch.context() as away:
        away.setattr(plane, "client", nobody.client)
        assert await renewal.cookie(asked) is None
    assert await renewal.cookie(asked) is None
    now += 5
    assert await renewal.cookie(asked) is not None
    await nobody.close()


def a_principal(*, left: timedelta, renewable: timedelta | None) -> Principal:
    """Return somebody whose ticket, and whose renewals, end that far from 1970."""
    found = Principal(expire_time=Timestamp(seconds=int(left.total_seconds())))
    found.time_left.FromTimedelta(left)
    if renewable is not None:
        found.renewal_end_time.FromSeconds(int(renewable.total_seconds()))
    return found


@pytest.mark.parametrize(
    ("left", "renewable", "lasts"),
    [
        (HOUR, 12 * HOUR, HOUR - MARGIN),
        (10 * SECOND, 12 * HOUR, 5 * SECOND),
        (3 * HOUR, 12 * HOUR, HOUR),
        (10 * SECOND, 10 * SECOND, HOUR),  # the last one: it ends with its ticket, and says so
        (10 * SECOND, None, HOUR),
    ],
)
def test_a_stream_lasts_as_long_as_its_ticket_lets_it(
    left: timedelta, renewable: timedelta | None, lasts: timedelta
) -> None:
    assert stream_time(a_principal(left=left, renewable=renewable), longest=HOUR) == lasts


def test_a_key_ends_no_stream() -> None:
    assert stream_time(Principal(key_id="x"), longest=HOUR) == HOUR
    assert not ends_soon(Principal(time_left=Duration(seconds=1)))
    assert not can_be_renewed(Principal(key_id="x"))
