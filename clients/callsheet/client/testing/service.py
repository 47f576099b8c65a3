"""The fake plane as a server."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from grpc import aio

from callsheet.client.loop_thread import LoopThread
from callsheet.client.task_types import task_types
from callsheet.client.testing.access_servicer import FakeAccessServicer
from callsheet.client.testing.operations_servicer import FakeOperationsServicer
from callsheet.client.testing.plane import FakePlane
from callsheet.client.testing.servicer import FakeTaskServicer
from callsheet.client.testing.wire import Call, Wire
from callsheet.v1 import (
    access_service_pb2_grpc,
    operations_service_pb2_grpc,
    task_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self

    from google.protobuf.message import Message

    from callsheet.client.errors import CallError
    from callsheet.client.testing.record import FakeTask
    from callsheet.client.testing.script import Step
    from callsheet.v1 import operations_service_pb2, task_pb2, task_service_pb2

_HOST: Final = "127.0.0.1"
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port is taken by one server only
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),  # as the client's keepalive
)

__all__ = ["Call", "FakeTaskService", "running_fake"]


class FakeTaskService:
    """A task plane for tests, on a loopback port; see the package for what it does."""

    def __init__(self, *, key: str = "test-key", project: str = "test_project") -> None:
        self.key = key
        self._wire = Wire(key)
        self._plane = FakePlane(project=project)
        self._server: aio.Server | None = None
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        await self._plane.stop()

    @property
    def address(self) -> str:
        """Where it listens, as host:port; the same after a restart."""
        if not self._port:
            raise RuntimeError("the fake task service was not started")
        return f"{_HOST}:{self._port}"

    @property
    def project(self) -> str:
        """The one project of its key."""
        return self._plane.project

    @property
    def calls(self) -> list[Call]:
        """All calls so far, oldest first."""
        return self._wire.calls

    @property
    def submissions(self) -> list[task_service_pb2.SubmitTaskRequest]:
        """All accepted submissions, oldest first; a repeated one is there once."""
        return self._plane.submissions

    @property
    def tasks(self) -> list[task_pb2.Task]:
        """All tasks as they are now, oldest first."""
        return [record.snapshot() for record in self._plane.tasks.values()]

    @property
    def queues(self) -> list[operations_service_pb2.Queue]:
        """What ListQueues answers; change it at will."""
        return self._plane.queues

    @property
    def workers(self) -> list[operations_service_pb2.Worker]:
        """What ListWorkers answers; change it at will."""
        return self._plane.workers

    @property
    def deliveries(self) -> list[operations_service_pb2.Delivery]:
        """What ListDeliveries answers, each for its task; change it at will."""
        return self._plane.deliveries

    @property
    def performance(self) -> operations_service_pb2.GetPerformanceResponse:
        """What GetPerformance answers; change it at will."""
        return self._plane.performance

    @property
    def log_readers(self) -> list[operations_service_pb2.LogReader]:
        """What ListLogReaders answers; change it at will."""
        return self._plane.log_readers

    def script(self, task_type: str | type[Message], *steps: Step) -> None:
        """Let every task of a type that is submitted from now on take these steps.

        The type is given by its name, or by its input message. Raises ValueError for an unknown
        one.
        """
        for each in task_types().values():
            if task_type in (each.name, each.input_class):
                self._plane.scripts[each.name] = steps
                return
        raise ValueError(f"there is no task type {task_type}")

    def refuse(self, method: str, error: CallError, *, times: int = 1) -> None:
        """Let the next calls of a method, such as SubmitTask, fail with the error.

        Refusals of SubmitTask count for the items of SubmitTasks too.
        """
        self._wire.refusals.setdefault(method, deque()).extend([error] * times)

    def lose_replies(self, method: str, *, times: int = 1) -> None:
        """Let the next calls of a method take effect, and then fail as if their answer was lost."""
        self._wire.lost_replies[method] = times

    def record(self, task_id: str) -> FakeTask:
        """Return a task's record, whose log a test may spoil."""
        return self._plane.find(task_id)

    def change_epoch(self, epoch: str) -> None:
        """Belong to another epoch from now on, as a restored ledger does."""
        self._plane.change_epoch(epoch)

    def cut_streams(self) -> None:
        """Break every stream that is open now; the server stays. May be called from any thread."""
        if self._loop is None:
            raise RuntimeError("the fake task service was not started")
        self._loop.call_soon_threadsafe(self._plane.cut_streams)

    async def start(self) -> None:
        """Listen; on the same port as before, when it was stopped."""
        self._loop = asyncio.get_running_loop()
        server = aio.server(options=_OPTIONS)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(
            FakeTaskServicer(self._plane, self._wire), server
        )
        operations_service_pb2_grpc.add_OperationsServiceServicer_to_server(
            FakeOperationsServicer(self._plane, self._wire), server
        )
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(
            FakeAccessServicer(self._plane, self._wire), server
        )
        self._port = server.add_insecure_port(f"{_HOST}:{self._port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Break all connections and stop listening; the tasks stay, and their scripts go on."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


@contextmanager
def running_fake(
    *, key: str = "test-key", project: str = "test_project"
) -> Generator[FakeTaskService, None, None]:
    """Run a FakeTaskService on a background thread, for tests without asyncio."""
    loop = LoopThread("fake-task-service")

    async def enter() -> FakeTaskService:
        return await FakeTaskService(key=key, project=project).__aenter__()

    try:
        fake = loop.run(enter())
        try:
            yield fake
        finally:
            loop.run(fake.__aexit__(None, None, None))
    finally:
        loop.stop()
