"""How far the brain's graph has been told what the log says, and what it refuses for good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, cast

from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.redis_connection import RedisConnection, Word

#: The name of the cursor behind which the log is kept for the brain.
READER: Final = "brain"
#: The role that one teller of a cell holds at a time.
ROLE: Final = "sidecar-brain"
#: Dead facts that are kept; with more, the brain refuses everything, and which ones says nothing.
MOST_DEAD: Final = 10_000
#: Steps of the cursor whose times are kept: at two a second, those of the last hour and a half.
MOST_STEPS: Final = 10_000

# Moves the cursor, and notes with it what else is to be remembered, together.
#
# When the cursor came where it is is kept for a while, but for the time in which there is a gap:
# what is behind the cursor has not all been told then.
#
# KEYS      hold, cursors, epoch, progress, dead facts, steps
# ARGV      holder, reader, cursor before ('' = none), cursor after, epoch, the most dead facts,
#           the most steps, number of fields of the progress; each field and its value ('' = remove
#           it); then for each dead fact: its name, why
# Returns   1; or 0 when holder, epoch or cursor is another: nothing was changed
_ADVANCE: Final = r"""#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
if redis.call('GET', KEYS[3]) ~= ARGV[5] then return 0 end
local at = redis.call('HGET', KEYS[2], ARGV[2]) or ''
-- at the cursor after: this very step, repeated after a lost answer
if at ~= ARGV[3] and at ~= ARGV[4] then return 0 end
local T = redis.call('TIME')
local now = string.format('%.0f', T[1] * 1000000 + T[2])
local had_gap = redis.call('HEXISTS', KEYS[4], 'gap')
local fields = tonumber(ARGV[8])
for i = 9, 8 + 2 * fields, 2 do
  if ARGV[i+1] == '' then
    redis.call('HDEL', KEYS[4], ARGV[i])
  else
    redis.call('HSET', KEYS[4], ARGV[i], ARGV[i+1])
  end
end
for i = 9 + 2 * fields, #ARGV, 2 do
  if redis.call('HLEN', KEYS[5]) < tonumber(ARGV[6]) then
    redis.call('HSET', KEYS[5], ARGV[i], now .. ' ' .. ARGV[i+1])
  end
end
-- positions of another epoch do not compare
if redis.call('HGET', KEYS[4], 'epoch') ~= ARGV[5] then redis.call('DEL', KEYS[6]) end
local has_gap = redis.call('HEXISTS', KEYS[4], 'gap')
if has_gap == 0 and (had_gap == 1 or at ~= ARGV[4]) then
  redis.call('ZADD', KEYS[6], string.match(ARGV[4], '^%d+'), ARGV[4] .. ' ' .. now)
  redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -1 - tonumber(ARGV[7]))
