"""One process at a time sees to the cell; whatever happens to it, another goes on."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.model import NO_TIME, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.redis import connect
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED
from callsheet.upkeep.duty import Duty
from callsheet.upkeep.upkeep import ROLE, Upkeep
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.upkeeping import MOMENT, is_ready, running

HOLD: Final = timedelta(seconds=1)
LOOK: Final = timedelta(milliseconds=50)
WAIT: Final = 30.0


class Counting:
    """A duty that counts how often it was done, and fails as often as it is told to."""

    name = "counting"

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.done = asyncio.Event()
        self.count = 0

    async def run_once(self) -> timedelta:
        self.count += 1
        if self._failures:
            raise self._failures.pop(0)
        self.done.set()
        return LOOK


class Interruptions:
    """Counts how often the ledger was away."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@asynccontextmanager
async def upkeep(
    plane: Cell, duty: Duty, holder: str, *, heard: Interruptions | None = None
) -> AsyncGenerator[asyncio.Event, None]:
    """Run upkeep; end it, at the latest, on the way out."""
    stop = asyncio.Event()
    each = Upkeep(
        plane.registry,
        [duty],
        holder=holder,
        on_interruption=heard or Interruptions(),
        hold=HOLD,
        stand_by=LOOK,
    )
    serving = asyncio.create_task(each.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(serving, WAIT)


async def holder_of(redis: Redis, plane: Cell) -> str:
    found = await RedisConnection(redis).command("HGET", plane.keys.hold(ROLE), "holder")
    return cast("bytes", found or b"").decode()


async def test_one_holder_does_the_duties_and_the_others_stand_by(plane: Cell) -> None:
    first, second = Counting(), Counting()
    async with upkeep(plane, first, "a") as stop:
        await asyncio.wait_for(first.done.wait(), WAIT)
        async with upkeep(plane, second, "b"):
            assert second.count == 0
            # When the first one is told to stop, then the role is given up at once
            stop.set()
            await asyncio.wait_for(second.done.wait(), WAIT)
    # And the last one has left it to whoever comes
    assert await plane.registry.hold(ROLE, "c", duration=HOLD)


async def test_a_holder_that_lost_the_role_stops_its_duties(plane: Cell, redis: Redis) -> None:
    duty = Counting()
    async with upkeep(plane, duty, "a"):
        await asyncio.wait_for(duty.done.wait(), WAIT)
        with capture_logs() as logs:
            # Given somebody who took the role over, as after a long stop of the holder
            await redis.delete(plane.keys.hold(ROLE))
            assert await plane.registry.hold(ROLE, "b", duration=timedelta(hours=1))

            # Then it is told, and no duty is done any more
            async def is_told() -> bool:
                names = {task.get_name() for task in asyncio.all_tasks()}
                lost = any(line["event"] == "upkeep_role_lost" for line in logs)
                return lost and duty.name not in names

            await eventually(is_told)
    assert await holder_of(redis, plane) == "b"


async def test_a_duty_that_fails_is_done_again(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.upkeep.duty.FAILED_REST", LOOK)
    duty, heard = Counting(ValueError("broken"), LedgerUnavailable("away")), Interruptions()
    with capture_logs() as logs:
        async with upkeep(plane, duty, "a", heard=heard):
            await asyncio.wait_for(duty.done.wait(), WAIT)
    events = [line["event"] for line in logs]
    assert events.count("duty_failed") == 1
    assert events.count("ledger_unavailable") == 1
    # Once for the role just taken, once for the duty
    assert heard.count == 2


async def test_upkeep_goes_on_when_the_server_comes_back(tmp_path: Path, cell: str) -> None:
    with EmbeddedValkey(tmp_path) as server:
        async with connect(server.url, max_connections=4) as redis:
            plane = redis_cell(RedisConnection(redis), cell)
            duty, heard = Counting(), Interruptions()
            async with upkeep(plane, duty, "a", heard=heard):
                await asyncio.wait_for(duty.done.wait(), WAIT)
                server.kill()

                async def is_heard() -> bool:
                    return heard.count > 1

                await eventually(is_heard)
                server.start()
                duty.done.clear()
                await asyncio.wait_for(duty.done.wait(), WAIT)
                assert await holder_of(redis, plane) == "a"


@asynccontextmanager
async def process(
    url: str, cell: str, state_dir: Path
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """Run upkeep as a process of its own; kill it, at the latest, on the way out."""
    environment = {name: value for name, value in os.environ.items() if "CALLSHEET" not in name}
    environment |= {
        "REDIS_URL": url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_STATE_DIR": str(state_dir),
        "CALLSHEET_LEASE_SECONDS": "1",
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callsheet.upkeep", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_kill_9_of_the_holder_hands_the_role_over(
    valkey_server: EmbeddedValkey, redis: Redis, plane: Cell, cell: str, tmp_path: Path
) -> None:
    url = valkey_server.url
    async with process(url, cell, tmp_path) as one, process(url, cell, tmp_path) as other:

        async def holding() -> asyncio.subprocess.Process | None:
            holder = await holder_of(redis, plane)
            return next((each for each in (one, other) if f"-{each.pid}-" in holder), None)

        # Given two processes, and that the one with the role is killed
        first = await eventually(holding)
        assert first is not None
        survivor = other if first is one else one
        first.kill()
        lost = await running(plane, lease=NO_TIME)
        late = await plane.ledger.submit(OWNER, ping(delay=MOMENT))

        # Then the other one does its work
        async def is_done() -> bool:
            rescued = (await plane.writer.read(lost.id)).state is TaskState.PENDING
            return rescued and await is_ready(plane, late)

        await eventually(is_done)
        assert await holding() is survivor
        # And gives the role up when it is told to stop
        survivor.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(survivor.wait(), WAIT) == 0
        assert await holder_of(redis, plane) == ""


async def test_upkeep_without_a_ledger_to_see_to_is_refused() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "callsheet.upkeep",
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(started.communicate(), WAIT)
    assert started.returncode == EXIT_SETTINGS_REFUSED
    assert said.startswith(b"REDIS_URL:")


async def test_upkeep_waits_for_a_server_that_is_not_there_yet(cell: str, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    async with process(server.url, cell, tmp_path) as started:
        with server:
            async with connect(server.url, max_connections=2) as redis:
                plane = redis_cell(RedisConnection(redis), cell)

                async def is_held() -> str:
                    return await holder_of(redis, plane)

                assert f"-{started.pid}-" in await eventually(is_held)
                started.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(started.wait(), WAIT) == 0
