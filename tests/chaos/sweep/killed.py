"""A process that plays a life until the SIGKILL that one of its roles' requests brings.

`python -m tests.chaos.sweep.killed ARGUMENTS`, a JSON object with the fields of Arguments.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from tests.chaos.sweep.life import Life
from tests.chaos.sweep.seam import Mode, Point
from tests.chaos.sweep.world import outside_of, quick_and_quiet


class Arguments(msgspec.Struct):
    """Where a life is played, and which request of which role ends it."""

    url: str
    brain_url: str
    receiver_url: str
    folder: str
    cell: str
    role: str
    number: int


async def play(told: Arguments) -> None:
    """Play until killed; coming to the end is a failure."""
    async with outside_of(
        told.url,
        brain_url=told.brain_url,
        receiver_url=told.receiver_url,
        folder=Path(told.folder),
    ) as shared:
        with quick_and_quiet():
            await Life(shared, told.cell, Point(told.role, told.number, Mode.KILL)).live()


if __name__ == "__main__":
    asyncio.run(play(msgspec.json.decode(sys.argv[1], type=Arguments)))
    sys.exit("the life came to its end")
