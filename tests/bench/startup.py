"""How long every process takes from its start until it says that it does its work."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from callsheet.embedded.valkey import EmbeddedValkey
from tests.bench.measure import Figure, Note
from tests.bench.plane import free_address
from tests.bench.scale_plane import ScalePlane, scale_plane
from tests.support.any_ports import ANY_PORTS
from tests.support.processes import Room

ROUNDS: Final = 3
#: Each room's module, in the order of `callsheetd up`.
ROOMS: Final = {
    "brain": "embedded.brain",
    "control": "control",
    "gateway": "gateway",
    "upkeep": "upkeep",
    "worker": "worker",
    "sidecar": "sidecar",
}
#: What the runners of a killed worker get to end in.
_RUNNERS_END: Final = 10.0


async def startup_figures(folder: Path, note: Note, *, rounds: int = ROUNDS) -> None:
    """Measure each process alone, and then all of them together."""
    seconds: dict[str, list[float]] = {}
    async with scale_plane(folder / "rooms", "control") as plane:
        for number in range(rounds):
            seconds.setdefault("valkey", []).append(_valkey(folder / f"valkey{number}"))
            for name, module in ROOMS.items():
                seconds.setdefault(name, []).append(_room(plane, name, module))
    for number in range(rounds):
        seconds.setdefault("up", []).append(_up(folder / f"up{number}"))
    for name, found in seconds.items():
        what = "callsheetd up: all of them, in a new folder" if name == "up" else name
        against = f"{what}; spawned → ready, median of {rounds}, slowest {max(found):.2f} s"
        note(f"startup_{name}_s", Figure(median(found), "s", against))


def _valkey(folder: Path) -> float:
    start = time.perf_counter()
    with EmbeddedValkey(folder):
        return time.perf_counter() - start


def _room(plane: ScalePlane, name: str, module: str) -> float:
    own = {variable: free_address() for variable in ANY_PORTS}
    start = time.perf_counter()
    room = plane.start(module, name=f"started-{name}", **own)
    spent = time.perf_counter() - start
    _end(room)
    return spent


def _up(folder: Path) -> float:
    folder.mkdir(parents=True)
    environment = {
        "CALLSHEET_STATE_DIR": str(folder),
        **ANY_PORTS,
        "CALLSHEET_DEVICE": "cpu",
    }
    start = time.perf_counter()
    up = Room("embedded.main", environment, arguments=("up",), log=folder / "up.txt")
    try:
        up.await_ready()
        return time.perf_counter() - start
    finally:
        # Told, not killed: it takes its children down.
        up.terminate()


def _end(room: Room) -> None:
    runners = psutil.Process(room.process.pid).children(recursive=True)
    room.kill()
    _, left = psutil.wait_procs(runners, timeout=_RUNNERS_END)
    if left:
        raise SystemExit(f"{len(left)} runners outlived the worker of {room.name}")
