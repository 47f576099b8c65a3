"""What is measured of the sidecar: webhooks, and what the brain is told."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from statistics import median
from typing import Final, NamedTuple

import httpx
from google.protobuf.duration_pb2 import Duration

from callsheet.brain.brain import Brain
from callsheet.brain.transport import Dialling
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_pb2 import Callback
from callsheet.v1.task_service_pb2 import CancelTaskRequest, SubmitTaskRequest, SubmitTasksRequest
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.measure import BATCH, TIMEOUT, Figure, Note
from tests.bench.plane import Plane, free_address, speaking

WEBHOOKS: Final = 5_000
LATENESS_SAMPLES: Final = 200
#: What a busy hour leaves behind while the brain is away.
BACKLOG: Final = 50_000
#: Whatever takes longer than this has failed.
PATIENCE: Final = timedelta(minutes=5)
#: Between two looks at how far something is.
_LOOK: Final = timedelta(milliseconds=50)
_LAST_LOOK: Final = timedelta(milliseconds=2)
#: No worker takes a task before the bench is over.
_LATER: Final = Duration(seconds=86_400)
_PLACES: Final = ("a harbour", "a kitchen", "a station hall", "a forest road", "a rooftop")
_LIGHTS: Final = ("at dawn", "in the rain", "by candlelight", "under neon", "at noon", "in fog")


class Mark(NamedTuple):
    """How much was done when."""

    time: float
    done: int


class Receiver:
    """The receiver's process, seen through its own report."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.url = f"{client.base_url}/hook"

    async def count(self) -> int:
        """How many different webhooks came."""
        return int((await self._client.get("/count")).json())

    async def lateness(self) -> list[float]:
        """How many milliseconds after its fact each came that came since the last look."""
        return list((await self._client.get("/lateness")).json())


async def sidecar_figures(plane: Plane, note: Note) -> None:
    """Measure webhooks alone, then beside a brain that has an hour to catch up on."""
    port = free_address().rpartition(":")[2]
    with speaking("receiver.py", port):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as http:
            receiver = Receiver(http)
            note("webhooks_per_s", await _webhook_rate(plane, receiver))
            with _sidecar(plane):
                alone = median(await _lateness(plane, receiver, samples=LATENESS_SAMPLES))
            note("webhook_p50_ms", Figure(alone, "ms", "final fact to receipt, bar 10 ms"))
            await _drain(plane, receiver, note, alone=alone)


async def _webhook_rate(plane: Plane, receiver: Receiver) -> Figure:
    """Webhooks a second that one sidecar brings to one receiver."""
    request = SubmitTaskRequest(
        spec=TaskSpec(ping=PingInput()), callback=Callback(url=receiver.url)
    )
    await _submit(plane, [request] * WEBHOOKS)
    with plane.worker([sys.executable, "-m", "callsheet.worker"]):
        await _until(lambda: _finals(plane), WEBHOOKS)
    with _sidecar(plane):
        marks = await _until(receiver.count, WEBHOOKS)
    return Figure(_rate(marks), "webhooks/s", "one sidecar, one receiver, bar 800")


async def _lateness(plane: Plane, receiver: Receiver, *, samples: int) -> list[float]:
    """Milliseconds from a final fact to its receipt, one after the other."""
    # The first one comes when the sidecar has caught up; it does not count.
    await _cancelled_and_received(plane, receiver)
    await receiver.lateness()
    for _ in range(samples):
        await _cancelled_and_received(plane, receiver)
    return await receiver.lateness()


async def _cancelled_and_received(plane: Plane, receiver: Receiver) -> None:
    request = SubmitTaskRequest(
        spec=TaskSpec(ping=PingInput()), delay=_LATER, callback=Callback(url=receiver.url)
    )
    answer = await plane.stub.SubmitTask(request, metadata=plane.metadata, timeout=TIMEOUT)
    before = await receiver.count()
    cancel = CancelTaskRequest(task_id=answer.task.id)
    await plane.stub.CancelTask(cancel, metadata=plane.metadata, timeout=TIMEOUT)
    await _until(receiver.count, before + 1)


async def _drain(plane: Plane, receiver: Receiver, note: Note, *, alone: float) -> None:
    """What the brain takes a second while it catches up, and what webhooks notice of it."""
    await _submit(plane, [_image(number) for number in range(BACKLOG)])
    address, token = free_address(), secrets.token_urlsafe(32)
    url = f"ws://{address}/mcp"
    brain = [sys.executable, "-m", "callsheet.embedded.brain"]
    late: list[float] = []
    with (
        plane.process(brain, CALLSHEET_BRAIN_ADDRESS=address, CALLSHEET_BRAIN_TOKEN=token),
        _sidecar(plane, BRAIN_WS_URL=url, CALLSHEET_BRAIN_TOKEN=token),
    ):
        async with Brain(Dialling(url=url, token=token), jitter=lambda: 0.5) as known:
            await known.connection.until_connected(timeout=PATIENCE)

            async def told() -> int:
                return (await known.health_check()).events

            draining = asyncio.create_task(_until(told, BACKLOG))
            while not draining.done():
                late += await _lateness(plane, receiver, samples=20)
            rate = _rate(await draining)
    note("graph_writes_per_s", Figure(rate, "writes/s", f"{BACKLOG:,} facts behind, bar 300"))
    during = median(late)
    beside = f"{BACKLOG:,} facts behind; ratio to alone"
    note("webhook_p50_ms_in_backlog", Figure(during, "ms", beside, during / alone))


def _sidecar(plane: Plane, **environment: str) -> AbstractContextManager[None]:
    return plane.process([sys.executable, "-m", "callsheet.sidecar"], **environment)


def _image(number: int) -> SubmitTaskRequest:
    """A task with words of its own, for which the brain makes a vector."""
    place, light = _PLACES[number % len(_PLACES)], _LIGHTS[number // len(_PLACES) % len(_LIGHTS)]
    prompt = f"shot {number}: {place} {light}, wide angle, film still"
    return SubmitTaskRequest(
        spec=TaskSpec(generate_image=GenerateImageInput(prompt=prompt)), delay=_LATER
    )


async def _submit(plane: Plane, requests: Sequence[SubmitTaskRequest]) -> None:
    for start in range(0, len(requests), BATCH):
        batch = SubmitTasksRequest(requests=requests[start : start + BATCH])
        answer = await plane.stub.SubmitTasks(batch, metadata=plane.metadata, timeout=TIMEOUT)
        for result in answer.results:
            if not result.HasField("task"):
                raise SystemExit(f"a task of a batch was refused: {result.refusal.message}")


async def _until(count: Callable[[], Awaitable[int]], total: int) -> list[Mark]:
    """Return the marks on the way to that many. Raises TimeoutError."""
    marks: list[Mark] = []
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not marks or marks[-1].done < total:
            done = await count()
            marks.append(Mark(time.perf_counter(), done))
            if done < total:
                await asyncio.sleep((_LOOK if total - done > 1 else _LAST_LOOK).total_seconds())
    return marks


def _rate(marks: Sequence[Mark]) -> float:
    """Return what was done a second, without the start and the end."""
    total = marks[-1].done
    inner = [mark for mark in marks if 0.1 * total <= mark.done <= 0.9 * total]
    return (inner[-1].done - inner[0].done) / (inner[-1].time - inner[0].time)


async def _finals(plane: Plane) -> int:
    return await plane.redis.zcard(plane.keys.final)
