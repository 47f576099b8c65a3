"""What workers may ask of the ledger. Every write names its attempt."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from callsheet.ledger import machine
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.codec import decode_task, encode_progress, parse_event, start_template
from callsheet.ledger.errors import LeaseLost, UnknownVersion
from callsheet.ledger.instants import instant
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.log import Log
from callsheet.ledger.model import (
    Checkpoint,
    Failure,
    Progress,
    Quality,
    Task,
    TaskContext,
    TaskState,
    Usage,
)
from callsheet.ledger.store import Applied, Candidate, Claim, Commit, Offering, Stored
from callsheet.ledger.waiting import device_memory, serves
from callsheet.ledger.writer import Writer

#: How many tasks are looked at in one request, and how many bytes of them in all.
_READ_AT_ONCE: Final = 16
_LARGEST_LOOK: Final = 2**21
#: Candidates a claim asks for beyond its free slots, so that others' luck leaves some.
WINDOW: Final = 16

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claims:
    """Tasks whose attempts were started, what is ready next, and the ledger's time."""

    tasks: tuple[Task, ...]
    ready: tuple[Candidate, ...]
    time: datetime
    #: What a commit had started on the worker's offer, and the offer's operation.
    handed: tuple[int, Task] | None = None


class Attempts:
    """The ledger's side for one worker."""

    def __init__(
        self,
        writer: Writer,
        log: Log,
        catalog: Mapping[str, TaskType],
        *,
        worker: str,
        lease: timedelta,
        workers: KnownWorkers | None = None,
    ) -> None:
        """*workers* are those there are: they tell whether another one could do better."""
        self._writer = writer
        self._log = log
        self._catalog = catalog
        self._workers = workers
        self.worker = worker
        self.lease = lease

    async def claim(
        self,
        *,
        count: int,
        queues: tuple[str, ...],
        candidates: Sequence[Candidate],
        device: str,
        offering: Offering | None = None,
        window: int = WINDOW,
    ) -> Claims:
        """Start up to *count* attempts of the candidates; without candidates only look.

        At most *window* tasks of each queue are told as ready next, or *count* if that is more.
        """
        operation = self._writer.ids.operation()
        template = self._template(device, operation)
        claim = Claim(
            count=count,
            lease=self.lease,
            queues=queues,
            window=max(window, count),
            template=template,
            operation=operation,
            candidates=tuple(candidates),
            offering=offering,
        )
        claimed = await self._writer.store.claim(claim)
        handed = await self._handed(claimed.handed) if claimed.handed else None
        tasks = _readable(claimed.started)
        return Claims(tasks, claimed.ready, instant(claimed.time), handed)

    async def look(self, task_ids: Sequence[str]) -> dict[str, Task | None]:
        """Return tasks as they are, by id; None: there is no such task any more.

        Those that only newer workers can read are left out, and so are the last ones when the
        others are large: nobody is to wait for them all.
        """
        looked: dict[str, Task | None] = {}
        size = 0
        for start in range(0, len(task_ids), _READ_AT_ONCE):
            part = task_ids[start : start + _READ_AT_ONCE]
            for task_id, stored in zip(part, await self._writer.store.read(part), strict=True):
                if stored is None:
                    looked[task_id] = None
                    continue
                size += len(stored.record)
                with suppress(UnknownVersion):
                    looked[task_id] = decode_task(stored)
            if size > _LARGEST_LOOK:
                break
        return looked

    def offer(self, *, device: str, known: int, lasts: timedelta) -> Offering:
        """Return the offer to take the next task as soon as it is submitted, for a claim to make.

        *known* is the operation of the last offer of which it is known that it was taken, or 0.
        """
        operation = self._writer.ids.operation()
        template = self._template(device, operation)
        return Offering(self.worker, known, operation, template, lasts)

    async def handed(self) -> AsyncGenerator[tuple[int, Task], None]:
        """Yield (operation of the offer, task) of what was started on the worker's offers."""
        async with aclosing(self._writer.store.handed(self.worker)) as told:
            async for stored in told:
                for task in _readable((stored,)):
                    yield parse_event(stored.last).operation, task

    async def _handed(self, handed: tuple[int, str]) -> tuple[int, Task] | None:
        operation, task_id = handed
        for stored in await self._writer.store.read([task_id]):
            for task in _readable((stored,)) if stored is not None else ():
                # Its facts may go on meanwhile, such as by a request to stop.
                if task.state is TaskState.RUNNING and task.attempt == 1:
                    return operation, task
        return None

    def _template(self, device: str, operation: int) -> bytes:
        return start_template(
            worker=self.worker, device=device, lease=self.lease, operation=operation
        )

    async def renew(self, attempts: Sequence[tuple[str, int]]) -> list[int]:
        """Extend leases (task id, attempt); answer each task's sequence, or 0 for a lost lease."""
        return await self._writer.store.renew(attempts, lease=self.lease)

    async def read(self, task_id: str) -> Task:
        """Return the task as it is. Raises TaskNotFound."""
        return await self._writer.read(task_id)

    async def succeed(
        self,
        task: Task,
        *,
        attempt: int,
        output: bytes,
        usage: Usage,
        quality: Quality | None = None,
        progress: Progress | None = None,
    ) -> Task:
        """Record the attempt's output, and its last progress. Raises LeaseLost."""
        return await self._writer.change(
            task,
            lambda task: machine.succeed(
                task, attempt=attempt, output=output, usage=usage, quality=quality
            ),
            progress=b"" if progress is None else _signal(task, attempt, progress),
        )

    async def note_context(self, task: Task, *, attempt: int, context: TaskContext) -> Task:
        """Record what was retrieved for the running attempt. Raises LeaseLost."""
        return await self._writer.change(
            task, lambda task: machine.note_context(task, attempt=attempt, context=context)
        )

    async def save_checkpoint(self, task: Task, *, attempt: int, checkpoint: Checkpoint) -> Task:
        """Record where the running attempt's work can be gone on from. Raises LeaseLost."""
        return await self._writer.change(
            task, lambda task: machine.save_checkpoint(task, attempt=attempt, checkpoint=checkpoint)
        )

    async def fail(self, task: Task, *, attempt: int, failure: Failure) -> Task:
        """Record the attempt's failure; the task is then PENDING again, FAILED or CANCELLED.

        It is FAILED at once when no other worker has the memory that this one lacks.
        """
        backoff = self._catalog[task.submission.task_type].backoff
        jitter = self._writer.ids.jitter()
        is_hopeless = await self._is_hopeless(task, needed=failure.memory_needed_bytes)
        return await self._writer.change(
            task,
            lambda task: machine.fail(
                task,
                attempt=attempt,
                failure=failure,
                backoff=backoff,
                jitter=jitter,
                is_hopeless=is_hopeless,
            ),
        )

    async def hand_back(self, task: Task, *, attempt: int, reason: str) -> Task:
        """Give the attempt back unfinished. Raises LeaseLost."""
        return await self._writer.change(
            task, lambda task: machine.hand_back(task, attempt=attempt, reason=reason)
        )

    async def confirm_cancel(self, task: Task, *, attempt: int) -> Task:
        """Record that the attempt has stopped as asked. Raises LeaseLost."""
        return await self._writer.change(
            task, lambda task: machine.confirm_cancel(task, attempt=attempt)
        )

    async def _is_hopeless(self, task: Task, *, needed: int) -> bool:
        """Whether it is known of every other worker that it has less memory than is needed."""
        if not needed or self._workers is None:
            return False
        known = await self._workers.look()
        return known is not None and all(
            (memory := device_memory(worker)) is not None and memory < needed
            for worker in known
            if worker.id != self.worker and serves(worker, task.submission.queue)
        )

    async def announce(self, task: Task, *, attempt: int, progress: Progress) -> None:
        """Tell whoever watches now how far the attempt is; nothing is kept."""
        await self._log.publish(_signal(task, attempt, progress))

    async def keep_progress(self, task: Task, *, attempt: int, progress: Progress) -> None:
        """Keep the attempt's newest progress with its task.

        Raises:
            LeaseLost: the task has moved on, or was asked to stop: look at it again.
        """
        kept = _signal(task, attempt, progress)
        commit = Commit(task.id, expected=task.sequence, progress=kept)
        answer = (await self._writer.store.commit([commit]))[0]
        if not isinstance(answer, Applied):
            raise LeaseLost(task.id, attempt)


def _readable(started: Sequence[Stored]) -> tuple[Task, ...]:
    """Leave out what only newer workers can read: its lease will end, and one of them take it."""
    tasks: list[Task] = []
    for stored in started:
        try:
            tasks.append(decode_task(stored))
        except UnknownVersion as error:
            _log.error("task_unreadable", task_id=stored.task_id, reason=str(error))
    return tuple(tasks)


def _signal(task: Task, attempt: int, progress: Progress) -> bytes:
    return encode_progress(task.id, attempt=attempt, sequence=task.sequence, progress=progress)
