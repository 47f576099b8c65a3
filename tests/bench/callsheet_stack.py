"""Callsheet as a contender: control, upkeep and workers on a fresh Valkey."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callsheet.embedded.valkey import AppendFsync
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.plane import Plane, measured_plane
from tests.bench.witnessed import REPOSITORY, Witnessed, witnessing

#: What a ping echoes when the moment of its start is asked for.
TIMED: Final = "timed"
#: Of each worker process: with 8 every claim and every commit is shared by fewer tasks.
SLOTS: Final = "32"
_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class GrpcCaller:
    """Submits pings over the plane's channel, which carries many calls at once."""

    plane: Plane

    async def __call__(self, *, timed: bool = False) -> None:
        """Submit one ping. Raises AioRpcError when it is refused."""
        await self.plane.stub.SubmitTask(
            _ping(timed=timed), metadata=self.plane.metadata, timeout=_TIMEOUT
        )


@dataclass(frozen=True)
class CallsheetStack:
    """A plane whose pings are witnessed."""

    plane: Plane
    witnessed: Witnessed

    async def callers(self, count: int) -> Sequence[GrpcCaller]:
        return [GrpcCaller(self.plane)] * count

    @contextmanager
    def worker(self) -> Generator[None]:
        command = [sys.executable, "-m", "tests.bench.witnessing_worker"]
        environment = {**self.witnessed.environment, "PYTHONPATH": str(REPOSITORY)}
        environment |= {"CALLSHEET_WORKER_QUEUES": "system", "CALLSHEET_WORKER_SLOTS": SLOTS}
        with self.plane.process(command, **environment):
            yield

    async def unfinished(self) -> int:
        keys, redis = self.plane.keys, self.plane.redis
        return await redis.zcard(keys.ready("system")) + await redis.zcard(keys.leases)

    async def submit_many(self, count: int) -> None:
        request = SubmitTasksRequest(requests=[_ping(timed=False)] * count)
        answer = await self.plane.stub.SubmitTasks(
            request, metadata=self.plane.metadata, timeout=_TIMEOUT
        )
        if any(not result.HasField("task") for result in answer.results):
            raise SystemExit("a task of a batch was refused")


@asynccontextmanager
async def open_callsheet(appendfsync: AppendFsync, folder: Path) -> AsyncGenerator[CallsheetStack]:
    """Bring up what a task needs to be accepted, run, and rescued from a lost worker."""
    with witnessing(folder / "witness") as witnessed:
        async with measured_plane(folder / "plane", appendfsync=appendfsync) as plane:
            with plane.process([sys.executable, "-m", "callsheet.upkeep"]):
                yield CallsheetStack(plane, witnessed)


def _ping(*, timed: bool) -> SubmitTaskRequest:
    return SubmitTaskRequest(spec=TaskSpec(ping=PingInput(echo=TIMED if timed else "")))
