"""The scripts of media work: tasks whose artifacts are to be registered, and webhooks that wait.

As in redis_scripts: every key is declared, times are microseconds by Redis TIME, everything may be
repeated. A task's score in `due` is when its next try is due or, while it is claimed, when the
lease ends: a lease that has run out is simply due again.
"""

from typing import Final

_CLOCK: Final = r"""
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local function text(time) return string.format('%.0f', time) end
"""

# Adds tasks to what is to be registered, and their webhooks to what waits for it.
#
# KEYS      due, records, dead, holds
# ARGV      for each task: id, until when its webhook waits ('' = it does not, or there is none)
#           What is there already stays as it is; what was given up before begins anew.
# Returns   how many were added
ADD: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local added = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZADD', KEYS[1], 'NX', text(now), ARGV[i]) == 1 then
    added = added + 1
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[3], ARGV[i])
  end
  if ARGV[i+1] ~= '' then redis.call('ZADD', KEYS[4], 'NX', ARGV[i+1], ARGV[i]) end
end
return added
"""
)

# Takes due tasks under a lease.
#
# KEYS      due, records
# ARGV      lease, the most to take
# Returns   {now, expire time of the leases, when the next one is due or '', {{id, record or ''}…}}
CLAIM: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local expire, taken = text(now + ARGV[1]), {}
local due = redis.call('ZRANGE', KEYS[1], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
for i, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], expire, id)
  taken[i] = {id, redis.call('HGET', KEYS[2], id) or ''}
end
local later = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {text(now), expire, later[2] or '', taken}
"""
)

# Extends a lease.
#
# KEYS[1]   due
# ARGV      id, expire time of the lease, lease
# Returns   the new expire time; '' when the lease is another's
RENEW: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not held or text(held) ~= ARGV[2] then return '' end
local expire = text(now + ARGV[3])
redis.call('ZADD', KEYS[1], expire, ARGV[1])
return expire
"""
)

# Writes what became of a try, and gives the lease back.
#
# KEYS      due, records, dead, holds
# ARGV      id, expire time of the lease, record ('' = there is nothing more to do), wait before the
#           next try ('' = there is none), 'release' = its webhook need not wait any longer, or ''
# Returns   1; or 0 when the lease is another's: nothing was changed
SETTLE: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local id, record, wait = ARGV[1], ARGV[3], ARGV[4]
local held = redis.call('ZSCORE', KEYS[1], id)
if not held or text(held) ~= ARGV[2] then return 0 end
if record == '' then
  redis.call('HDEL', KEYS[2], id)
else
  redis.call('HSET', KEYS[2], id, record)
end
if wait ~= '' then
  redis.call('ZADD', KEYS[1], text(now + wait), id)
else
  redis.call('ZREM', KEYS[1], id)
  if record ~= '' then redis.call('ZADD', KEYS[3], text(now), id) end
end
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[4], 'XX', text(now), id) end
return 1
"""
)

# Tells which webhooks have waited long enough.
#
# KEYS[1]   holds
# ARGV[1]   the most to answer
# Returns   {now, when the next one has or '', {id…}}
RELEASED: Final = (
    _CLOCK
    + r"""
local later = redis.call('ZRANGE', KEYS[1], '(' .. text(now), '+inf',
                         'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return {text(now), later[2] or '',
        redis.call('ZRANGE', KEYS[1], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, ARGV[1])}
"""
)

# Forgets what was given up long enough ago.
#
# KEYS      dead, records
# ARGV      how long it is remembered, the most to forget
# Returns   how many went
FORGET: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local gone = redis.call('ZRANGE', KEYS[1], '-inf', text(now - ARGV[1]),
                        'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(gone) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
return #gone
"""
)

# Makes what was given up due again, as if nothing had been tried.
#
# KEYS      due, records, dead
# ARGV      ids
# Returns   those that had been given up
RETRY: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local moved = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[3], id) == 1 then
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZADD', KEYS[1], 'NX', text(now), id)
    moved[#moved + 1] = id
  end
end
return moved
"""
)

# Takes, or keeps, what one task at a time may have; released by itself after a while.
#
# KEYS[1]   the lock
# ARGV      who takes it, for how many milliseconds
# Returns   1; or 0 when somebody else has it
LOCK: Final = r"""#!lua flags=allow-oom
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# Turns a lock into one that nobody has and that runs out by itself, unless it is another's.
#
# KEYS[1]   the lock
# ARGV      who has it, for how many milliseconds nobody gets it
# Returns   1; or 0 when somebody else has it
SEAL: Final = r"""#!lua flags=allow-oom
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[2])
return 1
"""

# Gives a lock back.
#
# KEYS[1]   the lock
# ARGV[1]   who has it
# Returns   1; or 0 when somebody else has it, or nobody
UNLOCK: Final = r"""#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
