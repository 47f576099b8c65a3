"""The scripts of the delivery queues, one queue for each task and endpoint.

As in redis_scripts: every key is declared, times are microseconds by Redis TIME, everything may be
repeated. A queue's head is its lowest waiting sequence; the queue is due when its head is.
"""

from typing import Final

_CLOCK: Final = r"""
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local function text(time) return string.format('%.0f', time) end
"""

# Keeps an origin's first due time beside those of the other origins.
_RANK: Final = r"""
local function rank(origins, origin, due)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if #first == 0 then
    redis.call('ZREM', origins, origin)
  else
    redis.call('ZADD', origins, first[2], origin)
  end
end
"""

# Records deliveries and moves the reader's cursor behind the facts they tell of, together.
#
# KEYS      hold, cursors, epoch, origins, leases; then whatever the frames name
# ARGV      holder, reader, cursor before, cursor after, epoch, number of frames; then for each:
#           deliveries key index, due key index, origin, task id, endpoint, sequence,
#           mark ('!': every one is delivered; '': only the newest needs to be), record
#           A sequence that was recorded for the endpoint before is passed over. One marked '' that
#           still waits gives way to a newer one.
# Returns   how many were recorded; -1 when holder, cursor or epoch is another: nothing was changed
RECORD: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + _RANK
    + r"""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return -1 end
if redis.call('GET', KEYS[3]) ~= ARGV[5] then return -1 end
local at = redis.call('HGET', KEYS[2], ARGV[2]) or '0-0'
if at ~= ARGV[3] then
  -- this very step, repeated after a lost answer, changes nothing
  return at == ARGV[4] and 0 or -1
end
local recorded = 0
for i = 7, #ARGV, 8 do
  local h, due = KEYS[tonumber(ARGV[i])], KEYS[tonumber(ARGV[i+1])]
  local endpoint, sequence, mark = ARGV[i+4], ARGV[i+5], ARGV[i+6]
  local member = ARGV[i+3] .. '/' .. endpoint
  local last = tonumber(redis.call('HGET', h, endpoint .. ':last') or '0')
  if tonumber(sequence) > last then
    recorded = recorded + 1
    local waiting = ''
    local before = redis.call('HGET', h, endpoint .. ':waiting') or ''
    for s, m in string.gmatch(before, '(%d+)(!?)') do
      if m == '' then
        redis.call('HDEL', h, endpoint .. '/' .. s)
      else
        waiting = waiting .. s .. m .. ' '
      end
    end
    redis.call('HSET', h, endpoint .. ':last', sequence,
               endpoint .. ':waiting', waiting .. sequence .. mark,
               endpoint .. '/' .. sequence,
               ARGV[i+7] .. struct.pack('<BI8BI8', 17, now, 25, now))
    -- a queue under a lease is made due by whoever holds it; one that backs off goes on doing so,
    -- unless what came must be delivered
    if not redis.call('ZSCORE', KEYS[5], member)
       and (mark == '!' or not redis.call('ZSCORE', due, member)) then
      redis.call('ZADD', due, text(now), member)
      rank(KEYS[4], ARGV[i+2], due)
    end
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return recorded
"""
)

# Tells which origins have due deliveries.
#
# KEYS[1]   origins
# ARGV[1]   the most origins to answer
# Returns   {now, the next due time or '', {origin…} longest due first}
DUE_ORIGINS: Final = (
    _CLOCK
    + r"""
local later = redis.call('ZRANGE', KEYS[1], '(' .. text(now), '+inf',
                         'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return {text(now), later[2] or '',
        redis.call('ZRANGE', KEYS[1], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, ARGV[1])}
"""
)

