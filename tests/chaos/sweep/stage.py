"""Where lives are played: many at a time, each struck at a point of its own."""

import asyncio
import sys
import traceback
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.chaos.sweep.invariants import check_received, check_told
from tests.chaos.sweep.life import Life
from tests.chaos.sweep.seam import Mode, Point
from tests.chaos.sweep.world import Outside, outside_of, quick_and_quiet
from tests.support.brains import SmallBrainProcess
from tests.support.receiver import Receiver

#: Lives that are played at the same time: what they wait for overlaps.
TOGETHER: Final = 24


@dataclass(frozen=True)
class Stage:
    """What lives need, and how many requests each role makes in an undisturbed one."""

    valkey: EmbeddedValkey
    brain: SmallBrainProcess
    folder: Path
    requests: Mapping[str, int]

    @asynccontextmanager
    async def outside(self, receiver: Receiver) -> AsyncGenerator[Outside]:
        """Connect to what lives share."""
        async with outside_of(
            self.valkey.url,
            brain_url=self.brain.url,
            receiver_url=f"http://127.0.0.1:{receiver.port}",
            folder=self.folder,
        ) as found:
            yield found

    async def sweep(self, role: str, mode: Mode, *, is_patient: bool) -> None:
        """Strike the role at each of its requests; raises AssertionError with all that went wrong.

        A point that did not come is wrong too.
        """
        points = [
            Point(role, number, mode, is_patient) for number in range(1, self.requests[role] + 1)
        ]
        assert points, f"{role} asks nothing of the server"
        room = asyncio.Semaphore(TOGETHER)
        with quick_and_quiet():
            async with Receiver() as receiver, self.outside(receiver) as shared:
                lives = [Life(shared, f"{point} {is_patient}", point) for point in points]
                troubles = await asyncio.gather(*(_played(life, room) for life in lives))
        told = [
            # A courier that is struck may have sent a webhook whose outcome nobody wrote.
            trouble or self.seen(life, receiver, once=role != "courier")
            for life, trouble in zip(lives, troubles, strict=True)
        ]
        wrong = [f"{life.point}:\n{each}" for life, each in zip(lives, told, strict=True) if each]
        wrong += [f"{life.point} was never reached" for life in lives if not life.is_struck]
        if wrong:
            raise AssertionError("\n".join(wrong))

    def seen(self, life: Life, receiver: Receiver, *, once: bool = True) -> str:
        """Return what is wrong with what the life told receiver and brain, or nothing."""
        try:
            check_received(life.world, receiver.received, once=once)
            check_told(life.world, self.brain.facts())
        except Exception:  # noqa: BLE001  # each point is told of, not the first alone
            return traceback.format_exc()
        return ""


@contextmanager
def stage_for(valkey: EmbeddedValkey, folder: Path) -> Generator[Stage]:
    """Set a stage up, and play on it undisturbed."""
    brain = SmallBrainProcess(folder)
    try:
        empty = Stage(valkey, brain, folder, {})
        yield Stage(valkey, brain, folder, asyncio.run(_undisturbed(empty)))
    finally:
        brain.kill()


def announce(stage: Stage, role: str, mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    """Say how many points a group has."""
    with capsys.disabled():
        sys.stdout.write(f" {role}, {mode.value}: {stage.requests[role]} points ")


async def _undisturbed(stage: Stage) -> dict[str, int]:
    """Play two lives, the first of which loads the scripts; return the second one's requests."""
    await stage.brain.start()
    with quick_and_quiet():
        async with Receiver() as receiver, stage.outside(receiver) as shared:
            lives = [Life(shared, f"undisturbed {stage.folder.name} {n}") for n in range(2)]
            for life in lives:
                await life.live()
                assert stage.seen(life, receiver) == ""
            return {role: len(meter.requests) for role, meter in lives[1].meters.items()}


async def _played(life: Life, room: asyncio.Semaphore) -> str:
    """Play a life; return what went wrong, or nothing."""
    async with room:
        try:
            await life.live()
        except Exception:  # noqa: BLE001  # as above
            return traceback.format_exc()
    return ""
