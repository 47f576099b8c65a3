"""A whole process is killed in the middle of the life of tasks, and another one goes on.

A sample of the points of the other sweeps, with SIGKILL: nothing of the process is left to tidy up.
"""

import asyncio
import signal
import sys
from typing import Final

import msgspec
import pytest

from tests.chaos.sweep.killed import Arguments
from tests.chaos.sweep.life import Life
from tests.chaos.sweep.stage import Stage
from tests.chaos.sweep.world import quick_and_quiet
from tests.support.receiver import Receiver

SECONDS: Final = 100
#: A sample: a process takes seconds to begin.
ROLES: Final = ("worker", "upkeep", "tailer", "courier")
#: Upkeep's first turn is longer than this.
LATEST: Final = 12


async def killed(told: Arguments) -> int:
    """Run the process until it ends; return how it did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.sweep.killed", msgspec.json.encode(told).decode()
    )
    try:
        async with asyncio.timeout(SECONDS):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.timeout(300)  # on a busy machine a process takes long to begin
async def test_another_process_goes_on_where_one_was_killed(stage: Stage, cell: str) -> None:
    async with Receiver() as receiver, stage.outside(receiver) as shared:
        points = [
            Arguments(
                url=stage.valkey.url,
                brain_url=stage.brain.url,
                receiver_url=shared.receiver_url,
                folder=str(stage.folder),
                cell=f"{cell}-{role}",
                role=role,
                # Before anything is forgotten, so that the other process has a life to go on with.
                number=min(LATEST, stage.requests[role] // 2),
            )
            for role in ROLES
        ]
        room = asyncio.Semaphore(2)

        async def survive(told: Arguments) -> str:
            async with room:
                assert await killed(told) == -signal.SIGKILL, told
            life = Life(shared, told.cell, generation="after")
            await life.live()
            return f"{told}: {seen}" if (seen := stage.seen(life, receiver, once=False)) else ""

        with quick_and_quiet():
            troubles = await asyncio.gather(*map(survive, points))
        assert [trouble for trouble in troubles if trouble] == []
