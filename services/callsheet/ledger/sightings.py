"""What the log has told of tasks: whose they are, and how they changed, without reading each."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, cast

import structlog

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import decode_task, parse_event
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.instants import microseconds
from callsheet.ledger.log import LogEntry
from callsheet.ledger.messages import REASON_TO_PROTO
from callsheet.ledger.model import FailureReason, Task, TaskState
from callsheet.ledger.store import Store

#: Tasks remembered; the one that was not heard of for longest is forgotten first.
REMEMBERED: Final = 50_000

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())
_S = TaskState

#: The state that each fact leaves its task in, by the fact's name in the contract.
STATE_AFTER: Final[Mapping[str, TaskState]] = MappingProxyType(
    {
        "task_submitted": _S.PENDING,
        "attempt_started": _S.RUNNING,
        "attempt_failed": _S.PENDING,
        "attempt_returned": _S.PENDING,
        "cancel_requested": _S.RUNNING,
        "context_retrieved": _S.RUNNING,
        "checkpoint_saved": _S.RUNNING,
        "task_succeeded": _S.SUCCEEDED,
        "task_failed": _S.FAILED,
        "task_cancelled": _S.CANCELLED,
        "media_registered": _S.SUCCEEDED,
    }
)
#: The state that each fact finds its task in; those that depend on more are left out.
_STATE_BEFORE: Final[Mapping[str, TaskState | None]] = MappingProxyType(
    {
        "task_submitted": None,
        "attempt_started": _S.PENDING,
        "attempt_failed": _S.RUNNING,
        "attempt_returned": _S.RUNNING,
        "cancel_requested": _S.RUNNING,
        "context_retrieved": _S.RUNNING,
        "checkpoint_saved": _S.RUNNING,
        "media_registered": _S.SUCCEEDED,
    }
)
#: Why a task fails that never ran, or does not run just then.
_FAILED_WAITING: Final = frozenset(
    REASON_TO_PROTO[reason] for reason in (FailureReason.EXPIRED, FailureReason.DEPENDENCY_FAILED)
)


class Sighting(NamedTuple):
    """A task as it was when the log last told of it; times are microseconds since 1970."""

    project: str
    task_type: str
    queue: str
    state: TaskState
    sequence: int
    attempt: int
    #: When its first attempt might have started: as soon as it was accepted, and its delay over.
    ready_time: int
    #: When its latest attempt started. Zero: none has, or it was not seen.
    start_time: int


class Seen(NamedTuple):
    """A fact of the log, the task after it, and the state the task was in before it."""

    entry: LogEntry
    record: EventRecord
    task: Sighting
    before: TaskState | None


class Unreadable(NamedTuple):
    """An entry of the log that this version cannot read, and whose it is; '': nobody knows."""

    entry: LogEntry
    project: str
    error: UnknownVersion


class Sightings:
    """Remembers tasks that the log has told of lately; the others are read from the store."""

    def __init__(self, store: Store, *, limit: int = REMEMBERED) -> None:
        self._store = store
        self._limit = limit
        self._known: OrderedDict[str, Sighting] = OrderedDict()

    async def find(self, task_id: str) -> Sighting | None:
        """Return the task as last seen, or as it is; None: it is there no longer."""
        known = self._known.get(task_id)
        if known is None:
            await self._learn([task_id])
            known = self._known.get(task_id)
        return known

    async def look(self, entries: Sequence[LogEntry]) -> list[Seen | Unreadable]:
        """Return the facts that entries in the order of the log tell; gone tasks are left out.

        Older entries than were seen before are welcome: of a task, what is newest stays known.
        """
        records = [_parsed(entry.event) for entry in entries]
        new = {
            entry.task_id
            for entry, record in zip(entries, records, strict=True)
            if isinstance(record, EventRecord) and record.HasField("task_submitted")
        }
        named = {entry.task_id for entry in entries}
        for task_id in named & self._known.keys():
            self._known.move_to_end(task_id)  # what is learnt now must not push these out
        if strangers := named - new - self._known.keys():
            await self._learn(sorted(strangers))
        found: list[Seen | Unreadable] = []
        for entry, record in zip(entries, records, strict=True):
            if isinstance(record, UnknownVersion):
                known = self._known.get(entry.task_id)
                found.append(Unreadable(entry, known.project if known else "", record))
            elif (seen := await self._note(entry, record)) is not None:
                found.append(seen)
        return found

    async def _note(self, entry: LogEntry, record: EventRecord) -> Seen | None:
        task_id, known = entry.task_id, self._known.get(entry.task_id)
        if record.HasField("task_submitted"):
            after = _submitted(record)
        elif known is None:
            return None
        else:
            after = _evolved(known, record)
        before = await self._before(task_id, known, record)
        if known is None or known.sequence < after.sequence:
            self._keep(task_id, after)
        return Seen(entry, record, after, before)

    async def _before(
        self, task_id: str, known: Sighting | None, record: EventRecord
    ) -> TaskState | None:
        """Return the state the fact found its task in. None: there was no task."""
        name = record.WhichOneof("fact") or ""
        match name:
            case "task_succeeded":
                return _S.PENDING if record.task_succeeded.reused_from else _S.RUNNING
            case "task_failed":
                waited = record.task_failed.failure.reason in _FAILED_WAITING
                return _S.PENDING if waited else _S.RUNNING
            case "task_cancelled":
                if known is not None and known.sequence == record.sequence - 1:
                    return known.state
                return await self._state_at(task_id, record.sequence - 1)
            case _:
                return _STATE_BEFORE[name]

    async def _state_at(self, task_id: str, sequence: int) -> TaskState:
        for fact in await self._store.facts(task_id, after=sequence - 1, limit=1):
            record = _parsed(fact)
            if isinstance(record, EventRecord):
                return STATE_AFTER[record.WhichOneof("fact") or ""]
        # Of a task that is gone by now, or that newer code wrote: the commonest case.
        return _S.RUNNING

    async def _learn(self, task_ids: Sequence[str]) -> None:
        for stored in await self._store.read(task_ids):
            if stored is None:
                continue
            try:
                self._keep(stored.task_id, _sighting(decode_task(stored)))
            except UnknownVersion as error:
                # Nobody can say whose it is, and so whom to tell: it is as if it were gone.
                _log.error("task_unreadable", task_id=stored.task_id, reason=str(error))

    def _keep(self, task_id: str, sighting: Sighting) -> None:
        self._known[task_id] = sighting
        self._known.move_to_end(task_id)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _parsed(content: bytes) -> EventRecord | UnknownVersion:
    try:
        return parse_event(content)
    except UnknownVersion as error:
        return error


def _submitted(record: EventRecord) -> Sighting:
    told = record.task_submitted
    return Sighting(
        project=told.project,
        task_type=told.spec.WhichOneof("input") or "",
        queue=told.queue,
        state=TaskState.PENDING,
        sequence=record.sequence,
        attempt=0,
        ready_time=record.time + told.delay.ToMicroseconds(),
        start_time=0,
    )


def _evolved(known: Sighting, record: EventRecord) -> Sighting:
    """Return the task after the fact, whenever it was seen before."""
    name = record.WhichOneof("fact") or ""
    attempt, start_time = known.attempt, known.start_time
    if name == "attempt_started":
        attempt, start_time = record.attempt_started.attempt, record.time
    return known._replace(
        state=STATE_AFTER[name], sequence=record.sequence, attempt=attempt, start_time=start_time
    )


def _sighting(task: Task) -> Sighting:
    submission = task.submission
    return Sighting(
        project=submission.project,
        task_type=submission.task_type,
        queue=submission.queue,
        state=task.state,
        sequence=task.sequence,
        attempt=task.attempt,
        ready_time=microseconds(task.create_time + submission.delay),
        start_time=microseconds(task.start_time) if task.start_time is not None else 0,
    )