# Takes due queues under a lease; a lease that has run out is as good as none.
#
# KEYS      origins, leases; then one due set for each origin
# ARGV      lease; then for each: origin, the most queues to take
# Returns   {now, expire time of the leases, {{index of the origin from 1, task id/endpoint}…}}
CLAIM_DUE: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + _RANK
    + r"""
local expire = text(now + ARGV[1])
local taken = {}
for i = 3, #KEYS do
  local origin, most = ARGV[2 * i - 4], ARGV[2 * i - 3]
  local due = redis.call('ZRANGE', KEYS[i], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    redis.call('ZADD', KEYS[i], expire, member)
    redis.call('ZADD', KEYS[2], expire, member)
    taken[#taken+1] = {i - 2, member}
  end
  rank(KEYS[1], origin, KEYS[i])
end
return {text(now), expire, taken}
"""
)

# Reads the heads of queues.
#
# KEYS      one deliveries hash for each queue
# ARGV      the endpoint of each
# Returns   for each the record of its head, or '' when nothing waits
HEADS: Final = r"""
local out = {}
for i, h in ipairs(KEYS) do
  local head = string.match(redis.call('HGET', h, ARGV[i] .. ':waiting') or '', '%d+')
  out[i] = head and redis.call('HGET', h, ARGV[i] .. '/' .. head) or ''
end
return out
"""

# Writes what became of a head, gives the lease back, and makes the queue due again if it waits.
#
# KEYS      deliveries, due, origins, leases, ended
# ARGV      origin, task id, endpoint, sequence, expire time of the lease, record,
#           wait before the next try ('' = the delivery has ended), how long an end is remembered
# Returns   1; or 0 when the lease is another's: nothing was changed
SETTLE: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + _RANK
    + r"""
local h, endpoint, sequence, wait = KEYS[1], ARGV[3], ARGV[4], ARGV[7]
local member = ARGV[2] .. '/' .. endpoint
local held = redis.call('ZSCORE', KEYS[4], member)
if not held or text(held) ~= ARGV[5] then return 0 end
local waiting = redis.call('HGET', h, endpoint .. ':waiting') or ''
local due = now
-- one that gave way to a newer one meanwhile has no record any more; the newer one need not wait
if redis.call('HEXISTS', h, endpoint .. '/' .. sequence) == 1 then
  due = now + (tonumber(wait) or 0)
  local stamp = struct.pack('<BI8', wait == '' and 33 or 25, due)
  redis.call('HSET', h, endpoint .. '/' .. sequence, ARGV[6] .. stamp)
  if wait == '' then
    local left = {}
    for s, m in string.gmatch(waiting, '(%d+)(!?)') do
      if s ~= sequence then left[#left+1] = s .. m end
    end
    waiting = table.concat(left, ' ')
    redis.call('ZADD', KEYS[5], text(now + ARGV[8]), ARGV[2])
  end
end
redis.call('ZREM', KEYS[4], member)
if waiting == '' then
  redis.call('HDEL', h, endpoint .. ':waiting')
  redis.call('ZREM', KEYS[2], member)
else
  redis.call('HSET', h, endpoint .. ':waiting', waiting)
  redis.call('ZADD', KEYS[2], text(due), member)
end
rank(KEYS[3], ARGV[1], KEYS[2])
return 1
"""
)

# Forgets the deliveries of tasks whose last delivery ended long enough ago.
#
# KEYS      ended; then one deliveries hash for each task
# ARGV      the task id of each
# Returns   how many tasks' deliveries were forgotten
FORGET: Final = (
    "#!lua flags=allow-oom\n"
    + _CLOCK
    + r"""
local forgotten = 0
for i, id in ipairs(ARGV) do
  local due = redis.call('ZSCORE', KEYS[1], id)
  if due and tonumber(due) <= now then
    local waits = false
    for _, field in ipairs(redis.call('HKEYS', KEYS[i+1])) do
      waits = waits or string.sub(field, -8) == ':waiting'
    end
    -- where another endpoint's delivery still waits, its end will remember the task again
    redis.call('ZREM', KEYS[1], id)
    if not waits then
      redis.call('DEL', KEYS[i+1])
      forgotten = forgotten + 1
    end
  end
end
return forgotten
"""
)
