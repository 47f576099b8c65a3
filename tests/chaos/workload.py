"""Two projects that submit, watch, cancel, retry, and ask what is none of their business."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from redis.exceptions import RedisError

from callsheet.client import AsyncTaskClient
from callsheet.client.errors import CallError
from callsheet.client.states import is_final
from callsheet.client.submission import new_request_id
from callsheet.ledger.index import Keys
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from tests.chaos import probes
from tests.chaos.calls import REFUSALS, Caller, signed
from tests.chaos.history import Flow, HistoryWriter
from tests.chaos.plane import CELL, PROJECTS, Plane
from tests.chaos.shapes import Shape, Shapes
from tests.chaos.topology import CLIENT, CONTROLS
from tests.chaos.watchers import Watchers

#: Tasks that are not final, and lives that go on here, before no more are begun.
MOST_OPEN: Final = 250
MOST_LIVES: Final = 300
#: How long an outcome is asked for again and again.
_PATIENCE: Final = timedelta(seconds=60)
_PAUSE: Final = timedelta(milliseconds=150)
_BATCH_SHARE: Final = 0.04
_BATCH: Final = 8
_LIST_EVERY: Final = timedelta(seconds=4)
_LOOK_EVERY: Final = timedelta(milliseconds=250)
_FLOW: Final = timedelta(seconds=60)


class Workload:
    """Begins lives of tasks at a rate, and sees each to its end."""

    def __init__(self, plane: Plane, seed: int) -> None:
        self._plane = plane
        self._shapes = Shapes(seed, plane.hook)
        self._history = HistoryWriter(plane.folder, "workload")
        addresses = [f"127.0.0.1:{plane.links[f'{CLIENT}>{c}'].port}" for c in CONTROLS]
        self._callers = {
            project: Caller(
                project, key=plane.keys[project], addresses=addresses, history=self._history
            )
            for project in PROJECTS
        }
        self._clients = {
            project: AsyncTaskClient(
                addresses[number % len(addresses)], key=plane.keys[project], project=project
            )
            for number, project in enumerate(PROJECTS)
        }
        self._watchers = {
            project: Watchers(self._callers[project], self._clients[project], self._history)
            for project in PROJECTS
        }
        self._lives: set[asyncio.Task[None]] = set()
        self._open = 0
        self._defects: list[BaseException] = []
        #: How many tasks were accepted.
        self.accepted = 0

    async def close(self) -> None:
        """End what still goes on, and hang up."""
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        for caller in self._callers.values():
            await caller.close()
        for client in self._clients.values():
            await client.close()
        self._history.close()

    async def run(self, *, until: float, rate: float) -> None:
        """Begin so many lives a second until that moment of the loop's clock."""
        clock = asyncio.get_running_loop().time
        looking = [
            asyncio.create_task(self._look_at_open()),
            asyncio.create_task(self._list_for_ever()),
        ]
        try:
            while clock() < until:
                if self._open < MOST_OPEN and len(self._lives) < MOST_LIVES:
                    self._begin(self._batch() if self._shapes.chance(_BATCH_SHARE) else self._one())
                await asyncio.sleep(1 / rate)
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)

    async def ended(self, *, within: timedelta) -> bool:
        """Wait for all lives to end; return whether they did. Raises what went wrong in one."""
        going_on: set[asyncio.Task[None]] = set()
        if self._lives:
            _, going_on = await asyncio.wait(self._lives, timeout=within.total_seconds())
        if self._defects:
            raise ExceptionGroup("the workload is defect", [_plain(e) for e in self._defects])
        return not going_on

    async def flow(self) -> bool:
        """Submit a task and see it succeed, again and again until one does; write that down."""
        caller = self._callers[PROJECTS[0]]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLOW.total_seconds()):
                while True:
                    task = await self._accepted(caller, Shape(self._shapes.plain(), "succeed"))
                    if task is None:
                        continue
                    task = await self._until_final(caller, task.id)
                    if task.state == task_pb2.TASK_STATE_SUCCEEDED:
                        self._history.write(Flow(at=time.monotonic(), task_id=task.id))
                        return True
        return False

    async def shown(self) -> list[task_pb2.Task]:
        """Return every task as its project is shown it, page by page. Raises CallError."""
        return [task for client in self._clients.values() async for task in client.list()]

    def _begin(self, life: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(life)
        self._lives.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._lives.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._defects.append(error)

    async def _one(self) -> None:
        project = self._shapes.choice(PROJECTS)
        caller, shape = self._callers[project], self._shapes.draw()
        task = await self._accepted(caller, shape)
        if task is None:
            return
        async with asyncio.TaskGroup() as doing:
            if shape.watch:
                doing.create_task(self._watch(project, task.id))
            if shape.cancel_after is not None:
                doing.create_task(self._cancel(caller, task.id, shape.cancel_after))
            if shape.probe:
                stranger = next(c for p, c in self._callers.items() if p != project)
                rpc = self._shapes.choice(tuple(probes.QUESTIONS))
                probing = probes.probe_foreign(stranger, task.id, rpc=rpc, history=self._history)
                doing.create_task(probing)
        if shape.retry and (shape.intent == "fail" or shape.cancel_after is not None):
            await self._retry(caller, task.id)
        elif shape.probe:
            await self._until_final(caller, task.id)
            await probes.probe_refused(caller, task.id, history=self._history)

    async def _batch(self) -> None:
        caller = self._callers[self._shapes.choice(PROJECTS)]
        requests: list[SubmitTaskRequest] = [
            signed(self._shapes.plain(), request_id=new_request_id()) for _ in range(_BATCH)
        ]
        async with self._patience():
            while requests:
                answers = await caller.submit_many(requests, intent="succeed")
                self.accepted += sum(1 for each in answers if isinstance(each, task_pb2.Task))
                requests = [
                    request
                    for request, answer in zip(requests, answers, strict=True)
                    if isinstance(answer, CallError)
                ]
                await asyncio.sleep(_PAUSE.total_seconds())

    async def _accepted(self, caller: Caller, shape: Shape) -> task_pb2.Task | None:
        """Submit until it is known what became of it. None: refused, or patience ran out."""
        request = signed(shape.request, request_id=new_request_id())
        async with self._patience():
            while True:
                try:
                    task = await caller.submit(
                        request, receiver=shape.receiver, intent=shape.intent
                    )
                except CallError as error:
                    if _is_final_refusal(error):
                        return None
                    await asyncio.sleep(_PAUSE.total_seconds())
                else:
                    self.accepted += 1
                    await self._ask_again(caller, request, shape)
                    return task
        return None

    async def _ask_again(self, caller: Caller, request: SubmitTaskRequest, shape: Shape) -> None:
        """Now and then repeat a request, and now and then ask for something else by its id."""
        with contextlib.suppress(CallError):
            if self._shapes.chance(0.04):
                await caller.submit(request, receiver=shape.receiver, intent=shape.intent)
            if self._shapes.chance(0.02):
                other = signed(self._shapes.plain(), request_id=request.request_id)
                await caller.submit(other, intent="refuse")

    async def _watch(self, project: str, task_id: str) -> None:
        watchers = self._watchers[project]
        if self._shapes.chance(0.5):
            await watchers.watch(task_id)
        else:
            await watchers.watch_in_pieces(task_id, piece=1 if self._shapes.chance(0.4) else 3)

    async def _cancel(self, caller: Caller, task_id: str, after: timedelta) -> None:
        await asyncio.sleep(after.total_seconds())
        async with self._patience():
            while True:
                try:
                    await caller.cancel(task_id, reason="changed our mind")
                    return
                except CallError as error:
                    if _is_final_refusal(error):
                        return
                await asyncio.sleep(_PAUSE.total_seconds())

    async def _retry(self, caller: Caller, task_id: str) -> None:
        await self._until_final(caller, task_id)
        request_id = new_request_id()
        async with self._patience():
            while True:
                try:
                    await caller.retry(task_id, request_id=request_id)
                    self.accepted += 1
                    return
                except CallError as error:
                    if _is_final_refusal(error):
                        return
                await asyncio.sleep(_PAUSE.total_seconds())

    async def _until_final(self, caller: Caller, task_id: str) -> task_pb2.Task:
        """Return the task once it is final."""
        while True:
            with contextlib.suppress(CallError):
                task = await caller.get(task_id)
                if is_final(task):
                    return task
            await asyncio.sleep(2 * _PAUSE.total_seconds())

    @asynccontextmanager
    async def _patience(self) -> AsyncGenerator[None]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                yield

    async def _look_at_open(self) -> None:
        keys = Keys(CELL)
        while True:
            with contextlib.suppress(RedisError, OSError):
                counts = [
                    await self._plane.redis.zcard(keys.project_live(project))
                    for project in PROJECTS
                ]
                self._open = sum(counts)
            await asyncio.sleep(_LOOK_EVERY.total_seconds())

    async def _list_for_ever(self) -> None:
        while True:
            for caller in self._callers.values():
                await probes.list_newest(caller, history=self._history)
            await asyncio.sleep(_LIST_EVERY.total_seconds())


def _is_final_refusal(error: CallError) -> bool:
    """Whether asking again is of no use: what has no room now may have it later."""
    return (
        error.code.name in REFUSALS
        and bool(error.reason)
        and error.code.name != "RESOURCE_EXHAUSTED"
    )


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
