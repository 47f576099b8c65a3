"""The scripts of the delivery queues, one queue for each task and endpoint.

As in redis_scripts: every key is declared, times are microseconds by Redis TIME, everything may be
repeated. A queue's head is its first waiting delivery; the queue is due when its head is. A
delivery is named by its key: a fact's by its sequence, a signal's by sequence-time. The head of a
queue under a lease stays its head, whatever else is recorded or replayed.

Queues of one project and endpoint stand in one line. After failures in a row a line's circuit
opens: its queues wait, one at a time is tried as a probe, and what was due for too long is given
up.
"""

from typing import Final

CLOCK: Final = r"""
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local function text(time) return string.format('%.0f', time) end
"""

# A line's circuit: {failures in a row, when it is tried again (0 = closed), its last wait, the
# queue whose head is the probe ('' = none)}. `rank` keeps a line's first due time beside those of
# its project's others, and the project's first beside those of other projects, so that no project
# hides another; a line without a queue has no circuit either.
LINES: Final = r"""
local function circuit(circuits, line)
  local f, u, w, p = string.match(redis.call('HGET', circuits, line) or '',
                                  '^(%d+) (%d+) (%d+) (.*)$')
  if f then return {tonumber(f), tonumber(u), tonumber(w), p} end
end
local function keep(circuits, line, c)
  redis.call('HSET', circuits, line,
             table.concat({text(c[1]), text(c[2]), text(c[3]), c[4]}, ' '))
end
local function rank_line(lines, circuits, line, due, hold)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if #first == 0 then
    redis.call('ZREM', lines, line)
    redis.call('HDEL', circuits, line)
    return
  end
  local at, c = tonumber(first[2]), circuit(circuits, line)
  if c and c[2] > at then
    -- given up after `hold`, but never on the word of a probe that is still under way
    at = c[4] == '' and math.min(c[2], at + hold) or c[2]
  end
  redis.call('ZADD', lines, text(at), line)
end
local function rank(projects, lines, circuits, line, due, hold)
  rank_line(lines, circuits, line, due, hold)
  local project = string.match(line, '^[^/]*')
  local first = redis.call('ZRANGE', lines, 0, 0, 'WITHSCORES')
  if #first == 0 then
    redis.call('ZREM', projects, project)
  else
    redis.call('ZADD', projects, first[2], project)
  end
end
"""

