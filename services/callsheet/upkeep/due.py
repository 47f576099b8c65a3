"""Tasks whose time in a sorted set has come, and what is done about them, in bounded rounds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import structlog
from google.protobuf.message import DecodeError

from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.index import Move, Op
from callsheet.ledger.instants import span
from callsheet.ledger.model import Task
from callsheet.ledger.store import Applied, Commit, Guard, Stored
from callsheet.ledger.writer import Writer

#: Members of one round: as many as go to the store in one script.
ROUND: Final = 128
#: When a task is looked at again whose record this version cannot read.
UNREADABLE_REST: Final = timedelta(minutes=1)

#: What a record of another version, or a damaged one, makes of decoding it.
_UNREADABLE: Final = (UnknownVersion, DecodeError, KeyError, ValueError)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class DueTask:
    """A member whose time has come; *task* is None when there is no such task."""

    key: str
    member: str
    task_id: str
    task: Task | None
    #: The ledger's time when it was due.
    time: int

    @property
    def guard(self) -> Guard:
        """What holds while the member is still due."""
        return Guard(self.key, self.member, self.time)

    def dropped(self) -> Commit:
        """Return the commit that removes the member, which stands for nothing any more."""
        return self._moved(Move(Op.REMOVE, self.key, self.member))

    def postponed(self, rest: timedelta) -> Commit:
        """Return the commit that makes the member due again after *rest*."""
        return self._moved(Move(Op.ADD_AFTER, self.key, self.member, span(rest)))

    def _moved(self, move: Move) -> Commit:
        sequence = 0 if self.task is None else self.task.sequence
        return Commit(self.task_id, expected=sequence, moves=(move,), guard=self.guard)


@dataclass(frozen=True, slots=True)
class Due:
    """What was due at one look; *is_all* tells whether nothing else was."""

    time: int
    tasks: tuple[DueTask, ...]
    is_all: bool


class DueTasks:
    """Looks at one sorted set of the ledger."""

    def __init__(self, writer: Writer, key: str, *, task_id_of: Callable[[str], str] = str) -> None:
        self._writer = writer
        self._key = key
        self._task_id_of = task_id_of

    async def look(self) -> Due:
        """Return what is due now, at most a round of it."""
        time, members = await self._writer.store.due(self._key, limit=ROUND)
        ids = [self._task_id_of(member) for member in members]
        found = await self._writer.store.read(ids) if ids else []
        tasks: list[DueTask] = []
        for member, task_id, stored in zip(members, ids, found, strict=True):
            try:
                task = None if stored is None else decode_task(stored)
            except _UNREADABLE as refusal:
                await self._postpone(member, task_id, stored, time=time, refusal=refusal)
            else:
                tasks.append(DueTask(self._key, member, task_id, task, time))
        return Due(time, tuple(tasks), is_all=len(members) < ROUND)

    async def next_time(self) -> int | None:
        """Return when the first member is due, in microseconds; None: there is none."""
        first = await self._writer.store.members(self._key, limit=1)
        return first[0][1] if first else None

    async def apply(self, commits: list[Commit]) -> list[bool]:
        """Commit what was decided; answer which of it stands.

        What is refused has changed since the look: the next look sees it as it is then.
        """
        answers = await self._writer.store.commit(commits) if commits else []
        return [isinstance(answer, Applied) for answer in answers]

    async def _postpone(
        self,
        member: str,
        task_id: str,
        stored: Stored | None,
        *,
        time: int,
        refusal: Exception,
    ) -> None:
        """Put off a task that cannot be read, so that it holds up nobody behind it."""
        _log.error("task_unreadable", task_id=task_id, index=self._key, reason=repr(refusal))
        again = Move(Op.ADD_AFTER, self._key, member, span(UNREADABLE_REST))
        sequence = 0 if stored is None else stored.sequence
        guard = Guard(self._key, member, time)
        await self.apply([Commit(task_id, expected=sequence, moves=(again,), guard=guard)])
