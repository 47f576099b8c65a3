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


def guesses(http: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[httpx.Response]]:
    """Return what asks for the path with a new wrong key each time."""
    numbers = count()

    def guess() -> Awaitable[httpx.Response]:
        return http.get(path, headers={"x-api-key": f"cs_{next(numbers):08x}_guess"})

    return guess


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/health", "/api/v1/session"])
async def test_who_guesses_keys_is_slowed_down_and_no_good_key_is(
    gateway: RunningGateway, path: str
) -> None:
    assert (await gateway.http.get("/api/v1/tasks")).status_code == 200
    async with gateway.client() as guesser:
        guess = guesses(guesser, path)
        for _ in range(30):
            assert (await guess()).status_code == 401
        assert (await refused_at_last(guess)).json()["reason"] == "RATE_LIMITED"
        assert (await guesser.get("/health")).status_code == 200  # a probe sends no key
    assert (await gateway.http.get(path)).status_code == 200


async def test_who_guesses_keys_for_a_stream_is_slowed_down(gateway: RunningGateway) -> None:
    numbers = count()
    async with gateway.client() as guesser:

        def guess() -> Awaitable[httpx.Response]:
            return guesser.post(
                "/callsheet.v1.TaskService/WatchTasks",
                headers={
                    "x-api-key": f"cs_{next(numbers):08x}_guess",
                    "content-type": "application/connect+json",
                },
            )

        assert (await guess()).status_code == 200  # what became of it stands at its end
        await refused_at_last(guess)


async def test_an_answer_that_asked_nobody_makes_no_guess_a_good_key(
    gateway: RunningGateway,
) -> None:
    async with gateway.client() as guesser:
        await refused_at_last(guesses(guesser, "/api/v1/tasks"))
        headers = {"x-api-key": "cs_0000ffff_guess"}
        assert (await guesser.get("/ready", headers=headers)).status_code == 200
        assert (await guesser.get("/api/v1/tasks", headers=headers)).status_code == 429


async def test_a_new_key_for_each_request_does_not_bring_a_new_allowance(
    slow: RunningGateway,
) -> None:
    """Nobody is asked about these keys, so none of them is refused as a bad one."""
    async with slow.client() as guesser:
        answer = await refused_at_last(guesses(guesser, "/nowhere"))
    assert answer.json()["reason"] == "RATE_LIMITED"
