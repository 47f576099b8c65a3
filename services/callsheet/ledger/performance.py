"""How tasks fared of late: counted from the log into buckets of time, and reported from them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.model import TaskState
from callsheet.ledger.position import Position
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.sightings import Seen

#: What is counted of tasks, and seen of queues, by name. Of a measure that ends so, the highest
#: counts; of any other one, the sum. Times are in microseconds.
HIGHEST: Final = "_max"

# Adds to buckets what was counted up to a position, unless somebody else has counted it already.
#
# KEYS      how far the log was counted; the buckets
# ARGV      where the count began ('*' = of no place in the log), where it ended, number of buckets,
#           for each bucket how many seconds it is kept, then for each measure: key index, member,
#           value
# Returns   1, or 0 when it was counted already
_ADD: Final = r"""#!lua flags=allow-oom
if ARGV[1] ~= '*' then
  if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2])
end
local buckets = tonumber(ARGV[3])
for i = 4 + buckets, #ARGV, 3 do
  local k, member, value = KEYS[tonumber(ARGV[i])], ARGV[i+1], tonumber(ARGV[i+2])
  if string.sub(member, -4) ~= '_max' then
    redis.call('HINCRBY', k, member, ARGV[i+2])
  elseif value > tonumber(redis.call('HGET', k, member) or '-1') then
    redis.call('HSET', k, member, ARGV[i+2])
  end
end
for b = 1, buckets do redis.call('EXPIRE', KEYS[1 + b], ARGV[3 + b]) end
return 1
"""

# Reads buckets.
#
# KEYS      how far the log was counted; the buckets
# Returns   {position or '', {member, value…} of each bucket…}
_READ: Final = r"""
local out = {redis.call('GET', KEYS[1]) or ''}
for i = 2, #KEYS do out[i] = redis.call('HGETALL', KEYS[i]) end
return out
"""

#: What was counted, by measure.
Measures = dict[str, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time that ends now, made of *count* buckets."""

    #: What its buckets are called in their keys.
    length: str
    bucket: timedelta
    count: int

    @property
    def kept(self) -> timedelta:
        """How long a bucket is kept: until it is in no window, and a little longer."""
        return self.bucket * (self.count + 8)

    def start(self, time: int) -> int:
        """Return the start of the bucket of a time, in seconds since 1970; *time* in micros."""
        seconds = self.bucket // timedelta(seconds=1)
        return time // 1_000_000 // seconds * seconds


HOUR: Final = Window("minute", timedelta(minutes=1), 60)
DAY: Final = Window("quarter", timedelta(minutes=15), 96)