end
redis.call('HSET', KEYS[4], 'epoch', ARGV[5])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return 1
"""

# Forgets dead facts.
#
# KEYS[1]   dead facts
# ARGV      their names
# Returns   how many went
_FORGET: Final = r"""#!lua flags=allow-oom
return redis.call('HDEL', KEYS[1], unpack(ARGV))
"""


class FactKey(NamedTuple):
    """What names a fact in the graph."""

    epoch: str
    task_id: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}/{self.task_id}/{self.sequence}"


@dataclass(frozen=True, slots=True)
class DeadFact:
    """A fact that the brain refused until it was passed over."""

    key: FactKey
    time: datetime
    reason: str


class Gap(NamedTuple):
    """Facts that the log no longer tells: those of tasks that ended since a time.

    *since* is in microseconds; *below* is the score in the list of final tasks above which it is
    closed already, or None at its start.
    """

    since: int
    below: int | None


class Progress(NamedTuple):
    """What is remembered: '' and None where there is nothing.

    The early facts of tasks that were submitted before *heal*, in microseconds, may be missing.
    """

    position: str = ""
    epoch: str = ""
    gap: Gap | None = None
    heal: int = 0


class GraphProgress:
    """Keeps the progress of a cell. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def read(self) -> Progress:
        """Return what is remembered."""
        position = await self._connection.command("HGET", self._keys.cursors, READER)
        reply = await self._connection.command("HGETALL", self._keys.graph)
        fields = {
            name.decode(): value.decode()
            for name, value in cast("Mapping[bytes, bytes]", reply).items()
        }
        gap = None
        if "gap" in fields:
            since, _, below = fields["gap"].partition(" ")
            gap = Gap(int(since), int(below) if below else None)
        return Progress(
            position=cast("bytes", position).decode() if position is not None else "",
            epoch=fields.get("epoch", ""),
            gap=gap,
            heal=int(fields.get("heal", "0")),
        )

    async def advance(
        self,
        before: Progress,
        after: Progress,
        *,
        holder: str,
        dead: Sequence[tuple[FactKey, str]] = (),
    ) -> bool:
        """Remember what is new in *after*, which has the ledger's epoch, and the dead facts.

        False: another holder, another epoch or another cursor stands there; nothing was changed.
        """
        places = [
            self._keys.hold(ROLE),
            self._keys.cursors,
            self._keys.epoch,
            self._keys.graph,
            self._keys.graph_dead,
            self._keys.graph_told,
        ]
        gap = after.gap
        fields: dict[str, str] = {}
        if gap != before.gap:
            below = "" if gap is None or gap.below is None else f" {gap.below}"
            fields["gap"] = f"{gap.since}{below}" if gap is not None else ""
        if after.heal != before.heal:
            fields["heal"] = str(after.heal)
        words: list[Word] = [
            holder,
            READER,
            before.position,
            after.position,
            after.epoch,
            MOST_DEAD,
            MOST_STEPS,
            len(fields),
        ]
        for name, value in fields.items():
            words += (name, value)
        for key, reason in dead:
            words += (str(key), reason)
        return await self._connection.number(_ADVANCE, places, words) == 1

    async def told_time(self, recorded: int) -> datetime | None:
        """Return when the brain had been told of what was recorded then, in microseconds.

        To half a second, the pace of the cursor; None: it has not been, or that is long ago.
        """
        since, key = recorded // 1000, self._keys.graph_told
        command = self._connection.command
        # Without an earlier step, the first one there is may be the first that is still kept.
        if not await command("ZCOUNT", key, "-inf", f"({since}"):
            return None
        steps = await command("ZRANGEBYSCORE", key, since, "+inf", "LIMIT", 0, 1)
        for step in cast("list[bytes]", steps):
            _, _, time = step.decode().partition(" ")
            return instant(int(time))
        return None

    async def refusal(self, key: FactKey) -> str:
        """Return why the brain refused a fact for good; '' when it did not."""
        value = await self._connection.command("HGET", self._keys.graph_dead, str(key))
        return "" if value is None else _dead_fact(str(key).encode(), cast("bytes", value)).reason

    async def dead(self, *, limit: int) -> list[DeadFact]:
        """Return up to *limit* dead facts, in no order."""
        found: list[DeadFact] = []
        cursor = b"0"
        while len(found) < limit:
            reply = await self._connection.command("HSCAN", self._keys.graph_dead, cursor)
            cursor, pairs = cast("tuple[bytes | int, Mapping[bytes, bytes]]", reply)
            found += [_dead_fact(name, value) for name, value in pairs.items()]
            if int(cursor) == 0:
                break
        return found[:limit]

    async def count_dead(self) -> int:
        """Return how many dead facts are kept."""
        return cast("int", await self._connection.command("HLEN", self._keys.graph_dead))

    async def forget_dead(self, keys: Sequence[FactKey]) -> int:
        """Forget dead facts, for the brain has them now or never will; answer how many went."""
        if not keys:
            return 0
        names = [str(key) for key in keys]
        return await self._connection.number(_FORGET, [self._keys.graph_dead], names)


def _dead_fact(name: bytes, value: bytes) -> DeadFact:
    epoch, task_id, sequence = name.decode().split("/")
    time, _, reason = value.decode().partition(" ")
    return DeadFact(FactKey(epoch, task_id, int(sequence)), instant(int(time)), reason)
