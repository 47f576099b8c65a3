"""What goes between gateways: every published envelope, by Redis, with a sequence in its room.

Redis keeps the last envelopes of each room for a while, for those who come back. Nothing here is
the truth of anything: when it is lost, rooms count anew in another epoch.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias, cast

from redis.exceptions import RedisError

from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.room_names import RoomName
from callsheet.gateway.side_redis import Script, SideRedis, SideRedisAway

_MILLISECOND: Final = timedelta(milliseconds=1)
#: How long one look at the line waits for news.
_LOOK: Final = 5.0

# Gives an envelope the next sequence of its room, keeps it, and tells all gateways.
#
# KEYS[1]   index   ZSET room → when it was last published in, milliseconds
# KEYS[2]   state   HASH epoch, sequence, bytes
# KEYS[3]   kept    LIST of "<sequence>\n<epoch>\n<microseconds>\n<envelope>", oldest first
# ARGV      channel, address, room, epoch of a new room, envelope,
#           most envelopes, most bytes, time to live in milliseconds, most rooms
# Returns   {epoch, sequence}; an epoch of '' when the project has too many rooms
_PUBLISH: Final = Script(r"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, bytes_most, ttl = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if redis.call('HEXISTS', KEYS[2], 'epoch') == 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
  if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[9]) then return {'', 0} end
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], 'epoch', ARGV[4])
end
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local sequence = redis.call('HINCRBY', KEYS[2], 'sequence', 1)
local entry = sequence .. '\n' .. epoch .. '\n' .. time[1]
  .. string.format('%06d', time[2]) .. '\n' .. ARGV[5]
local length = redis.call('RPUSH', KEYS[3], entry)
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #entry)
while length > 1 and (length > most or bytes > bytes_most) do
  bytes = redis.call('HINCRBY', KEYS[2], 'bytes', -#redis.call('LPOP', KEYS[3]))
  length = length - 1
end
if length == 1 then redis.call('HSET', KEYS[2], 'bytes', #entry) end
redis.call('ZADD', KEYS[1], now, ARGV[3])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ttl) end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\n' .. entry)
return {epoch, sequence}
""")

# Tells all gateways an envelope that takes no sequence and is not kept.
#
# ARGV      channel, address, envelope
# Returns   how many gateways were told
_TELL: Final = Script(r"""
local time = redis.call('TIME')
local stamp = time[1] .. string.format('%06d', time[2])
return redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\n0\n\n' .. stamp .. '\n' .. ARGV[3])
""")

# Reads what is kept of a room.
#
# KEYS      state, kept
# Returns   {epoch or '', sequence or '0', {entries}}
_KEPT: Final = Script(r"""
local state = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
return {state[1] or '', state[2] or '0', redis.call('LRANGE', KEYS[2], 0, -1)}
""")


class Entry(NamedTuple):
    """An envelope as the line carries it; a sequence of zero: it has none."""

    sequence: int
    epoch: str
    #: When it was published: microseconds since 1970.
    time: int
    #: The envelope without sequence, epoch and time.
    envelope: bytes


class Kept(NamedTuple):
    """What is kept of a room; an epoch of '': nothing was published there lately."""

    epoch: str
    sequence: int
    entries: Sequence[Entry]


class Heard(NamedTuple):
    """An envelope that some gateway published."""

    project: str
    #: The room, or '' for one connection alone.
    room: str
    #: The connection, or ''.
    to: str
    entry: Entry


#: What redis-py makes of what was pushed: its type, its channel and its data.
_Message: TypeAlias = Mapping[str, object]


class RoomLine:
    """Publishes to all gateways of a cell, and hears what they publish."""

    def __init__(self, redis: SideRedis, *, cell: str, limits: RoomLimits) -> None:
        self._redis = redis
        self._limits = limits
        self._prefix = f"callsheet:{{{cell}}}:rooms:"
        self._channel = f"{self._prefix}told"  # CHANNEL addresses and entries

    async def publish(self, name: RoomName, envelope: bytes) -> tuple[str, int]:
        """Publish in a room; return the epoch and the sequence it was given.

        Raises SideRedisAway; Refused when the project uses too many rooms.
        """
        limits = self._limits
        await self._redis.check_space()
        reply = await self._redis.run(
            _PUBLISH,
            [f"{self._prefix}{name.project}:index", *self._keys(name)],
            self._channel,
            _address(name.project, room=name.text),
            name.text,
            secrets.token_hex(4),
            envelope,
            limits.kept,
            limits.kept_bytes,
            limits.kept_time // _MILLISECOND,
            limits.rooms_per_project,
        )
        epoch, sequence = cast("tuple[bytes, int]", reply)
        if not epoch:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "ROOMS_EXHAUSTED",
                f"the project has {limits.rooms_per_project} rooms in use",
                retry_after=limits.kept_time,
            )
        return epoch.decode(), sequence

    async def tell(self, project: str, envelope: bytes, *, room: str = "", to: str = "") -> None:
        """Tell a room, or one connection, something that takes no sequence.

        Raises SideRedisAway.
        """
        address = _address(project, room=room, to=to)
        await self._redis.run(_TELL, [], self._channel, address, envelope)

    async def kept(self, name: RoomName) -> Kept:
        """Return what is kept of a room. Raises SideRedisAway."""
        reply = await self._redis.run(_KEPT, self._keys(name))
        epoch, sequence, entries = cast("tuple[bytes, bytes, list[bytes]]", reply)
        return Kept(epoch.decode(), int(sequence), [_entry(content) for content in entries])

    async def follow(
        self, *, linked: Callable[[], Awaitable[None]], heard: Callable[[Heard], None]
    ) -> None:
        """Hear what is published until the link breaks.

        *linked* is awaited once nothing more can be missed, and before anything is heard. Raises
        SideRedisAway when the link breaks.
        """
        pubsub = self._redis.redis.pubsub()  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves its options untyped
        try:
            async with pubsub:
                await pubsub.subscribe(self._channel)
                while True:
                    message = cast("_Message | None", await pubsub.get_message(timeout=_LOOK))
                    if message is None:
                        continue
                    if message["type"] == "subscribe":
                        await linked()
                    elif message["type"] == "message":
                        heard(_heard(cast("bytes", message["data"])))
        except (RedisError, OSError) as error:
            raise SideRedisAway(f"{type(error).__name__}: {error}") from error

    def _keys(self, name: RoomName) -> list[str]:
        room = f"{self._prefix}{name.project}:{name.text}"
        return [f"{room}:state", f"{room}:kept"]


def _address(project: str, *, room: str = "", to: str = "") -> str:
    return f"{project}\n{room}\n{to}"


def _heard(content: bytes) -> Heard:
    project, room, to, entry = content.split(b"\n", 3)
    return Heard(project.decode(), room.decode(), to.decode(), _entry(entry))


def _entry(content: bytes) -> Entry:
    sequence, epoch, time, envelope = content.split(b"\n", 3)
    return Entry(int(sequence), epoch.decode(), int(time), envelope)
