"""The scripts of conversations, and every key that they touch.

| key                        |      |                                                         |
|----------------------------|------|---------------------------------------------------------|
| `<prefix>of:<id>`          | HASH | project, metadata, create, update, ttl, sequence, bytes |
| `<prefix>of:<id>:turns`    | LIST | turns, oldest first                                     |
| `<prefix>of:<id>:ids`      | HASH | the client's own id of a turn that is kept → sequence   |
| `<prefix>in:<project>`     | ZSET | id → when something was said last, microseconds         |
| `<prefix>in:<project>:end` | ZSET | id → when it is forgotten, microseconds                 |
"""

from typing import Final

from callsheet.gateway.side_redis import Script


class Keys:
    """Makes every key of a cell's conversations."""

    def __init__(self, cell: str) -> None:
        self._prefix = f"callsheet:{{{cell}}}:conversations:"

    def state(self, id_: str) -> str:
        """HASH."""
        return f"{self._prefix}of:{id_}"

    def turns(self, id_: str) -> str:
        """LIST."""
        return f"{self._prefix}of:{id_}:turns"

    def ids(self, id_: str) -> str:
        """HASH."""
        return f"{self._prefix}of:{id_}:ids"

    def recent(self, project: str) -> str:
        """ZSET."""
        return f"{self._prefix}in:{project}"

    def ending(self, project: str) -> str:
        """ZSET."""
        return f"{self._prefix}in:{project}:end"

    def all_of(self, id_: str, project: str) -> list[str]:
        """Return the keys that a change of one conversation touches."""
        return [
            self.state(id_),
            self.turns(id_),
            self.ids(id_),
            self.recent(project),
            self.ending(project),
        ]


_NOW: Final = r"""
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
"""

# Begins a conversation, unless the project has all it may.
#
# KEYS      state, turns, ids, recent, ending
# ARGV      id, project, metadata, time to live in milliseconds, most conversations
# Returns   now in microseconds; '' when there are too many
CREATE: Final = Script(
    _NOW
    + r"""
local gone = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 1000)
if #gone > 0 then
  redis.call('ZREM', KEYS[4], unpack(gone))
  redis.call('ZREM', KEYS[5], unpack(gone))
end
if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[5]) then return '' end
redis.call('HSET', KEYS[1], 'project', ARGV[2], 'metadata', ARGV[3], 'ttl', ARGV[4],
           'create', now, 'update', now, 'sequence', 0, 'bytes', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('ZADD', KEYS[5], now + ARGV[4] * 1000, ARGV[1])
return now
"""
)

# Keeps a conversation for another time to live, because it is used.
#
# KEYS      state, turns, ids, ending
# ARGV      id
# Returns   {now, how many turns are kept, state…}; an empty one when there is none
USE: Final = Script(
    _NOW
    + r"""
local ttl = redis.call('HGET', KEYS[1], 'ttl')
if not ttl then return {} end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ttl) end
redis.call('ZADD', KEYS[4], 'XX', now + ttl * 1000, ARGV[1])
return {now, redis.call('LLEN', KEYS[2]), redis.call('HGETALL', KEYS[1])}
"""
)

# Appends a turn; one whose id is that of a turn that is kept is that turn, said again.
#
# KEYS      state, turns, ids, recent, ending
# ARGV      id, turn without sequence and time, turn's own id, most turns, most bytes
# Returns   {sequence, turn}; an empty one when there is no such conversation
APPEND: Final = Script(
    _NOW
    + r"""
local state = redis.call('HMGET', KEYS[1], 'ttl', 'sequence')
local ttl = state[1]
if not ttl then return {} end
local said = ARGV[3] ~= '' and redis.call('HGET', KEYS[3], ARGV[3])
if said then
  -- A server that evicts may have lost the turns, and kept their ids.
  local before = redis.call('LINDEX', KEYS[2], said - state[2] - 1)
  if before then return {said, before} end
end
local sequence = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
local turn = sequence .. '\n' .. now .. '\n' .. ARGV[2]
local length = redis.call('RPUSH', KEYS[2], turn)
local bytes = redis.call('HINCRBY', KEYS[1], 'bytes', #turn)
while length > 1 and (length > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5])) do
  local oldest = redis.call('LPOP', KEYS[2])
  bytes = redis.call('HINCRBY', KEYS[1], 'bytes', -#oldest)
  length = length - 1
  local id = cjson.decode(string.match(oldest, '^%d+\n%d+\n(.*)$')).id
  if id ~= '' then redis.call('HDEL', KEYS[3], id) end
end
redis.call('HSET', KEYS[1], 'update', now)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[3], sequence) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ttl) end
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('ZADD', KEYS[5], now + ttl * 1000, ARGV[1])
return {tostring(sequence), turn}
"""
)

# Forgets a conversation.
#
# KEYS      state, turns, ids, recent, ending
# ARGV      id
# Returns   how many there were
DELETE: Final = Script(r"""
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
return redis.call('DEL', KEYS[1])
""")

# Finds conversations of a project, the one in which something was said last first.
#
# KEYS      recent
# ARGV      behind which score, or +inf; most of them
# Returns   {id, score, id, score…}
FIND: Final = Script(r"""
return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
""")

# Reads the states of conversations.
#
# KEYS      pairs of state and turns
# Returns   {now, {{how many turns are kept, state, milliseconds left}…}}; an empty state where
#           there is none any more
STATES: Final = Script(
    _NOW
    + r"""
local states = {}
for i = 1, #KEYS, 2 do
  states[#states + 1] = {redis.call('LLEN', KEYS[i + 1]), redis.call('HGETALL', KEYS[i]),
                         redis.call('PTTL', KEYS[i])}
end
return {now, states}
"""
)