@dataclass(slots=True)
class Tally:
    """What was counted and is not written yet; a member is `<project>/<task type>/<measure>`."""

    #: By the start of the shortest bucket, then by place. The others are sums of these, made when
    #: they are written, because a busy plane counts thousands of facts a second.
    _counted: dict[int, dict[tuple[str, str], Measures]] = field(
        default_factory=lambda: defaultdict[int, dict[tuple[str, str], Measures]](
            lambda: defaultdict[tuple[str, str], Measures](dict)
        )
    )

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return bool(self._counted)

    def count(self, seen: Seen) -> None:
        """Count a fact of the log, in the buckets of its time."""
        place = seen.task.project, seen.task.task_type
        measures = self._counted[HOUR.start(seen.record.time)][place]
        for measure, value in measures_of(seen):
            add(measures, measure, value)

    def look(self, time: int, queue: str, *, ready: int, slots: int, busy: int) -> None:
        """Count how a queue looks at a time, in microseconds."""
        seen = {"looks": 1, "ready": ready, "ready_max": ready, "slots": slots, "busy": busy}
        measures = self._counted[HOUR.start(time)]["", queue]
        for measure, value in seen.items():
            add(measures, measure, value)

    def written(self, keys: Keys) -> tuple[list[str], list[str | int]]:
        """Return the buckets' keys, and the arguments of the script that adds to them."""
        buckets = self._buckets()
        places = {bucket: place for place, bucket in enumerate(buckets, start=2)}
        arguments: list[str | int] = [len(places)]
        arguments += (window.kept // timedelta(seconds=1) for window, _ in places)
        for bucket, measures in buckets.items():
            for member, value in measures.items():
                arguments += (places[bucket], member, value)
        return [keys.performance(window.length, start) for window, start in places], arguments

    def _buckets(self) -> dict[tuple[Window, int], Measures]:
        buckets = defaultdict[tuple[Window, int], Measures](dict)
        for start, counted in self._counted.items():
            of_time = [buckets[window, window.start(start * 1_000_000)] for window in (HOUR, DAY)]
            for (project, name), measures in counted.items():
                for measure, value in measures.items():
                    for bucket in of_time:
                        add(bucket, f"{project}/{name}/{measure}", value)
        return buckets


def add(measures: Measures, measure: str, value: int) -> None:
    """Add to what was counted."""
    before = measures.get(measure, 0)
    measures[measure] = max(before, value) if measure.endswith(HIGHEST) else before + value


def measures_of(seen: Seen) -> Iterator[tuple[str, int]]:
    """Yield what a fact counts for."""
    record, task = seen.record, seen.task
    match record.WhichOneof("fact"):
        case "task_submitted":
            yield "submitted", 1
        case "attempt_started":
            if record.attempt_started.attempt == 1:
                wait = max(0, record.time - task.ready_time)
                yield from (("waits", 1), ("wait", wait), ("wait_max", wait))
        case "attempt_failed":
            yield "retries", 1
        case "task_succeeded":
            yield "succeeded", 1
            if record.task_succeeded.reused_from:
                yield "reused", 1
            yield from _run(seen)
        case "task_failed":
            yield "failed", 1
            yield from _run(seen)
        case "task_cancelled":
            yield "cancelled", 1
        case _:
            return


def _run(seen: Seen) -> Iterator[tuple[str, int]]:
    """Yield how long the attempt ran that ended its task, if one did."""
    started = seen.task.start_time
    if seen.before is TaskState.RUNNING and 0 < started <= seen.record.time:
        run = seen.record.time - started
        yield from (("runs", 1), ("run", run), ("run_max", run))


class Counters:
    """Keeps the buckets. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def counted(self) -> str:
        """Return up to which position the log was counted; '' when it never was."""
        reply = await self._connection.command("GET", self._keys.counted)
        return cast("bytes", reply).decode() if reply is not None else ""

    async def add(self, tally: Tally, *, after: str, up_to: str) -> bool:
        """Add what the log told between two positions; False: it was counted already."""
        return await self._run(tally, after, up_to)

    async def look(self, tally: Tally) -> None:
        """Add what was seen of queues."""
        await self._run(tally, "*", "")

    async def _run(self, tally: Tally, after: str, up_to: str) -> bool:
        places, arguments = tally.written(self._keys)
        keys = [self._keys.counted, *places]
        return await self._connection.number(_ADD, keys, [after, up_to, *arguments]) == 1


@dataclass(frozen=True, slots=True)
class Series:
    """What was counted of one thing: in the whole window, and in each bucket there is."""

    total: Measures
    #: By the bucket's start, in seconds since 1970; oldest first.
    buckets: dict[int, Measures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How tasks of each type, and queues, fared in a window."""

    window: Window
    #: The start of the first bucket, and of the last.
    first: datetime
    last: datetime
    #: Up to when the log was counted; None: not yet.
    counted_time: datetime | None
    task_types: Mapping[str, Series]
    #: The queue of each of these task types; '': this version knows no such type.
    queue_of: Mapping[str, str]
    queues: Mapping[str, Series]


class Performance:
    """Reports what was counted."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, catalog: Mapping[str, TaskType]
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._catalog = catalog

    async def report(self, principal: Principal, *, project: str, window: Window) -> Report:
        """Return how the tasks of a project, or of all of them, fared in the window that ends now.

        Raises:
            ProjectNotFound: the principal has no such project.
        """
        principal.require(Role.OPERATE)
        wanted = principal.project(project) if project else ""
        seconds, _ = cast("tuple[int, int]", await self._connection.command("TIME"))
        last = window.start(seconds * 1_000_000)
        step = window.bucket // timedelta(seconds=1)
        starts = range(last - (window.count - 1) * step, last + step, step)
        keys = [self._keys.performance(window.length, start) for start in starts]
        reply = await self._connection.script(_READ, [self._keys.counted, *keys], [])
        position, *contents = cast("tuple[bytes, list[bytes]]", tuple(reply))
        buckets = dict(zip(starts, map(_measures, contents), strict=True))
        types = _series(buckets, lambda place: place[0] == wanted if wanted else bool(place[0]))
        seen = _series(buckets, lambda place: not place[0])
        return Report(
            window=window,
            first=instant(starts[0] * 1_000_000),
            last=instant(last * 1_000_000),
            counted_time=_time_of(position.decode()),
            task_types=types,
            queue_of={name: self._queue_of(name) for name in types},
            queues={name: seen.get(name, Series({}, {})) for name in self._queues()},
        )

    def _queue_of(self, task_type: str) -> str:
        kind = self._catalog.get(task_type)
        return kind.queue if kind is not None else ""

    def _queues(self) -> list[str]:
        return sorted({kind.queue for kind in self._catalog.values()})


def _measures(content: Sequence[bytes]) -> Measures:
    pairs = zip(content[::2], content[1::2], strict=True)
    return {member.decode(): int(value) for member, value in pairs}


def _series(
    buckets: Mapping[int, Measures], is_wanted: Callable[[Sequence[str]], bool]
) -> dict[str, Series]:
    """Return what was counted of each thing whose place is wanted, by the thing's name."""
    found: dict[str, Series] = {}
    for start, members in buckets.items():
        for member, value in members.items():
            place = member.split("/")
            if not is_wanted(place):
                continue
            _, name, measure = place
            series = found.setdefault(name, Series({}, defaultdict(dict)))
            add(series.total, measure, value)
            add(series.buckets[start], measure, value)
    return dict(sorted(found.items()))


def _time_of(position: str) -> datetime | None:
    return instant(Position.parse(position).time * 1_000) if position else None
