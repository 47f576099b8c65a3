"""The scripts in which Redis compares and writes, atomically. They hold no rules.

Every script declares all its keys, checks before its first write (Lua does not roll back) and runs
on Redis 7.0 and Valkey. Times are microseconds by Redis TIME. `allow-oom` lets running work end
when memory has run out; only the commits that accept new work go without.
"""

from typing import Final

# Applies frames, each all or nothing, each only if its task is at the expected sequence.
#
# KEYS      log, leases, offers, paused queues, wishes; then whatever else the frames name
# ARGV[1]   number of lists of moves; then for each:
#           number of moves, then for each: op, key index, member ('' = the task's id), score
#           op Z: add with score   T: add with score + now   R: remove
#              W: push the member unless `score` wait
#              C: push the member, keep the newest `score`, and the list for a day
#              D: delete the key   K: let the key hold the member, for `score` microseconds
#              U: delete the key if it holds the member   I: add `score` to the member of a hash
#              E: another fact (member), right behind the first
#              H: hand the task to a worker that offered to take this queue's (member) next one;
#                 then the next two moves, which make it ready and wake somebody, are left out
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
-- Starts the attempt of a worker that waits idle, in the place of a claim, if the task need not
-- wait for others; a worker that does not listen any more is passed over.
local nobody = {}
local function hand(k, queue, ready, t, id, seq, at, record, first)
  if nobody[k] or added[ready] then return false end
  nobody[k] = true
  local since = '(' .. string.format('%.0f', now)
  local idle = redis.call('ZRANGE', KEYS[k], since, '+inf', 'BYSCORE', 'LIMIT', 0, 8)
  if #idle == 0 or redis.call('EXISTS', KEYS[ready]) == 1 then return false end
  if redis.call('HEXISTS', KEYS[4], queue) == 1 then return false end
  for _, worker in ipairs(idle) do
    redis.call('ZREM', KEYS[k], worker)
    local offer = redis.call('HGET', KEYS[3], worker)
    -- of a worker that is to pause or drain nothing more is begun, whether it has heard so or not
    if offer and redis.call('HEXISTS', KEYS[5], worker) == 0 then
      redis.call('HDEL', KEYS[3], worker)
      local operation, lease, length, p = struct.unpack('<c8I8H', offer)
      local e = string.sub(offer, p + length)
        .. struct.pack('<BI8BI8BBBI4', 17, seq + 1, 25, at, 90, 5, 13, 1)
      local told = struct.pack('<HI4I4', #id, #record, #first) .. id .. record .. first .. e
      if redis.call('PUBLISH', string.sub(offer, p, p + length - 1), told) > 0 then
        nobody[k] = false
        redis.call('HSET', t, 'n', 1, 'q', seq + 1, seq + 1, e)
        redis.call('XADD', log, '*', 't', id, 'e', e)
        redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), id .. '/1')
        redis.call('HSET', KEYS[3], worker .. '=', operation .. id)
        return true
      end
    end
  end
  return false
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
      record = record .. struct.pack('<BI8', 17, at)
      set[#set+1] = 'r'; set[#set+1] = record
    end
    if ARGV[i+5] ~= '' then set[#set+1] = 'p'; set[#set+1] = ARGV[i+5] end
    if #set > 0 then redis.call('HSET', t, unpack(set)) end
    if event ~= '' then redis.call('XADD', log, '*', 't', id, 'e', event) end
    out[c] = {seq, at}
    local list, skipped = lists[tonumber(ARGV[i+9])], 0
    for m, move in ipairs(list) do
      local op, k, member, score = move[1], move[2], move[3], move[4]
      if member == '' then member = id end
      if skipped > 0 then
        skipped = skipped - 1
      elseif op == 'Z' or op == 'T' then
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
      elseif op == 'H' then
        if hand(k, member, list[m+1][2], t, id, seq, at, record, event) then skipped = 2 end
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
# KEYS      log, leases, paused queues, offers; then for each queue its ready set, its wake list and
#           who waits idle for it; then one task hash for each candidate
# ARGV      n, lease, number of queues, window (0 = do not look), event template, operation (its 8
#           bytes in the template), worker whose offer is withdrawn ('' = none), operation of its
#           last offer that it knows was taken, its new offer ('' = none) and how long that stands,
#           the queues by name, then for each candidate: index of its queue from 1, task id
#           A candidate that is not ready, but was started by this operation, is answered again.
#           One that is ready again, after an attempt of this operation was lost, is left out: the
#           next claim starts it, by an operation of its own.
#           The offer is made when a slot is left and nothing is ready. What a commit did to the one
#           before is told, and takes one of the n.
# Returns   {now, {{id, sequence, record, event 1, event}…}, {{id, id…} for each queue},
#           {operation, task id} handed over and still running, or {}}
CLAIM: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local left, lease, queues, window = tonumber(ARGV[1]), now + ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first = 11 + queues
local started, ready, paused, handed = {}, {}, {}, {}
if queues > 0 then paused = redis.call('HMGET', KEYS[3], unpack(ARGV, 11, first - 1)) end
local worker = ARGV[7]
if worker ~= '' then
  redis.call('HDEL', KEYS[4], worker)
  local taken = redis.call('HGET', KEYS[4], worker .. '=')
  if taken and string.sub(taken, 1, 8) ~= ARGV[8] then
    local id = string.sub(taken, 9)
    if redis.call('ZSCORE', KEYS[2], id .. '/1') then
      handed = {string.sub(taken, 1, 8), id}
      left = math.max(0, left - 1)
    end
  end
end
-- Who is ready, one look a queue.
local named, waits = {}, {}
for i = first, #ARGV, 2 do
  local k = ARGV[i]
  if not named[k] then named[k] = {} end
  table.insert(named[k], ARGV[i+1])
end
for k, ids in pairs(named) do
  local scores = redis.call('ZMSCORE', KEYS[2 + 3 * k], unpack(ids))
  for n, id in ipairs(ids) do waits[id] = scores[n] end
end
-- A repeat answers what it started. First of all, so that it starts nothing else instead: another
-- candidate may have become ready since.
for i = first, #ARGV, 2 do
  local id, t = ARGV[i+1], KEYS[5 + 3 * queues + (i - first) / 2]
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
  local k, id, t = ARGV[i], ARGV[i+1], KEYS[5 + 3 * queues + (i - first) / 2]
  local h = {}
  if waits[id] and not paused[tonumber(k)] then h = redis.call('HMGET', t, 'q', 'n', 'r', '1') end
  local before = h[2] and redis.call('HGET', t, tostring(tonumber(h[1]) - 1))
  if h[1] ~= nil and not (before and string.find(before, ARGV[6], 1, true)) then
    waits[id] = false
    if not taken[k] then taken[k] = {} end
    table.insert(taken[k], id)
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
for k, ids in pairs(taken) do redis.call('ZREM', KEYS[2 + 3 * k], unpack(ids)) end
if #leases > 0 then redis.call('ZADD', KEYS[2], unpack(leases)) end
if window ~= '0' then
  local idle = left > 0 and ARGV[9] ~= ''
  for k = 1, queues do
    ready[k] = {}
    if not paused[k] then ready[k] = redis.call('ZRANGE', KEYS[2 + 3 * k], 0, window - 1) end
    -- at this instant every wake-up of an empty queue is stale
    if #ready[k] == 0 then redis.call('DEL', KEYS[3 + 3 * k]) else idle = false end
  end
  if idle then
    redis.call('HSET', KEYS[4], worker, ARGV[9])
    local stands = string.format('%.0f', now + ARGV[10])
    for k = 1, queues do redis.call('ZADD', KEYS[4 + 3 * k], stands, worker) end
  end
end
return {string.format('%.0f', now), started, ready, handed}
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
