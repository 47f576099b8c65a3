"""The scripts on deliveries that are kept: replayed, listed and at last forgotten.

What delivery_scripts says of queues, leases, lines and circuits holds here too.
"""

from typing import Final

from callsheet.ledger.delivery_scripts import CLOCK, LINES

# Makes deliveries wait again that have ended, and those due at once that wait.
#
# KEYS      projects, circuits, leases, disabled; then whatever the frames name
# ARGV      how long a circuit may hold up; then for each frame: deliveries key index, due key
#           index, index of the project's five lists (all, waiting, dead, lines, disabled), line,
#           task id, task's create time, endpoint, key, record as it was read, new record, the
#           endpoint's disabled field
# Returns   how many frames apply: a delivery that is another one by now is left as it is
REPLAY: Final = (
    "#!lua flags=allow-oom\n"
    + CLOCK
    + LINES
    + r"""
local function is_before(a, b)
  local as, at = string.match(a, '^(%d+)%-?(%d*)$')
  local bs, bt = string.match(b, '^(%d+)%-?(%d*)$')
  as, bs = tonumber(as), tonumber(bs)
  return as < bs or (as == bs and (tonumber(at) or 0) < (tonumber(bt) or 0))
end

-- Puts the key among those that wait, in order, but never before a head under a lease.
local function among(waiting, key, leased)
  local tokens, placed = {}, false
  for k, m in string.gmatch(waiting, '([%d-]+)(!?)') do
    if not placed and not (leased and #tokens == 0) and is_before(key, k) then
      tokens[#tokens+1], placed = key .. '!', true
    end
    tokens[#tokens+1] = k .. m
  end
  if not placed then tokens[#tokens+1] = key .. '!' end
  return table.concat(tokens, ' ')
end

local function waits(waiting, key)
  for k in string.gmatch(waiting, '[%d-]+') do
    if k == key then return true end
  end
  return false
end

local replayed, touched = 0, {}
for i = 2, #ARGV, 11 do
  local h, due, all = KEYS[tonumber(ARGV[i])], KEYS[tonumber(ARGV[i+1])], tonumber(ARGV[i+2])
  local line, endpoint, key, new = ARGV[i+3], ARGV[i+6], ARGV[i+7], ARGV[i+9]
  local member, field = ARGV[i+4] .. '/' .. endpoint, endpoint .. '/' .. key
  local m = redis.call('HMGET', h, 'created', field, endpoint .. ':waiting')
  local is_same = m[1] == ARGV[i+5] and m[2]
  if is_same and (m[2] == ARGV[i+8] or string.sub(m[2], 1, #new) == new) then
    local waiting, leased = m[3] or '', redis.call('ZSCORE', KEYS[3], member)
    replayed = replayed + 1
    redis.call('HDEL', KEYS[4], ARGV[i+10])
    redis.call('ZREM', KEYS[all+4], endpoint)
    if not waits(waiting, key) then
      redis.call('HSET', h, endpoint .. ':waiting', among(waiting, key, leased),
                 field, new .. struct.pack('<BI8', 25, now))
      redis.call('ZADD', KEYS[all+1], redis.call('ZSCORE', KEYS[all], member .. '/' .. key)
                 or text(now), member .. '/' .. key)
      redis.call('ZREM', KEYS[all+2], member .. '/' .. key)
    elseif not leased and string.match(waiting, '[%d-]+') == key then
      redis.call('HSET', h, field, m[2] .. struct.pack('<BI8', 25, now))
    end
    if not leased then
      redis.call('ZADD', due, text(now), member)
      touched[line] = {KEYS[all+3], due}
    end
  end
end
for line, t in pairs(touched) do rank(KEYS[1], t[1], KEYS[2], line, t[2], tonumber(ARGV[1])) end
return replayed
"""
)

# Reads records.
#
# KEYS      for each its deliveries hash
# ARGV      for each its field
# Returns   for each the record or nil
RECORDS: Final = r"""
local out = {}
for i, h in ipairs(KEYS) do out[i] = redis.call('HGET', h, ARGV[i]) end
return out
"""

# Reads the newest progress of tasks.
#
# KEYS      for each its task's hash
# Returns   for each the signal's record or nil
PROGRESS: Final = r"""
local out = {}
for i, t in ipairs(KEYS) do out[i] = redis.call('HGET', t, 'p') end
return out
"""

# Tells which of some tasks have deliveries that wait.
#
# KEYS      for each its deliveries hash
# Returns   for each 1 or 0
WAITING: Final = r"""
local out = {}
for i, h in ipairs(KEYS) do
  out[i] = 0
  for _, field in ipairs(redis.call('HKEYS', h)) do
    if string.sub(field, -8) == ':waiting' then out[i] = 1 end
  end
end
return out
"""

# Tells whose deliveries may be forgotten by now.
#
# KEYS[1]   ended
# ARGV[1]   the most tasks to answer
# Returns   {task id…}
FORGETTABLE: Final = (
    CLOCK
    + r"""
return redis.call('ZRANGE', KEYS[1], '-inf', text(now), 'BYSCORE', 'LIMIT', 0, ARGV[1])
"""
)

# Reads the projects of tasks' deliveries.
#
# KEYS      for each its deliveries hash
# Returns   for each the project or ''
PROJECTS: Final = r"""
local out = {}
for i, h in ipairs(KEYS) do out[i] = redis.call('HGET', h, 'project') or '' end
return out
"""

# Forgets the deliveries of tasks whose last delivery ended long enough ago, and with them which
# endpoints of their projects were disabled as long ago: each was by such a delivery.
#
# KEYS      ended, disabled; then for each task its deliveries hash and its project's lists (all,
#           dead, disabled)
# ARGV      for each task its id and its project
# Returns   how many tasks' deliveries were forgotten
FORGET: Final = (
    "#!lua flags=allow-oom\n"
    + CLOCK
    + r"""
local forgotten = 0
for i = 1, #ARGV / 2 do
  local id, project, endpoints = ARGV[2 * i - 1], ARGV[2 * i], KEYS[4 * i + 2]
  local h, all, dead = KEYS[4 * i - 1], KEYS[4 * i], KEYS[4 * i + 1]
  for _, endpoint in ipairs(redis.call('ZRANGE', endpoints, '-inf', text(now), 'BYSCORE',
                                       'LIMIT', 0, 100)) do
    redis.call('ZREM', endpoints, endpoint)
    redis.call('HDEL', KEYS[2], project .. '/' .. endpoint)
  end
  local due = redis.call('ZSCORE', KEYS[1], id)
  if due and tonumber(due) <= now then
    local fields, waits = redis.call('HKEYS', h), false
    for _, field in ipairs(fields) do
      waits = waits or string.sub(field, -8) == ':waiting'
    end
    -- where another endpoint's delivery still waits, its end will remember the task again
    redis.call('ZREM', KEYS[1], id)
    if not waits then
      for _, field in ipairs(fields) do
        if string.find(field, '/', 1, true) then
          redis.call('ZREM', all, id .. '/' .. field)
          redis.call('ZREM', dead, id .. '/' .. field)
        end
      end
      redis.call('DEL', h)
      forgotten = forgotten + 1
    end
  end
end
return forgotten
"""
)
