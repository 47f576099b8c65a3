"""The scripts in which Redis compares and writes, atomically. They hold no rules.

Every script declares all its keys, checks before its first write (Lua does not roll back) and runs
on Redis 7.0 and Valkey. Times are microseconds by Redis TIME. `allow-oom` lets running work end
when memory has run out; only the commits that accept new work go without.
"""

from typing import Final

# Applies frames, each all or nothing, each only if its task is at the expected sequence.
#
# KEYS[1]   log; KEYS[2…] whatever the frames name
# ARGV[1]   number of lists of moves; then for each:
#           number of moves, then for each: op, key index, member ('' = the task's id), score
#           op Z: add with score   T: add with score + now   R: remove
#              W: push the member unless `score` wait
#              C: push the member, keep the newest `score`, and the list for a day
#              D: delete the key   K: let the key hold the member, for `score` microseconds
#              U: delete the key if it holds the member   I: add `score` to the member of a hash
#              E: another fact (member), right behind the first
# ARGV      number of frames; then for each:
#           task key index, task id, expected sequence, record ('' = leave it), event ('' = none),
#           progress ('' = leave it), guard key index (0 = none), guard member, guard score
#           ('' = the key holds just the member, or nothing when that is ''), number of its list of
#           moves
# Returns   for each frame {sequence, time} when applied, else
#           {'', sequence, record, event 1, event expected + 1, last event, progress}
# What frames add to a sorted set, or remove from it, goes there in one command: before anything
# else touches the set, and at the end. Times are whole numbers below 2^53, which Redis writes out
# in full.
_COMMIT: Final = r"""
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local i, out, log, lists = 2, {}, KEYS[1], {}
for l = 1, tonumber(ARGV[1]) do
  local list, first = {}, i + 1
  for m = 1, tonumber(ARGV[i]) do
    local p = first + (m - 1) * 4
    list[m] = {ARGV[p], tonumber(ARGV[p+1]), ARGV[p+2], tonumber(ARGV[p+3])}
  end
  i = first + #list * 4
  lists[l] = list
end
local added, removed, length = {}, {}, {}
local function settle(k)
  local set = added[k]
  if set then
    added[k] = nil
    redis.call('ZADD', KEYS[k], unpack(set))
  end
  set = removed[k]
  if set then
    removed[k] = nil
    redis.call('ZREM', KEYS[k], unpack(set))
  end
end
local frames = tonumber(ARGV[i])
i = i + 1
for c = 1, frames do
  local id, expected, record, event = ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4]
  local t = KEYS[tonumber(ARGV[i])]
  local q = redis.call('HGET', t, 'q') or '0'
  local ok = q == expected
  local g = tonumber(ARGV[i+6])
  if ok and g > 0 then
    if ARGV[i+8] == '' then
      ok = (redis.call('GET', KEYS[g]) or '') == ARGV[i+7]
    else
      settle(g)
      local s = redis.call('ZSCORE', KEYS[g], ARGV[i+7])
      ok = s and tonumber(s) <= tonumber(ARGV[i+8])
    end
  end
  -- a microsecond apart, so that no two tasks of one call share a score in a list
  local at = now + c - 1
  if ok then
    local seq = tonumber(expected)
    local set = {}
    if event ~= '' then
      seq = seq + 1
      event = event .. struct.pack('<BI8BI8', 17, seq, 25, at)
      set[1], set[2], set[3], set[4] = 'q', seq, seq, event
    end
    if record ~= '' then
      set[#set+1] = 'r'; set[#set+1] = record .. struct.pack('<BI8', 17, at)
    end
    if ARGV[i+5] ~= '' then set[#set+1] = 'p'; set[#set+1] = ARGV[i+5] end
    if #set > 0 then redis.call('HSET', t, unpack(set)) end
    if event ~= '' then redis.call('XADD', log, '*', 't', id, 'e', event) end
    out[c] = {seq, at}
    for _, move in ipairs(lists[tonumber(ARGV[i+9])]) do
      local op, k, member, score = move[1], move[2], move[3], move[4]
      if member == '' then member = id end
      if op == 'Z' or op == 'T' then
        if op == 'T' then score = score + at end
        if removed[k] then settle(k) end
        local set = added[k]
        if not set then set = {}; added[k] = set end
        local n = #set
        set[n+1] = score; set[n+2] = member
      elseif op == 'R' then
        if added[k] then settle(k) end
        local set = removed[k]
        if not set then set = {}; removed[k] = set end
        set[#set+1] = member
      elseif op == 'W' then
        local n = length[k] or redis.call('LLEN', KEYS[k])
        if n < score then n = redis.call('RPUSH', KEYS[k], member) end
        length[k] = n
      elseif op == 'C' then
        if redis.call('RPUSH', KEYS[k], member) > score then redis.call('LPOP', KEYS[k]) end
        -- of a worker that died, nobody else would ever remove it
        redis.call('EXPIRE', KEYS[k], 86400)
      elseif op == 'D' then
        settle(k)
        redis.call('DEL', KEYS[k])
      elseif op == 'K' then
        redis.call('SET', KEYS[k], member, 'PX', string.format('%.0f', math.ceil(score / 1000)))
      elseif op == 'U' then
        if redis.call('GET', KEYS[k]) == member then redis.call('DEL', KEYS[k]) end
      elseif op == 'I' then
        redis.call('HINCRBY', KEYS[k], member, score)
      elseif op == 'E' then
        local second = member .. struct.pack('<BI8BI8', 17, seq + 1, 25, at)
        redis.call('HSET', t, 'q', seq + 1, seq + 1, second)
        redis.call('XADD', log, '*', 't', id, 'e', second)
      end
    end
  else
    local h = redis.call('HMGET', t, 'q', 'r', '1', tostring(tonumber(expected) + 1), q, 'p')
    out[c] = {'', h[1], h[2], h[3], h[4], h[5], h[6]}
  end
  i = i + 10
end
for k in pairs(added) do settle(k) end
for k in pairs(removed) do settle(k) end
return out
"""