# Records deliveries and moves the reader's cursor behind the facts they tell of, together.
#
# KEYS      hold, cursors, epoch, projects, circuits, leases; then whatever the frames name
# ARGV      holder, reader, cursor before, cursor after, epoch, how long a circuit may hold up,
#           number of frames; then for each:
#           deliveries key index, due key index, index of the project's five lists (all, waiting,
#           dead, lines, disabled, one after the other), line, project, task id, task's create time,
#           endpoint, key, mark ('!': every one is delivered; '': only the newest needs to be),
#           record
#           A fact that was recorded for the endpoint before is passed over, and so is a signal
#           that is not newer than all that was. One marked '' that still waits gives way to a newer
#           one. What is kept of an earlier task of the same id is dropped: it was pruned.
# Returns   how many were recorded; -1 when holder, cursor or epoch is another: nothing was changed
RECORD: Final = (
    "#!lua flags=allow-oom\n"
    + CLOCK
    + LINES
    + r"""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return -1 end
if redis.call('GET', KEYS[3]) ~= ARGV[5] then return -1 end
local at = redis.call('HGET', KEYS[2], ARGV[2]) or '0-0'
if at ~= ARGV[3] then
  -- this very step, repeated after a lost answer, changes nothing
  return at == ARGV[4] and 0 or -1
end

local function is_fresh(key, last, signal)
  local sequence, time = string.match(key, '^(%d+)%-?(%d*)$')
  if time == '' then return tonumber(sequence) > last end
  return tonumber(sequence) >= last and tonumber(time) > signal
end

local function drop(h, all, task_id, field)
  redis.call('HDEL', h, field)
  for list = all, all + 2 do redis.call('ZREM', KEYS[list], task_id .. '/' .. field) end
end

-- Makes the hash that of this very task; false: it is that of a later one.
local function is_of(h, all, task_id, created, project)
  local before = redis.call('HGET', h, 'created')
  if before == created then return true end
  if before and tonumber(before) > tonumber(created) then return false end
  if before then
    for _, field in ipairs(redis.call('HKEYS', h)) do
      if string.find(field, '/', 1, true) then drop(h, all, task_id, field) end
    end
    redis.call('DEL', h)
  end
  redis.call('HSET', h, 'created', created, 'project', project)
  return true
end

-- Returns what still waits before a newer one comes.
local function left(h, all, task_id, endpoint, waiting, leased)
  local kept, first = '', true
  for key, mark in string.gmatch(waiting, '([%d-]+)(!?)') do
    if mark == '!' or (first and leased) then
      kept = kept .. key .. mark .. ' '
    else
      drop(h, all, task_id, endpoint .. '/' .. key)
    end
    first = false
  end
  return kept
end

local recorded, touched = 0, {}
for i = 8, #ARGV, 11 do
  local h, due, all = KEYS[tonumber(ARGV[i])], KEYS[tonumber(ARGV[i+1])], tonumber(ARGV[i+2])
  local line, task_id, endpoint = ARGV[i+3], ARGV[i+5], ARGV[i+7]
  local key, mark = ARGV[i+8], ARGV[i+9]
  local member = task_id .. '/' .. endpoint
  if is_of(h, all, task_id, ARGV[i+6], ARGV[i+4]) then
    local m = redis.call('HMGET', h, endpoint .. ':last', endpoint .. ':signal',
                         endpoint .. ':waiting')
    if is_fresh(key, tonumber(m[1] or '0'), tonumber(m[2] or '0')) then
      local sequence, time = string.match(key, '^(%d+)%-?(%d*)$')
      local leased = redis.call('ZSCORE', KEYS[6], member)
      local waiting = m[3] and left(h, all, task_id, endpoint, m[3], leased) or ''
      -- a microsecond apart, so that no two of one call share a place in a list
      local stamp = now + recorded
      recorded = recorded + 1
      redis.call('HSET', h,
                 endpoint .. (time == '' and ':last' or ':signal'), time == '' and sequence or time,
                 endpoint .. ':waiting', waiting .. key .. mark,
                 endpoint .. '/' .. key, ARGV[i+10] .. struct.pack('<BI8BI8', 17, stamp, 25, stamp))
      redis.call('ZADD', KEYS[all], text(stamp), member .. '/' .. key)
      redis.call('ZADD', KEYS[all+1], text(stamp), member .. '/' .. key)
      -- a queue under a lease is made due by whoever holds it; one that backs off goes on doing
      -- so, unless what came must be delivered
      if not leased and (mark == '!' or not redis.call('ZSCORE', due, member)) then
        redis.call('ZADD', due, text(now), member)
        touched[line] = {KEYS[all+3], due}
      end
    end
  end
end
for line, t in pairs(touched) do rank(KEYS[4], t[1], KEYS[5], line, t[2], tonumber(ARGV[6])) end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return recorded
"""
)

