"""Deliveries: the durable queues between the log and the endpoints of webhooks.

One queue for each task and endpoint, in order; its head is claimed under a lease by any sidecar.
Queues of one project and endpoint, a URL's origin and path, share a line, so that a slow endpoint
holds up no other, and a circuit, so that one that is away is asked by one delivery at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from callsheet.ledger.delivery_model import (
    DeliveryRecord,
    Disabled,
    NewDelivery,
    decode_record,
    encode_new,
    endpoint_of,
    parse_line,
)
from callsheet.ledger.delivery_outcomes import EVIDENCE, ClaimedDelivery, Frame, SettledAs, frame_of
from callsheet.ledger.delivery_scripts import CLAIM_DUE, HEADS, RECORD, SETTLE
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, span
from callsheet.ledger.kept_delivery_scripts import FORGET, FORGETTABLE, PROGRESS, PROJECTS
from callsheet.ledger.lane import CommitLane
from callsheet.ledger.redis_connection import RedisConnection, Word
from callsheet.ledger.script_names import Names

#: Facts of a task that are read around a delivery's own: enough to find its attempt's start, and
#: what was noted of the task since.
FACTS_BEFORE: Final = 16
FACTS_AFTER: Final = 8
#: Outcomes written in one script call.
SETTLED_TOGETHER: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitTerms:
    """When a line's circuit opens, and how long it stays open.

    It opens after so many *failures* in a row, and is tried again after waits from *shortest* to
    *longest*. A delivery that it held up for *hold* is given up.
    """

    failures: int = 5
    shortest: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(seconds=30)
    hold: timedelta = timedelta(hours=24)


CIRCUIT: Final = CircuitTerms()


@dataclass(frozen=True, slots=True)
class LogStep:
    """A step of a leased reader through the log, from one position to the next, in one epoch."""

    role: str
    holder: str
    reader: str
    epoch: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim took, and what it saw beside.

    *unreadable* heads a newer version must have written: they stay as they are until their lease
    runs out, for another sidecar may know them. *projects* have due lines, and *lines* are some of
    those that were looked at, longest due first; *next_due* is how long until the next one is.
    *registry_version* grows with each change of the webhook registry.
    """

    deliveries: tuple[ClaimedDelivery, ...]
    unreadable: int
    projects: tuple[str, ...]
    lines: tuple[str, ...]
    next_due: timedelta | None
    registry_version: int


class Settled(NamedTuple):
    """What became of writing an outcome.

    It *stands* unless the lease was lost to another sidecar, whose word counts. *superseded*: it
    failed, and gave way to a newer one. *circuit* is what it did to its line's: 'opened', 'closed'
    or nothing. *follows*: the next one of its queue is due.
    """

    stands: bool
    superseded: bool = False
    circuit: str = ""
    follows: bool = False


class _Queue(NamedTuple):
    line: str
    task_id: str
    endpoint: str
    is_held: bool


_Claimed = tuple[
    bytes, bytes, list[tuple[int, bytes, bytes]], bytes, list[bytes], list[bytes], bytes
]
#: (record, why its endpoint is disabled, first fact, sequence of the next fact, facts)
_Head = tuple[bytes, bytes, bytes | None, int, list[bytes | None]]