# Commits that accept new work: refused by Redis itself when memory has run out.
ADMIT: Final = _COMMIT
# All other commits: work that was accepted can end even then.
COMMIT: Final = "#!lua flags=allow-oom\n" + _COMMIT

# Starts the first n candidates that are still ready; answers also what is ready next. Of a paused
# queue nothing is ready.
#
# KEYS[1]   log; KEYS[2] leases; KEYS[3] paused queues; then for each queue its ready set and its
#           wake list; then one task hash for each candidate
# ARGV      n, lease, number of queues, window (0 = do not look), event template, operation (its 8
#           bytes in the template), the queues by name, then for each candidate: index of its queue
#           from 1, task id
#           A candidate that is not ready, but was started by this operation, is answered again.
# Returns   {now, {{id, sequence, record, event 1, event}…}, {{id, id…} for each queue}}
CLAIM: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local left, lease, queues, window = tonumber(ARGV[1]), now + ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first = 7 + queues
local started, ready, paused = {}, {}, {}
if queues > 0 then paused = redis.call('HMGET', KEYS[3], unpack(ARGV, 7, first - 1)) end
-- Who is ready, one look a queue.
local named, waits = {}, {}
for i = first, #ARGV, 2 do
  local k = ARGV[i]
  if not named[k] then named[k] = {} end
  table.insert(named[k], ARGV[i+1])
end
for k, ids in pairs(named) do
  local scores = redis.call('ZMSCORE', KEYS[2 + 2 * k], unpack(ids))
  for n, id in ipairs(ids) do waits[id] = scores[n] end
