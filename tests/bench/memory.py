"""What a finished task costs in Redis, and what every process holds in memory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Final, cast

import psutil

from callsheet.ledger.graph_progress import READER as GRAPH_READER
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from tests.bench.measure import Figure, Note
from tests.bench.plane import free_address
from tests.bench.scale_filling import keys_of, never_rewrites
from tests.bench.scale_plane import (
    PROJECT,
    QUEUE,
    ScalePlane,
    ping,
    process_cpu_seconds,
    scale_plane,
)
from tests.support.eventually import eventually

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

#: Tasks whose memory is counted, and tasks after which processes are looked at.
TASKS: Final = 20_000
WORK: Final = 10_000
#: Tasks that bring along what is paid once.
WARM_UP: Final = 1_000
#: What sixteen characters answered unchanged are.
ECHO: Final = "0123456789abcdef"
PATIENCE: Final = timedelta(minutes=3)
#: Task hashes whose size is asked for, of all that were made.
_SAMPLE: Final = 200
#: The bench's own durable reader of the log: what it has not read stays.
_READER: Final = "bench"
#: A process that has less than this of a core has nothing to do.
_IDLE_SHARE: Final = 0.2
_LOOK: Final = timedelta(milliseconds=500)
_MEBIBYTE: Final = 2**20


async def memory_figures(folder: Path, note: Note, *, tasks: int = TASKS, work: int = WORK) -> None:
    """Measure Redis by tasks, and then processes by work."""
    await _redis_figures(folder / "redis", note, tasks)
    await _process_figures(folder / "processes", note, work)


async def _redis_figures(folder: Path, note: Note, tasks: int) -> None:
    """Run tasks to their end as everybody's are run, and count what Redis holds for one."""
    rooms = ("control", "upkeep", "worker", "sidecar")
    async with (
        scale_plane(folder, *rooms, CALLSHEET_WORKER_QUEUES=QUEUE) as plane,
        plane.client() as stub,
    ):
        await never_rewrites(plane.cell)
        await _done(plane, stub, WARM_UP)
        end = await plane.cell.log.end()
        await plane.cell.log.save_cursor(_READER, end)
        # Upkeep would do it in its own time.
        await plane.cell.log.trim(end)
        before = await _used(plane)
        ids = await _done(plane, stub, tasks)
        untrimmed = await _used(plane) - before
        parts = await _parts(plane, ids)
        await plane.redis.hdel(plane.cell.keys.cursors, _READER)
        await _trimmed(plane)
        trimmed = await _used(plane) - before
    payload = payload_bytes(_request())
    each = trimmed / tasks - payload
    held = ", ".join(f"{name} {size:.0f}" for name, size in parts.items())
    against = f"{tasks:,} pings, {payload} bytes of payload left out, log trimmed; bar 2,048"
    note("bytes_per_task", Figure(each, "bytes", f"{against}; {held}"))
    against = "the same before the log was trimmed: nothing of it had gone"
    note("bytes_per_task_untrimmed", Figure(untrimmed / tasks - payload, "bytes", against))


async def _process_figures(folder: Path, note: Note, work: int) -> None:
    """Look at every process when it has nothing to do yet, and again after some work."""
    address, token = free_address(), secrets.token_urlsafe(32)
    brain = {
        "CALLSHEET_BRAIN_ADDRESS": address,
        "CALLSHEET_BRAIN_TOKEN": token,
        "BRAIN_WS_URL": f"ws://{address}/mcp",
    }
    rooms = ("embedded.brain", "control", "upkeep", "worker", "sidecar")
    async with scale_plane(folder, *rooms, **brain) as plane, plane.client() as stub:
        await _quiet(plane)
        idle = _resident(plane)
        await _done(plane, stub, work)
        await eventually(lambda: _is_told(plane), within=PATIENCE)
        await _quiet(plane)
        after = _resident(plane)
    for name, size in after.items():
        room = name.removeprefix("embedded.").replace(" ", "_")
        was = idle.get(name)
        against = "resident" if was is None else f"resident, {was / _MEBIBYTE:.1f} idle"
        figure = Figure(size / _MEBIBYTE, "MiB", f"{against}, after {work:,} pings")
        note(f"memory_{room}_mib", figure)


def payload_bytes(request: SubmitTaskRequest) -> int:
    """Return the bytes of what a ping asks for and of what it answers, each counted once."""
    output = PingOutput(echo=request.spec.ping.echo)
    return request.spec.ByteSize() + output.ByteSize()


async def _done(plane: ScalePlane, stub: TaskServiceAsyncStub, count: int) -> list[str]:
    """Submit so many tasks, and return their ids when all have succeeded."""
    succeeded = plane.cell.keys.final
    total = await plane.cell.store.count(succeeded) + count
    ids = await plane.submit(stub, _request(), count)

    async def are_all() -> bool:
        return await plane.cell.store.count(succeeded) >= total

    await eventually(are_all, within=PATIENCE)
    return ids


async def _trimmed(plane: ScalePlane) -> None:
    """Return when the log has but its last entry: what is kept of it for watchers is no task's."""

    async def is_read() -> bool:
        end = await plane.cell.log.end()
        return set((await plane.cell.log.cursors()).values()) == {end}

    await eventually(is_read, within=PATIENCE)
    await plane.cell.log.trim(await plane.cell.log.end())


async def _is_told(plane: ScalePlane) -> bool:
    return (await plane.cell.log.cursors()).get(GRAPH_READER) == await plane.cell.log.end()


async def _used(plane: ScalePlane) -> int:
    return (await plane.cell.store.room())[0]


async def _parts(plane: ScalePlane, ids: list[str]) -> Mapping[str, float]:
    """Return what one task has in each kind of key, by `MEMORY USAGE`."""
    keys, step = plane.cell.keys, max(1, len(ids) // _SAMPLE)
    hashes = [await _size(plane, keys.task(task_id)) for task_id in ids[::step]]
    total = await plane.cell.store.count(keys.final)
    parts = {"hash": mean(hashes)}
    for key in await keys_of(plane.cell, "zset"):
        share = await _size(plane, key) / total
        if share >= 1:
            name = key.removeprefix(keys.prefix).replace(f":{PROJECT}", "")
            parts[name] = share
    return parts


async def _size(plane: ScalePlane, key: str) -> int:
    size = await plane.cell.connection.command("MEMORY", "USAGE", key, "SAMPLES", 0)
    return cast("int | None", size) or 0


async def _quiet(plane: ScalePlane) -> None:
    """Return when no process has anything to do: runners have loaded, say."""
    seen: dict[int, float] = {}

    async def is_quiet() -> bool:
        nonlocal seen
        before, seen = seen, {pid: process_cpu_seconds(pid) for pid in plane.pids().values()}
        busy = _IDLE_SHARE * _LOOK.total_seconds()
        return before.keys() == seen.keys() and all(
            seen[pid] - spent < busy for pid, spent in before.items()
        )

    await eventually(is_quiet, within=PATIENCE, pause=_LOOK)


def _resident(plane: ScalePlane) -> dict[str, int]:
    return {name: psutil.Process(pid).memory_info().rss for name, pid in plane.pids().items()}


def _request() -> SubmitTaskRequest:
    return ping(ECHO)