class Deliveries:
    """Keeps the delivery queues of a cell. Every method may raise LedgerUnavailable."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, circuit: CircuitTerms = CIRCUIT
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._circuit = circuit
        self._outcomes: CommitLane[SettledAs, Settled]
        self._outcomes = CommitLane(self._write, batch=SETTLED_TOGETHER)

    async def record(self, deliveries: Sequence[NewDelivery], step: LogStep) -> int | None:
        """Record what a step through the log found, and move the reader's cursor, atomically.

        Return how many were new; what was recorded before is passed over. None: the role, the
        cursor or the epoch is another by now, and nothing was changed.
        """
        names = Names(
            self._keys.hold(step.role),
            self._keys.cursors,
            self._keys.epoch,
            self._keys.delivery_projects,
            self._keys.delivery_circuits,
            self._keys.delivery_leases,
        )
        arguments: list[Word] = [step.holder, step.reader, step.before, step.after, step.epoch]
        arguments += (span(self._circuit.hold), len(deliveries))
        for new in deliveries:
            arguments += (
                names.of(self._keys.deliveries(new.task_id)),
                names.of(self._keys.deliveries_due(new.line)),
                names.of(*self._keys.delivery_lists(new.project)),
                new.line,
                new.project,
                new.task_id,
                new.task_create_time,
                endpoint_of(new.url),
                new.key,
                "!" if new.must_arrive else "",
                encode_new(new, epoch=step.epoch),
            )
        recorded = await self._connection.number(RECORD, names.all, arguments)
        return None if recorded < 0 else recorded

    async def claim(
        self,
        most: Mapping[str, int],
        *,
        lease: timedelta,
        look: Mapping[str, int] = MappingProxyType({}),
        projects: int = 256,
    ) -> Claims:
        """Take heads that are due, at most so many of each line, under a lease; then look.

        *look* says of which projects how many due lines are answered at most. Without lines only
        look.
        """
        lines = list(most)
        places = [
            self._keys.delivery_projects,
            self._keys.delivery_circuits,
            self._keys.delivery_leases,
            self._keys.webhook_version,
        ]
        arguments: list[Word] = [span(lease), span(self._circuit.hold), projects, len(lines)]
        for line, count in most.items():
            project, _ = parse_line(line)
            places += (self._keys.deliveries_due(line), self._keys.delivery_lines(project))
            arguments += (line, count)
        places += (self._keys.delivery_lines(project) for project in look)
        arguments += look.values()
        reply = await self._connection.script(CLAIM_DUE, places, arguments)
        time, expire, taken, version, due, busy, later = cast("_Claimed", reply)
        queues = [
            _Queue(lines[index - 1], *_parse_member(member), bool(why))
            for index, member, why in taken
        ]
        claimed, unreadable = await self._heads(queues, time=int(time), expire=int(expire))
        wait = timedelta(microseconds=float(later) - float(time)) if later else None
        return Claims(claimed, unreadable, _texts(busy), _texts(due), wait, int(version or 0))

    async def settle(
        self,
        claimed: ClaimedDelivery,
        record: DeliveryRecord,
        *,
        retry_delay: timedelta | None,
        retention: timedelta,
        answers: bool | None = None,
        disables: str = "",
    ) -> Settled:
        """Write what became of a head and give its lease back; what waits goes together.

        Without a *retry_delay* the delivery has ended, and is kept for *retention*; that of a
        signal is not kept. *answers* is whether the endpoint does, if it was asked; *disables* why
        it is to take nothing any more.
        """
        return await self._outcomes.put(
            SettledAs(claimed, record, retry_delay, retention, answers, disables)
        )

    async def progress(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """Return the newest progress of each task, as a stored signal; None: there is none."""
        if not task_ids:
            return []
        places = [self._keys.task(task_id) for task_id in task_ids]
        return cast("list[bytes | None]", await self._connection.script(PROGRESS, places, []))

    async def forget(self, *, limit: int) -> int:
        """Forget the deliveries of up to *limit* tasks whose time is over; answer how many went."""
        ended = self._keys.delivery_ended
        reply = await self._connection.script(FORGETTABLE, [ended], [limit])
        task_ids = [task_id.decode() for task_id in cast("list[bytes]", reply)]
        if not task_ids:
            return 0
        hashes = [self._keys.deliveries(task_id) for task_id in task_ids]
        projects = cast("list[bytes]", await self._connection.script(PROJECTS, hashes, []))
        places, arguments = [ended, self._keys.delivery_disabled], list[Word]()
        for task_id, place, project in zip(task_ids, hashes, _texts(projects), strict=True):
            every, _, dead = self._keys.project_deliveries(project)
            places += (place, every, dead, self._keys.disabled_endpoints(project))
            arguments += (task_id, project)
        return await self._connection.number(FORGET, places, arguments)

    async def _heads(
        self, queues: Sequence[_Queue], *, time: int, expire: int
    ) -> tuple[tuple[ClaimedDelivery, ...], int]:
        """Return the heads of queues under a lease, and how many cannot be read."""
        if not queues:
            return (), 0
        places = [self._keys.delivery_disabled]
        for queue in queues:
            places += (self._keys.deliveries(queue.task_id), self._keys.task(queue.task_id))
        arguments: list[Word] = [queue.endpoint for queue in queues]
        arguments += (FACTS_BEFORE, FACTS_AFTER)
        heads = cast("list[_Head]", await self._connection.script(HEADS, places, arguments))
        claimed: list[ClaimedDelivery] = []
        for queue, (content, disabled, first, start, following) in zip(queues, heads, strict=True):
            if not content:
                await self._vacate(queue, expire=expire)
                continue
            try:
                record = decode_record(content)
            except UnknownVersion:
                continue
            facts = {start + n: fact for n, fact in enumerate(following) if fact is not None}
            if first is not None:
                facts[1] = first
            why = Disabled.parse(disabled).reason if disabled else ""
            at = instant(time)
            claimed.append(
                ClaimedDelivery(
                    record, queue.line, queue.endpoint, expire, at, facts, why, queue.is_held
                )
            )
        vacant = sum(not head[0] for head in heads)
        return tuple(claimed), len(queues) - vacant - len(claimed)

    async def _vacate(self, queue: _Queue, *, expire: int) -> None:
        """Give back the lease of a queue in which nothing waits any more."""
        names = self._settling()
        nothing = Frame(queue.task_id, queue.endpoint, queue.line, expire)
        arguments = [*self._terms(), *self._frame(names, nothing)]
        await self._connection.script(SETTLE, names.all, arguments)

    async def _write(self, outcomes: Sequence[SettledAs]) -> list[Settled]:
        names, arguments = self._settling(), self._terms()
        for outcome in outcomes:
            arguments += self._frame(names, frame_of(outcome))
        reply = await self._connection.script(SETTLE, names.all, arguments)
        words = cast("list[int | bytes]", reply)
        return [
            Settled(done != 0, done == 2, cast("bytes", circuit).decode(), follows == 1)
            for done, circuit, follows in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]

    def _settling(self) -> Names:
        return Names(
            self._keys.delivery_projects,
            self._keys.delivery_circuits,
            self._keys.delivery_leases,
            self._keys.delivery_ended,
            self._keys.delivery_disabled,
        )

    def _terms(self) -> list[Word]:
        circuit = self._circuit
        waits = (span(circuit.shortest), span(circuit.longest))
        return [span(circuit.hold), circuit.failures, *waits]

    def _frame(self, names: Names, frame: Frame) -> tuple[Word, ...]:
        return (
            names.of(self._keys.deliveries(frame.task_id)),
            names.of(self._keys.deliveries_due(frame.line)),
            names.of(*self._keys.delivery_lists(parse_line(frame.line)[0])),
            frame.line,
            frame.task_id,
            frame.task_create_time,
            frame.endpoint,
            frame.key,
            frame.lease_expire,
            frame.record,
            frame.retry_delay,
            "dead" if frame.is_dead else "",
            "forget" if frame.is_forgotten else "",
            frame.retention,
            EVIDENCE[frame.answers],
            frame.disabled_field,
            frame.disables,
        )


def _texts(words: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(word.decode() for word in words)


def _parse_member(member: bytes) -> tuple[str, str]:
    task_id, _, endpoint = member.decode().rpartition("/")
    return task_id, endpoint
