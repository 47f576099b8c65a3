"""The scripts of roles, and of workers that live: what the registry asks of Redis."""

from typing import Final

# Takes or renews a role that one holder has at a time.
#
# KEYS[1]   the role's hash
# ARGV      holder, duration
# Returns   1 when the holder has it now, else 0
HOLD: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local h = redis.call('HMGET', KEYS[1], 'holder', 'until')
if h[1] and h[1] ~= ARGV[1] and tonumber(h[2]) > now then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
return 1
"""

# Gives a role up.
#
# KEYS[1]   the role's hash
# ARGV[1]   holder
# Returns   1 when the holder had it, else 0
RELEASE: Final = r"""#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# Notes that a worker lives, and tells what operators wish of it.
#
# KEYS      worker records, workers seen, wishes
# ARGV      worker, record
# Returns   {the wish, or ''}
HEARTBEAT: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', T[1] * 1000000 + T[2]), ARGV[1])
return {redis.call('HGET', KEYS[3], ARGV[1]) or ''}
"""

# Notes what operators wish of a worker, and tells it so. A worker that drains is not just paused.
#
# KEYS      worker records, wishes, the worker's control list
# ARGV      worker, wish ('' = none any more), the word, the most words that may wait
# Returns   1, or 0 when there is no such worker
WISH: Final = r"""#!lua flags=allow-oom
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
elseif ARGV[2] ~= 'pause' or redis.call('HGET', KEYS[2], ARGV[1]) ~= 'drain' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
if redis.call('RPUSH', KEYS[3], ARGV[3]) > tonumber(ARGV[4]) then redis.call('LPOP', KEYS[3]) end
redis.call('EXPIRE', KEYS[3], 86400)
return 1
"""

# Lists the workers heard of lately, and forgets the others.
#
# KEYS      worker records, workers seen, wishes, offers
# ARGV[1]   how long ago is lately
# Returns   {{record, seen time}…}
WORKERS: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
local since = string.format('%.0f', T[1] * 1000000 + T[2] - ARGV[1])
local gone = redis.call('ZRANGE', KEYS[2], '-inf', '(' .. since, 'BYSCORE', 'LIMIT', 0, 128)
for _, w in ipairs(gone) do
  redis.call('HDEL', KEYS[1], w)
  redis.call('ZREM', KEYS[2], w)
  redis.call('HDEL', KEYS[3], w)
  redis.call('HDEL', KEYS[4], w, w .. '=')
end
local out, seen = {}, redis.call('ZRANGE', KEYS[2], 0, 1023, 'WITHSCORES')
for i = 1, #seen, 2 do
  local record = redis.call('HGET', KEYS[1], seen[i])
  if record then out[#out+1] = {record, seen[i+1]} end
end
return out
"""
