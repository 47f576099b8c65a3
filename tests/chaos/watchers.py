"""Watchers of tasks: through the client, and over the bare stream with breaks of their own."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Literal

import grpc

from callsheet.client import AsyncTaskClient
from callsheet.client.errors import CallError, CallsheetError, Unavailable, WaitTimeout
from callsheet.client.states import is_final_event, is_signal
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_service_pb2 import WatchTaskRequest
from tests.chaos.calls import Caller
from tests.chaos.digests import digest_of
from tests.chaos.history import HistoryWriter, WatchEnded, WatchFact, WatchOpened, WatchTold

#: A watch that lasts longer is left: its task waits behind more urgent ones, or never ends, which
#: others find out.
PATIENCE: Final = timedelta(minutes=5)
_PAUSE: Final = timedelta(milliseconds=200)
#: What says that facts cannot be had; all else passes.
_LOUD: Final = frozenset({grpc.StatusCode.DATA_LOSS, grpc.StatusCode.OUT_OF_RANGE})


WatchOutcome = Literal["final", "left"]


class Watchers:
    """Watch tasks of one project and write down what they are told."""

    def __init__(self, caller: Caller, client: AsyncTaskClient, history: HistoryWriter) -> None:
        self._caller = caller
        self._client = client
        self._history = history
        self._numbers = itertools.count(1)

    async def watch(self, task_id: str) -> None:
        """Watch as a user of the client would, to the end."""
        watch = self._opened(task_id)
        outcome: WatchOutcome = "left"
        events = self._client.watch(task_id, timeout=PATIENCE)
        try:
            async with aclosing(events):
                async for event in events:
                    self._told(watch, event)
            outcome = "final"
        except (WaitTimeout, Unavailable):
            pass
        except CallError as error:
            self._told_loudly(watch, error.code.name, error.reason)
        except CallsheetError as error:
            self._told_loudly(watch, type(error).__name__, str(error))
        self._history.write(WatchEnded(at=time.monotonic(), watch=watch, outcome=outcome))

    async def watch_in_pieces(self, task_id: str, *, piece: int) -> None:
        """Watch over the bare stream, which is broken and opened again after so many facts."""
        watch = self._opened(task_id)
        outcome: WatchOutcome = "left"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE.total_seconds()):
                outcome = await self._in_pieces(watch, task_id, piece=piece)
        self._history.write(WatchEnded(at=time.monotonic(), watch=watch, outcome=outcome))

    async def _in_pieces(self, watch: str, task_id: str, *, piece: int) -> WatchOutcome:
        after = 0
        while True:
            async with aclosing(self._piece(task_id, after=after)) as events:
                try:
                    seen = 0
                    async for event in events:
                        self._told(watch, event)
                        after, seen = event.sequence, seen + 1
                        if is_final_event(event):
                            return "final"
                        if seen == piece:
                            break
                except grpc.aio.AioRpcError as error:
                    if error.code() in _LOUD:
                        self._told_loudly(watch, error.code().name, error.details() or "")
                        return "left"
                    await asyncio.sleep(_PAUSE.total_seconds())
            self._opened(task_id, watch=watch, after=after)

    async def _piece(self, task_id: str, *, after: int) -> AsyncGenerator[TaskEvent]:
        call = self._caller.stub().WatchTask(
            WatchTaskRequest(task_id=task_id, after_sequence=after),
            metadata=self._caller.metadata,
            timeout=60,
        )
        try:
            async for response in call:
                if not is_signal(response.event):
                    yield response.event
        finally:
            call.cancel()

    def _opened(self, task_id: str, *, watch: str = "", after: int = 0) -> str:
        watch = watch or f"{self._caller.project}-{next(self._numbers)}"
        self._history.write(
            WatchOpened(
                at=time.monotonic(),
                watch=watch,
                project=self._caller.project,
                task_id=task_id,
                after=after,
            )
        )
        return watch

    def _told(self, watch: str, event: TaskEvent) -> None:
        if is_signal(event):
            return
        self._history.write(
            WatchFact(
                at=time.monotonic(),
                watch=watch,
                task_id=event.task_id,
                sequence=event.sequence,
                fact=event.WhichOneof("event") or "",
                digest=digest_of(event),
                epoch=event.epoch,
            )
        )

    def _told_loudly(self, watch: str, code: str, reason: str) -> None:
        told = WatchTold(at=time.monotonic(), watch=watch, code=code, reason=reason)
        self._history.write(told)
