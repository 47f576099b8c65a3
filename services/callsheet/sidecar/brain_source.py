"""Where the brain's facts come from: the log, and the tasks' own facts where the log says less."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, cast

import structlog

from callsheet.brain.records import TaskEventWrite
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.graph_progress import FactKey, Gap
from callsheet.ledger.index import Keys
from callsheet.ledger.log import LogEntry
from callsheet.ledger.store import Store
from callsheet.sidecar.brain_facts import UNTOLD, fact_of
from callsheet.v1.task_event_pb2 import TaskSubmitted

#: Tasks whose submissions are remembered: most facts follow the first one closely.
_REMEMBERED: Final = 4096
#: Facts that a task may have; one with more was never heard of.
_FACTS: Final = 1000
#: Facts translated before others in this process get their turn: about a millisecond.
_SLICE: Final = 8
#: Final tasks looked at in one go while a gap is closed.
_PAGE: Final = 64

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Fact(NamedTuple):
    """A fact for the brain, and what its task was submitted with."""

    write: TaskEventWrite
    record: EventRecord
    submitted: TaskSubmitted

    @property
    def key(self) -> FactKey:
        """What names it in the graph."""
        return FactKey(self.write["epoch"], self.write["task_id"], self.write["sequence"])


class _Origin(NamedTuple):
    submitted: TaskSubmitted
    create_time: int


class FactSource:
    """Translates what the ledger holds. Every method may raise LedgerError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._healed: OrderedDict[str, None] = OrderedDict()
        self._healing: set[str] = set()

    async def of_entries(
        self, entries: Sequence[LogEntry], *, epoch: str, heal: int, alone: bool
    ) -> list[Fact]:
        """Return the facts of log entries, in their order.

        Before the first one of a task that was submitted before *heal*, in microseconds, come all
        facts before it: the brain may lack them. They come each time until note_told.
        """
        self._healing.clear()
        records: list[tuple[str, EventRecord]] = []
        for entry in entries:
            record = parse_event(entry.event)
            self._note(entry.task_id, record)
            records.append((entry.task_id, record))
        await self._learn(task_id for task_id, _ in records)
        found: list[Fact] = []
        for number, (task_id, record) in enumerate(records):
            origin = self._origins.get(task_id)
            if origin is None:
                # Pruned before it was told of: only a brain away for the whole retention is.
                _log.error("graph_fact_lost", task_id=task_id, sequence=record.sequence)
                continue
            if record.sequence > 1 and origin.create_time < heal and self._is_first(task_id):
                earlier = await self._records(task_id, upto=record.sequence - 1)
                found += _facts(task_id, earlier, origin, epoch=epoch, alone=alone)
            found += _facts(task_id, [record], origin, epoch=epoch, alone=alone)
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        return found

    async def of_gap(self, gap: Gap, *, epoch: str, alone: bool) -> tuple[list[Fact], Gap | None]:
        """Return all facts of some tasks that ended in the gap, and what is left of the gap."""
        page = await self._store.page(self._keys.final, below=gap.below, limit=_PAGE)
        if not page:
            return [], None
        task_ids = [task_id for task_id, _ in page]
        found: list[Fact] = []
        for stored in await self._store.read(task_ids):
            if stored is None or parse_event(stored.last).time < gap.since:
                continue
            first = parse_event(stored.first)
            origin = _Origin(first.task_submitted, first.time)
            records = await self._records(stored.task_id, upto=stored.sequence)
            found += _facts(stored.task_id, records, origin, epoch=epoch, alone=alone)
            await asyncio.sleep(0)
        return found, gap._replace(below=page[-1][1])

    async def of_key(self, key: FactKey, *, alone: bool) -> Fact | None:
        """Return one fact; None: its task is no longer kept."""
        await self._learn([key.task_id])
        origin = self._origins.get(key.task_id)
        facts = await self._store.facts(key.task_id, after=key.sequence - 1, limit=1)
        if origin is None or not facts:
            return None
        records = [parse_event(facts[0])]
        return next(_facts(key.task_id, records, origin, epoch=key.epoch, alone=alone), None)

    def note_told(self) -> None:
        """Note that the brain has the entries that were asked for last: their tasks are healed."""
        self._healed.update(dict.fromkeys(self._healing))
        self._healing.clear()
        while len(self._healed) > _REMEMBERED:
            self._healed.popitem(last=False)

    def forget_healed(self) -> None:
        """Heal every task again: the brain may lack what it was told before."""
        self._healed.clear()
        self._healing.clear()

    async def _learn(self, task_ids: Iterable[str]) -> None:
        """Read the submissions of tasks that are not remembered."""
        missing = [each for each in dict.fromkeys(task_ids) if each not in self._origins]
        if not missing:
            return
        for stored in await self._store.read(missing):
            if stored is not None:
                self._note(stored.task_id, parse_event(stored.first))

    def _note(self, task_id: str, record: EventRecord) -> None:
        if record.HasField("task_submitted"):
            self._origins[task_id] = _Origin(record.task_submitted, record.time)
            while len(self._origins) > _REMEMBERED:
                self._origins.popitem(last=False)

    def _is_first(self, task_id: str) -> bool:
        if task_id in self._healed or task_id in self._healing:
            return False
        self._healing.add(task_id)
        return True

    async def _records(self, task_id: str, *, upto: int) -> list[EventRecord]:
        facts = await self._store.facts(task_id, after=0, limit=min(upto, _FACTS))
        return [parse_event(fact) for fact in facts]


def _facts(
    task_id: str, records: Iterable[EventRecord], origin: _Origin, *, epoch: str, alone: bool
) -> Iterator[Fact]:
    submitted = origin.submitted
    for record in records:
        if record.WhichOneof("fact") in UNTOLD:
            continue
        try:
            write = fact_of(record, submitted, task_id=task_id, epoch=epoch, alone=alone)
        except Exception:  # noqa: BLE001  # what we cannot translate must not hold up all others
            _log.exception("graph_fact_untranslated", task_id=task_id, sequence=record.sequence)
        else:
            yield Fact(write, record, submitted)
