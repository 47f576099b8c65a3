"""What one caller may ask: so much at once, so much in the long run, and when to come again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.limits import RateLimit, StreamLimit
from callsheet.gateway.problems import Refused
from tests.support.gateways import RunningGateway, running_gateway_plane


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_has_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limit = RateLimit(per_second=2, burst=4, clock=clock)
    for _ in range(4):
        limit.take("a")
    assert limit.wait("a") == timedelta(seconds=0.5)
    with pytest.raises(Refused) as refused:
        limit.take("a")
    assert (refused.value.status, refused.value.reason) == (429, "RATE_LIMITED")
    limit.take("b")  # another one's is not touched
    clock.now += 0.5
    limit.take("a")
    assert limit.wait("a") is not None
    clock.now += 100
    for _ in range(4):
        limit.take("a")
    assert limit.wait("a") is not None


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(per_second=1, burst=1, clock=clock)
    limit.take("a")
    for _ in range(100):
        with pytest.raises(Refused):
            limit.take("a")
    clock.now += 1
    limit.take("a")


def test_only_so_many_callers_are_remembered() -> None:
    limit = RateLimit(per_second=1, burst=1, clock=Clock(), remembered=2)
    for caller in ("a", "b", "c"):
        limit.take(caller)
    limit.take("a")  # was forgotten for c
    assert limit.wait("c") is not None


def test_streams_are_counted_while_they_are_open() -> None:
    limit = StreamLimit(each=2, total=3)
    with limit.opened("a"), limit.opened("a"):
        with pytest.raises(Refused), limit.opened("a"):
            pass
        with limit.opened("b"), pytest.raises(Refused), limit.opened("c"):
            pass
    with limit.opened("a"), limit.opened("a"), limit.opened("c"):
        pass


@pytest.fixture
async def slow(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that answers one request of a key a second, four at once."""
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, gateway_requests_per_second=1
    ) as running:
        yield running


async def refused_at_last(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask until it is refused with 429: on a slow machine some time passes between two."""
    for _ in range(500):
        answer = await ask()
        if answer.status_code == 429:
            return answer
    raise AssertionError("nobody was ever told to wait")


async def test_too_many_requests_of_one_key_are_refused_and_no_other_key_notices(
    slow: RunningGateway,
) -> None:
    for _ in range(4):
        assert (await slow.http.get("/api/v1/tasks")).status_code == 200
    refused = await refused_at_last(lambda: slow.http.get("/api/v1/tasks"))
    assert (refused.status_code, refused.json()["reason"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == str(refused.json()["retry_after"]) == "1"
    async with slow.client(await slow.new_key()) as other:
        assert (await other.get("/api/v1/tasks")).status_code == 200
    async with slow.client() as probe:
        for _ in range(8):
            assert (await probe.get("/health")).status_code == 200


async def test_who_guesses_keys_is_slowed_down_and_no_good_key_is(gateway: RunningGateway) -> None:
    assert (await gateway.http.get("/api/v1/tasks")).status_code == 200
    async with gateway.client() as guesser:
        numbers = count()

        def guess() -> Awaitable[httpx.Response]:
            headers = {"x-api-key": f"cs_{next(numbers):08x}_guess"}
            return guesser.get("/api/v1/tasks", headers=headers)

        for _ in range(30):
            assert (await guess()).status_code == 401
        assert (await refused_at_last(guess)).json()["reason"] == "RATE_LIMITED"
    assert (await gateway.http.get("/api/v1/tasks")).status_code == 200
