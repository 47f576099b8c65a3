"""The figures of scale: growth, memory, watchers, start-up and recovery.

On its own: `python -m tests.bench.scale [--small] [PART…]`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvloop

from tests.bench.growth import growth_figures
from tests.bench.measure import Figure, Note
from tests.bench.memory import memory_figures
from tests.bench.recovery import recovery_figures
from tests.bench.scale_series import Series
from tests.bench.startup import startup_figures
from tests.bench.watchers import watcher_figures

Part = Callable[[Path, Note], Awaitable["list[Series] | None"]]

PARTS: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "growth": growth_figures,
        "watchers": watcher_figures,
        "memory": memory_figures,
        "startup": startup_figures,
        "recovery": recovery_figures,
    }
)

#: The same by a tenth or less of the work: whether everything runs, not how fast.
SMALL: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "growth": lambda folder, note: growth_figures(
            folder, note, sizes=(1_000, 10_000), rounds=2
        ),
        "watchers": lambda folder, note: watcher_figures(folder, note, counts=(1, 20)),
        "memory": lambda folder, note: memory_figures(folder, note, tasks=2_000, work=500),
        "startup": lambda folder, note: startup_figures(folder, note, rounds=1),
        "recovery": lambda folder, note: recovery_figures(folder, note, lease=timedelta(seconds=3)),
    }
)


async def scale_figures(
    folder: Path,
    note: Note,
    *,
    parts: Collection[str] = tuple(PARTS),
    measured: Mapping[str, Part] = PARTS,
) -> list[Series]:
    """Measure these parts one after the other; note each figure, and return the lines of plots."""
    lines: list[Series] = []
    for name, part in measured.items():
        if name in parts:
            lines += await part(folder / name, note) or ()
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--small", action="store_true", help="less work, and worthless figures")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="callsheet-scale-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        measuring = scale_figures(
            Path(folder),
            _print,
            parts=asked.parts or tuple(PARTS),
            measured=SMALL if asked.small else PARTS,
        )
        for line in runner.run(measuring):
            points = ", ".join(f"{x:g}: {y:.2f}" for x, y in line.points)
            print(f"{line.name:<28} {line.unit} by {line.against}: {points}")
    print(f"{time.perf_counter() - start:.0f} s in all")


def _print(name: str, figure: Figure) -> None:
    print(f"{name:<28}{figure.value:>12.2f} {figure.unit:<8} ({figure.against})", flush=True)


if __name__ == "__main__":
    main()