end
-- A repeat answers what it started. First of all, so that it starts nothing else instead: another
-- candidate may have become ready since.
for i = first, #ARGV, 2 do
  local id, t = ARGV[i+1], KEYS[4 + 2 * queues + (i - first) / 2]
  if not waits[id] then
    local q = redis.call('HGET', t, 'q')
    local e = q and redis.call('HGET', t, q)
    if e and string.find(e, ARGV[6], 1, true) then
      local h = redis.call('HMGET', t, 'r', '1')
      started[#started+1] = {id, tonumber(q), h[1], h[2], e}
    end
  end
end
if #started > 0 then left = 0 end
local taken, leases = {}, {}
for i = first, #ARGV, 2 do
  if left == 0 then break end
  local k, id, t = ARGV[i], ARGV[i+1], KEYS[4 + 2 * queues + (i - first) / 2]
  if waits[id] and not paused[tonumber(k)] then
    waits[id] = false
    if not taken[k] then taken[k] = {} end
    table.insert(taken[k], id)
    local h = redis.call('HMGET', t, 'q', 'n', 'r', '1')
    if h[1] then
      left = left - 1
      local q, n = tonumber(h[1]) + 1, tonumber(h[2] or '0') + 1
      local e = ARGV[5] .. struct.pack('<BI8BI8BBBI4', 17, q, 25, now, 90, 5, 13, n)
      redis.call('HSET', t, 'n', n, 'q', q, q, e)
      redis.call('XADD', KEYS[1], '*', 't', id, 'e', e)
      leases[#leases+1] = lease
      leases[#leases+1] = id .. '/' .. n
      started[#started+1] = {id, q, h[3], h[4], e}
    end
  end
end
for k, ids in pairs(taken) do redis.call('ZREM', KEYS[2 + 2 * k], unpack(ids)) end
if #leases > 0 then redis.call('ZADD', KEYS[2], unpack(leases)) end
if window ~= '0' then
  for k = 1, queues do
    ready[k] = {}
    if not paused[k] then ready[k] = redis.call('ZRANGE', KEYS[2 + 2 * k], 0, window - 1) end
    -- at this instant every wake-up of an empty queue is stale
    if #ready[k] == 0 then redis.call('DEL', KEYS[3 + 2 * k]) end
  end
end
return {string.format('%.0f', now), started, ready}
"""

# Lets nobody claim tasks of a queue; paused again, it stays paused since the first time.
#
# KEYS[1]   paused queues
# ARGV[1]   queue
# Returns   1 when it was not paused before, else 0
PAUSE: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
return redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%.0f', T[1] * 1000000 + T[2]))
"""

# Lets workers claim tasks of a queue again, and wakes as many as there are tasks ready.
#
# KEYS      paused queues, the queue's ready set, its wake list
# ARGV      queue, the most wake-ups that may wait
# Returns   1 when it was paused, else 0
RESUME: Final = r"""#!lua flags=allow-oom
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1)
if #ids > 0 then
  redis.call('DEL', KEYS[3])
  redis.call('RPUSH', KEYS[3], unpack(ids))
end
return 1
"""

# Extends leases that still stand, expired ones included.
#
# KEYS[1]   leases; then one task hash for each lease
# ARGV[1]   lease; then for each: id/attempt
# Returns   for each the task's sequence, or 0 when the lease is lost
RENEW: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
local lease = string.format('%.0f', T[1] * 1000000 + T[2] + ARGV[1])
local out = {}
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], lease, ARGV[i])
    out[i-1] = tonumber(redis.call('HGET', KEYS[i], 'q') or '0')
  else
    out[i-1] = 0
  end
end
return out
"""

# Reads tasks: snapshot and tail.
#
# KEYS      one task hash for each
# Returns   for each {sequence, record, event 1, last event, progress}, or {} for an unknown one
READ: Final = r"""
local out = {}
for i, t in ipairs(KEYS) do
  local q = redis.call('HGET', t, 'q')
  if q then
    local h = redis.call('HMGET', t, 'r', '1', q, 'p')
    out[i] = {q, h[1], h[2], h[3], h[4] or ''}
  else
    out[i] = {}
  end
end
return out
"""

# Tells whose time has come.
#
# KEYS[1]   a sorted set of times
# ARGV[1]   the most members to answer
# Returns   {now, {member…}}
DUE: Final = r"""
local T = redis.call('TIME')
local now = string.format('%.0f', T[1] * 1000000 + T[2])
return {now, redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])}
"""

# Tells what keys hold.
#
# KEYS      a string key for each
# Returns   {now, {what it holds, or ''}…}
HELD: Final = r"""
local T = redis.call('TIME')
local out = {}
for i, k in ipairs(KEYS) do out[i] = redis.call('GET', k) or '' end
return {string.format('%.0f', T[1] * 1000000 + T[2]), out}
"""

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
# KEYS      worker records, workers seen, wishes
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
end
local out, seen = {}, redis.call('ZRANGE', KEYS[2], 0, 1023, 'WITHSCORES')
for i = 1, #seen, 2 do
  local record = redis.call('HGET', KEYS[1], seen[i])
  if record then out[#out+1] = {record, seen[i+1]} end
end
return out
"""