# Takes due queues under a lease; a lease that has run out is as good as none. Then looks.
#
# KEYS      projects, circuits, leases, registry version; then for each line to take of its due set
#           and its project's lines; then for each project to look at its lines
# ARGV      lease, how long a circuit may hold up, the most projects to answer, number of lines to
#           take of; for each of these: line, the most queues to take; then for each project to look
#           at the most lines to answer
# Returns   {now, expire time of the leases, {{index of the line from 1, task id/endpoint, '' or
#           'held' = its circuit held it up for too long}…}, registry version or '',
#           {line of such a project… that is due, longest first within each},
#           {project… that has one, longest first}, when the next line is due or ''}
CLAIM_DUE: Final = (
    "#!lua flags=allow-oom\n"
    + CLOCK
    + LINES
    + r"""
local expire, hold, taken = text(now + ARGV[1]), tonumber(ARGV[2]), {}
local lines = tonumber(ARGV[4])
for i = 1, lines do
  local line, most, due, c = ARGV[2 * i + 3], ARGV[2 * i + 4], KEYS[2 * i + 3], nil
  local last, why = now, ''
  c = circuit(KEYS[2], line)
  if c and c[2] > now then
    last, why = now - hold, 'held'
    if c[4] ~= '' then most = 0 end
  elseif c and c[2] > 0 then
    most = 1
  end
  local found = redis.call('ZRANGE', due, '-inf', text(last), 'BYSCORE', 'LIMIT', 0, most)
  for _, member in ipairs(found) do
    redis.call('ZADD', due, expire, member)
    redis.call('ZADD', KEYS[3], expire, member)
    taken[#taken+1] = {i, member, why}
  end
  if #found == 1 and c and c[2] > 0 and why == '' then
    -- until it has spoken, or died, it is the only one
    keep(KEYS[2], line, {c[1], now + ARGV[1], c[3], found[1]})
  end
  rank(KEYS[1], KEYS[2 * i + 4], KEYS[2], line, due, hold)
end

local next_due
local function later(ranked)
  local first = redis.call('ZRANGE', ranked, '(' .. text(now), '+inf',
                           'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  if first[2] and (not next_due or tonumber(first[2]) < next_due) then
    next_due = tonumber(first[2])
  end
end
local function due_in(ranked, most)
  later(ranked)
  return redis.call('ZRANGE', ranked, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, most)
end

local found = {}
for i = 2 * lines + 5, #KEYS do
  for _, line in ipairs(due_in(KEYS[i], ARGV[i])) do found[#found+1] = line end
end
local projects = due_in(KEYS[1], ARGV[3])
return {text(now), expire, taken, redis.call('GET', KEYS[4]) or '', found, projects,
        next_due and text(next_due) or ''}
"""
)

# Reads the heads of queues, and the facts that their bodies are made of.
#
# KEYS      disabled; then for each queue its deliveries hash and its task's hash
# ARGV      for each queue its endpoint; last the most facts before, and after, the delivery's own
# Returns   for each {record of its head or '', why the endpoint is disabled or '', the first fact
#           or nil, the sequence of the next fact here, facts…}
HEADS: Final = r"""
local out, before, after = {}, ARGV[#ARGV-1], ARGV[#ARGV]
for i = 1, #ARGV - 2 do
  local h, t, endpoint = KEYS[2 * i], KEYS[2 * i + 1], ARGV[i]
  local m = redis.call('HMGET', h, endpoint .. ':waiting', 'project')
  local key = string.match(m[1] or '', '[%d-]+')
  if key then
    local sequence = tonumber(string.match(key, '^%d+'))
    local from = math.max(2, sequence - before)
    local fields = {'1'}
    for n = from, sequence + after do fields[#fields+1] = tostring(n) end
    local facts = redis.call('HMGET', t, unpack(fields))
    out[i] = {redis.call('HGET', h, endpoint .. '/' .. key) or '',
              redis.call('HGET', KEYS[1], (m[2] or '') .. '/' .. endpoint) or '',
              table.remove(facts, 1), from, facts}
  else
    out[i] = {'', '', false, 0, {}}
  end
end
return out
"""

