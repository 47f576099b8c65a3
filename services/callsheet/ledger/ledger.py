"""What clients may ask of the ledger. Every question names its principal."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from callsheet.ledger import machine
from callsheet.ledger.acceptance import (
    Accepted,
    Prepared,
    ReuseWish,
    SubmitCommand,
    accepted,
    repeated,
)
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.codec import decode_task, project_of
from callsheet.ledger.errors import (
    LedgerError,
    LedgerFull,
    SequenceAhead,
    TaskNotFound,
)
from callsheet.ledger.ids import requested_task_id
from callsheet.ledger.listing import Listing, Page, TaskFilter
from callsheet.ledger.model import ReuseTerms, Submission, Task
from callsheet.ledger.reading import Reading, reading_of
from callsheet.ledger.reuse import Reuse
from callsheet.ledger.snapshots import Snapshot, Snapshots, WatchFilter
from callsheet.ledger.store import Stored
from callsheet.ledger.writer import Writer

#: Facts read in one go.
FACTS: Final = 256
#: The share of the store's memory at which nothing new is accepted.
ADMISSION_SHARE: Final = 0.8
#: Submissions between two looks at the store's memory: at 64 KiB each, 16 MiB.
SUBMISSIONS_A_LOOK: Final = 256


@dataclass(frozen=True, slots=True)
class Watchable:
    """A task that may be watched, and its facts after a sequence, as stored.

    *facts* is None when they are more than came with the task: they have to be read.
    """

    reading: Reading
    facts: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class History:
    """Facts of a task, as stored, oldest first, and whether there are more after them."""

    facts: tuple[bytes, ...]
    has_more: bool


class Ledger:
    """Owns every task's truth; this is its clients' side."""

    def __init__(self, writer: Writer, catalog: Mapping[str, TaskType]) -> None:
        self._writer = writer
        self._catalog = catalog
        self._listing = Listing(writer.store, writer.keys)
        self._snapshots = Snapshots(writer.store, writer.keys)
        self._reuse = Reuse(writer)
        self._unlooked = SUBMISSIONS_A_LOOK
        self._looking = asyncio.Lock()

    async def submit(self, principal: Principal, command: SubmitCommand) -> Task:
        """Accept a task, or return the one that the same request made before.

        Raises:
            RequestIdReused: the request_id made another task.
            LedgerFull: nothing new is accepted now.
        """
        return (await self.accept(principal, command)).task

    async def submit_many(
        self, principal: Principal, commands: Sequence[SubmitCommand]
    ) -> list[Task | LedgerError]:
        """Accept or refuse each command on its own, as accept_many does; answers in order."""
        answers = await self.accept_many(principal, commands)
        return [answer.task if isinstance(answer, Accepted) else answer for answer in answers]

    async def accept(self, principal: Principal, command: SubmitCommand) -> Accepted:
        """Accept a task, or return the one that answers the submission; and tell which it was.

        Raises:
            RequestIdReused: the request_id made another task.
            LedgerFull: nothing new is accepted now.
        """
        answer = (await self.accept_many(principal, [command]))[0]
        if isinstance(answer, LedgerError):
            raise answer
        return answer

    async def accept_many(
        self, principal: Principal, commands: Sequence[SubmitCommand]
    ) -> list[Accepted | LedgerError]:
        """Accept or refuse each command on its own; answers in order.

        Raises what concerns them all: RoleMissing, LedgerFull, LedgerBusy, LedgerUnavailable.
        """
        principal.require(Role.SUBMIT)
        await self._admit(len(commands))
        prepared = [self._prepare(principal, command) for command in commands]
        return await self._accept(prepared)

    async def get(self, principal: Principal, task_id: str) -> Reading:
        """Return the task as it is. Raises TaskNotFound."""
        principal.require(Role.READ)
        return reading_of(await self._stored(principal, task_id))

    async def page(
        self, principal: Principal, wanted: TaskFilter, *, page_size: int, page_token: str
    ) -> Page:
        """Return a page of the project's tasks, newest first. Raises PageTokenInvalid."""
        principal.require(Role.READ)
        wanted = replace(wanted, project=principal.project(wanted.project))
        return await self._listing.page(wanted, size=page_size, token=page_token)

    async def facts(self, task_id: str, *, after: int) -> list[bytes]:
        """Return stored facts of a task the principal was shown before, oldest first.

        At most 256; ask again after the last one.
        """
        return await self._writer.store.facts(task_id, after=after, limit=FACTS)

    async def watchable(self, principal: Principal, task_id: str, *, after: int) -> Watchable:
        """Return the task as it is, and its facts, if it can be watched from after that sequence.

        Raises:
            SequenceAhead: the task has no such sequence yet.
        """
        principal.require(Role.READ)
        stored = await self._stored(principal, task_id)
        if after > stored.sequence:
            raise SequenceAhead(task_id, after, stored.sequence)
        return Watchable(reading_of(stored), _facts_at_hand(stored, after))

    async def history(self, principal: Principal, task_id: str, *, after: int) -> History:
        """Return the task's facts after a sequence, oldest first; at most 256.

        Raises:
            SequenceAhead: the task has no such sequence yet.
        """
        found = await self.watchable(principal, task_id, after=after)
        facts = found.facts
        if facts is None:
            facts = tuple(await self.facts(task_id, after=after))
        return History(facts, has_more=after + len(facts) < found.reading.task.sequence)

    def watched(self, principal: Principal, wanted: WatchFilter) -> WatchFilter:
        """Return what a principal who wants to watch tasks may watch: those of a project.

        Raises:
            ProjectNotFound: the principal has no such project, or several and none is named.
        """
        principal.require(Role.READ)
        return replace(wanted, project=principal.project(wanted.project))

    def snapshot(self, watched: WatchFilter, *, size: int) -> Snapshot:
        """Return what reads the tasks there are of what the principal may watch."""
        return self._snapshots.take(watched, size=size)

    async def cancel(self, principal: Principal, task_id: str, *, reason: str) -> Task:
        """Ask the task to stop. Raises IllegalTransition when it is final."""
        principal.require(Role.SUBMIT)
        task = reading_of(await self._stored(principal, task_id)).task
        return await self._writer.change(
            task, lambda task: machine.request_cancel(task, reason=reason)
        )

    async def retry(
        self, principal: Principal, task_id: str, *, request_id: str, trace_parent: str
    ) -> Task:
        """Submit a task's spec anew. Raises IllegalTransition unless it FAILED or was CANCELLED."""
        principal.require(Role.SUBMIT)
        task = reading_of(await self._stored(principal, task_id)).task
        submission = replace(machine.retry(task), trace_parent=trace_parent)
        await self._admit(1)
        prepared = self._commit(submission, request_id)
        answer = (await self._accept([prepared]))[0]
        if isinstance(answer, LedgerError):
            raise answer
        return answer.task

    async def _stored(self, principal: Principal, task_id: str) -> Stored:
        stored = (await self._writer.store.read([task_id]))[0]
        if stored is None:
            raise TaskNotFound(task_id)
        if project_of(stored) not in principal.projects:
            raise TaskNotFound(task_id)
        return stored

    async def _admit(self, count: int) -> None:
        """Refuse before the store is full; looked at once in a while, as it costs a round trip."""
        # One looks at a time, and who comes meanwhile waits: so submissions keep their order.
        async with self._looking:
            self._unlooked += count
            if self._unlooked < SUBMISSIONS_A_LOOK:
                return
            used, limit = await self._writer.store.room()
            if limit and used > ADMISSION_SHARE * limit:
                raise LedgerFull(used, limit)
            self._unlooked = 0

    def _prepare(self, principal: Principal, command: SubmitCommand) -> Prepared | LedgerError:
        try:
            project = principal.project(command.project)
        except LedgerError as refusal:
            return refusal
        kind = self._catalog[command.task_type]
        submission = Submission(
            project=project,
            task_type=kind.name,
            spec=command.spec,
            queue=kind.queue,
            priority=kind.priority if command.priority is None else command.priority,
            max_attempts=kind.max_attempts,
            time_limit=kind.time_limit,
            delay=command.delay,
            expire_after=command.expire_after,
            callback_url=command.callback_url,
            callback_events=command.callback_events,
            metadata=command.metadata,
            trace_parent=command.trace_parent,
            reuse=_terms(command.reuse, kind),
        )
        prepared = self._commit(submission, command.request_id, command.reuse)
        return prepared._replace(unfit=command.unfit)

    def _commit(
        self, submission: Submission, request_id: str, wish: ReuseWish | None = None
    ) -> Prepared:
        if request_id:
            task_id = requested_task_id(submission.project, request_id)
        else:
            task_id = self._writer.ids.task_id()
        task, commit = self._writer.submission(task_id, submission)
        return Prepared(task, request_id, commit, wish if submission.reuse else None)

    async def _accept(
        self, prepared: Sequence[Prepared | LedgerError]
    ) -> list[Accepted | LedgerError]:
        asked = [item for item in prepared if isinstance(item, Prepared)]
        wishing = [item for item in asked if item.reuse is not None]
        plain = [item for item in asked if item.reuse is None and item.unfit is None]
        unfit = [item for item in asked if item.reuse is None and item.unfit is not None]
        commits = [item.commit for item in plain]
        settled = iter(await self._writer.store.commit(commits) if commits else ())
        reused = iter(await self._reuse.submit(wishing) if wishing else ())
        before = iter(await self._made_before(unfit) if unfit else ())
        answers: list[Accepted | LedgerError] = []
        for item in prepared:
            if isinstance(item, LedgerError):
                answers.append(item)
            elif item.reuse is not None:
                answers.append(next(reused))
            elif item.unfit is not None:
                answers.append(next(before))
            else:
                answers.append(accepted(item, next(settled)))
        return answers

    async def _made_before(self, unfit: Sequence[Prepared]) -> list[Accepted | LedgerError]:
        """Answer each with the task that its request made, or with why none is made of it."""
        ids = [item.task.id for item in unfit if item.request_id]
        stored = await self._writer.store.read(ids) if ids else []
        tasks = {each.task_id: decode_task(each) for each in stored if each is not None}
        return [_repeated_or_refused(item, tasks.get(item.task.id)) for item in unfit]


def _repeated_or_refused(prepared: Prepared, task: Task | None) -> Accepted | LedgerError:
    if task is not None:
        return repeated(prepared, task)
    return prepared.unfit or TaskNotFound(prepared.task.id)


def _terms(wish: ReuseWish | None, kind: TaskType) -> ReuseTerms | None:
    if wish is None or kind.cache_ttl is None:
        return None
    return ReuseTerms(wish.digest, kind.cache_ttl, wish.models)


def _facts_at_hand(stored: Stored, after: int) -> tuple[bytes, ...] | None:
    """Return the facts after a sequence, if the first and the last are all of them."""
    match stored.sequence - after:
        case 0:
            return ()
        case 1:
            return (stored.last,)
        case 2 if after == 0:
            return (stored.first, stored.last)
        case _:
            return None