# Writes what became of heads, gives the leases back, and makes queues due again that wait.
#
# KEYS      projects, circuits, leases, ended, disabled; then whatever the frames name
# ARGV      how long a circuit may hold up, failures in a row that open it, its first wait, its
#           longest wait; then for each frame:
#           deliveries key index, due key index, index of the project's five lists, line, task id,
#           task's create time, endpoint, key, expire time of the lease, record,
#           wait before the next try ('' = the delivery has ended), 'dead' or '', 'forget' = an end
#           is not kept or '', how long an end is remembered, '+' = the endpoint answers, '-' = it
#           does not, '' = nobody asked it, the endpoint's disabled field, its value ('' = none)
# Returns   for each 0 = the lease is another's, nothing was changed; 1 = written; 2 = it failed and
#           gave way to a newer one; then 'opened', 'closed' or '' for its circuit; then 1 = the
#           queue is due again at once, or 0
SETTLE: Final = (
    "#!lua flags=allow-oom\n"
    + CLOCK
    + LINES
    + r"""
local hold, failures = tonumber(ARGV[1]), tonumber(ARGV[2])
local shortest, longest = tonumber(ARGV[3]), tonumber(ARGV[4])

local function judge(line, member, evidence)
  local c = circuit(KEYS[2], line)
  if evidence == '+' then
    if not c then return '' end
    redis.call('HDEL', KEYS[2], line)
    return c[2] > 0 and 'closed' or ''
  end
  c = c or {0, 0, 0, ''}
  local is_probe = c[4] == member
  if evidence == '' then
    if is_probe then keep(KEYS[2], line, {c[1], now, c[3], ''}) end
    return ''
  end
  local opens = c[1] + 1 >= failures and c[2] == 0
  if opens then
    keep(KEYS[2], line, {c[1] + 1, now + shortest, shortest, ''})
  elseif is_probe then
    local wait = math.min(2 * c[3], longest)
    keep(KEYS[2], line, {c[1] + 1, now + wait, wait, ''})
  else
    keep(KEYS[2], line, {c[1] + 1, c[2], c[3], c[4]})
  end
  return opens and 'opened' or ''
end

local function without(waiting, key)
  local kept, mark, others = {}, '', 0
  for k, m in string.gmatch(waiting, '([%d-]+)(!?)') do
    if k == key then mark = m else kept[#kept+1] = k .. m end
  end
  return table.concat(kept, ' '), mark, #kept
end

-- Past a thousand of one project the oldest gives way: asked again, it can say so again.
local function disable(i, endpoints, line, endpoint)
  redis.call('HSET', KEYS[5], ARGV[i+15], ARGV[i+16])
  redis.call('ZADD', endpoints, text(now + ARGV[i+13]), endpoint)
  if redis.call('ZCARD', endpoints) > 1000 then
    local oldest = redis.call('ZPOPMIN', endpoints)[1]
    redis.call('HDEL', KEYS[5], string.match(line, '^[^/]*/') .. oldest)
  end
end

local out, touched = {}, {}
for i = 5, #ARGV, 17 do
  local h, due, all = KEYS[tonumber(ARGV[i])], KEYS[tonumber(ARGV[i+1])], tonumber(ARGV[i+2])
  local line, task_id, endpoint, key = ARGV[i+3], ARGV[i+4], ARGV[i+6], ARGV[i+7]
  local wait, member, field = ARGV[i+10], task_id .. '/' .. endpoint, endpoint .. '/' .. key
  local held = redis.call('ZSCORE', KEYS[3], member)
  if not held or text(held) ~= ARGV[i+8] then
    out[#out+1], out[#out+2], out[#out+3] = 0, '', 0
  else
    local done, at = 1, now
    local m = redis.call('HMGET', h, endpoint .. ':waiting', 'created', field)
    local waiting = m[1] or ''
    -- what is of an earlier task, pruned since, or was replaced, has no record any more
    if m[2] == ARGV[i+5] and m[3] then
      local rest, mark, others = without(waiting, key)
      local superseded = wait ~= '' and mark == '' and others > 0
      if wait ~= '' and not superseded then
        at = now + tonumber(wait)
        redis.call('HSET', h, field, ARGV[i+9] .. struct.pack('<BI8', 25, at))
      else
        waiting = rest
        redis.call('ZREM', KEYS[all+1], member .. '/' .. key)
        if superseded or ARGV[i+12] ~= '' then
          redis.call('HDEL', h, field)
          redis.call('ZREM', KEYS[all], member .. '/' .. key)
        else
          redis.call('HSET', h, field, ARGV[i+9] .. struct.pack('<BI8', 33, now))
          if ARGV[i+11] ~= '' then
            redis.call('ZADD', KEYS[all+2],
                       redis.call('ZSCORE', KEYS[all], member .. '/' .. key) or text(now),
                       member .. '/' .. key)
          end
        end
        redis.call('ZADD', KEYS[4], text(now + ARGV[i+13]), task_id)
        if superseded then done = 2 end
      end
      if ARGV[i+16] ~= '' then disable(i, KEYS[all+4], line, endpoint) end
    end
    redis.call('ZREM', KEYS[3], member)
    if waiting == '' then
      redis.call('HDEL', h, endpoint .. ':waiting')
      redis.call('ZREM', due, member)
    else
      redis.call('HSET', h, endpoint .. ':waiting', waiting)
      redis.call('ZADD', due, text(at), member)
    end
    local follows = waiting ~= '' and at == now and 1 or 0
    out[#out+1], out[#out+2], out[#out+3] = done, judge(line, member, ARGV[i+14]), follows
    touched[line] = {KEYS[all+3], due}
  end
end
for line, t in pairs(touched) do rank(KEYS[1], t[1], KEYS[2], line, t[2], hold) end
return out
"""
)
