-- Grant slots of one quota: as many as are free, and as its pace allows.
--
-- A slot is a member of a sorted set. Its score is a moment of this server's clock, in microseconds: of a slot in use,
-- the end of its lease, so that it comes back should its holder die; of one whose request was answered, the answer plus
-- `span`, the longest window that any quota of this lane has lately had. A quota with a shorter window counts only what is
-- younger than that, and what was sent is not forgotten when a quota is replaced.
--
-- KEYS  slots (sorted set), state (hash), fences (hash), shares (hash)
-- ARGV  client, seq                 who asks, and the number of this message: a repetition makes earlier ones void
--       first, interactive, bulk    slots client:first, client:first+1, ...: so many for interactive calls, then for bulk
--       again                       1 when a message that asked for these very slots went unanswered, else 0
--       run                         the run id of this server: it tells one process from the next
--       known, age                  what the last answer called the epoch, or '', and how long ago that answer came
--       hold_new                    1 to wait for a lease where nothing is known of the quota, else 0
--       limit, limit_bulk           slots that may be taken, by class
--       depth, depth_bulk           tokens that may be spent at once, by class
--       per, lease                  the window; how long a slot lasts whose end nobody reports
--       idle                        how long the state of a quota that nobody uses is kept
--       quota                       limit and per as text, for others to compare with theirs
--       Durations are in microseconds.
-- Returns {interactive granted, bulk granted, now, taken, then for interactive calls and for bulk: when one probably can
--          go, and before when none can for certain, both in microseconds from now; paused until, held until, requests
--          per 1000 s or -1, epoch, quota of whoever asked before}, or {-1} for a message that is void.

local slots, state, fences, shares = unpack(KEYS)
local client, seq, first, interactive, bulk, again, run, known, age, hold_new,
  limit, limit_bulk, depth, depth_bulk, per, lease, idle, quota = unpack(ARGV)
seq, first, interactive, bulk = tonumber(seq), tonumber(first), tonumber(interactive), tonumber(bulk)
again, limit, limit_bulk = again == '1', tonumber(limit), tonumber(limit_bulk)
depth, depth_bulk, per, lease = tonumber(depth), tonumber(depth_bulk), tonumber(per), tonumber(lease)

-- A message that was held up on its way, and that its sender has repeated since, would take slots that nobody gives back.
if tonumber(redis.call('HGET', fences, client) or '0') > seq then
  return {-1}
end
if again then
  redis.call('HSET', fences, client, seq)
  if redis.call('PTTL', fences) < lease / 1000 then
    redis.call('PEXPIRE', fences, math.ceil(lease / 1000))
  end
end

<STATE>

-- The life of this quota's data, the server process, and the quota that was last asked for: 'born/run limit/per'.
local born, born_run, kept_quota
if kept[3] == known .. ' ' .. quota and string.sub(known, -#run - 1) == '/' .. run then
  born, born_run, kept_quota = true, run, quota  -- all is as it was, so the parts are not looked at
elseif kept[3] then
  born, born_run, kept_quota = string.match(kept[3], '^([^/ ]*)/([^/ ]*) (.*)$')
end
local hot, cold = false, false  -- whether these have changed

-- Step 1, forget and hold: slots may have been forgotten, or the clock set back. Then nothing is granted until every
-- request that had a slot has left the API's window. The longest lease and window in use are those that count.

local function hold(moment)
  if moment > held then
    held, cold = moment, true
  end
end

local function change_span(wanted)
  for _, slot in ipairs(call('ZRANGE', slots, 0, -1)) do
    call('ZINCRBY', slots, wanted - span, slot)
  end
  span, span_at, cold = wanted, now, true
end

if lease > longest then
  longest, longest_at, cold = lease, now, true
end
local fresh_life = not born
if fresh_life then
  born, born_run, span, span_at, cold = string.format('%.0f-%s', now, string.sub(client, 1, 6)), run, math.max(per, span), now, true
  if hold_new == '1' then
    hold(now + longest)
  end
elseif born_run ~= run then
  -- A restart that lost what was not yet written, or a replica that took over before it had seen everything.
  hold(now + longest)
end
if per > span then
  change_span(per)
end
if now < seen - SECOND then
  -- The server's clock was set back: every moment that is kept lies too far ahead.
  call('DEL', slots, shares)
  paused, held = now + math.max(0, paused - seen), 0
  tat, last, began, urgent, since, next_turn, span_at, longest_at = 0, 0, now, 0, now, now, now, now
  hot, cold = true, true
  keep_pace()
  hold(now + longest)
end
local epoch = known
if born ~= true then
  epoch = born .. '/' .. run
  if known ~= '' and known ~= epoch then
    -- The client got slots that are unknown here, the last of them before its last answer: from a server that failed, or
    -- before a flush or an empty restart. In the latter case so did others, of whom nobody may be left to tell.
    hold(now - age + longest)
    if string.sub(known, 1, #born + 1) ~= born .. '/' then
      hold(tonumber(string.match(born, '^%d+')) + longest)
    end
  end
  local name = epoch .. ' ' .. quota
  if kept[3] ~= name then
    call('HSET', state, 'name', name)
  end
end

-- Step 2, count: which slots are taken, and which of them a message that went unanswered was granted.

local younger = string.format('(%.0f', now + span - per)
local taken = call('ZCOUNT', slots, younger, '+inf')

local function present(offset, wanted)
  local count = 0
  while count < wanted and call('ZSCORE', slots, client .. ':' .. (first + offset + count)) do
    count = count + 1
  end
  return count
end

local granted, granted_bulk = 0, 0
if again then
  granted, granted_bulk = present(0, interactive), present(interactive, bulk)
end

-- Step 3, grant.

local rate = pace(limit / per, per)
if base > 0 and not rate then
  base, since, next_turn, hot = 0, 0, 0, true
  keep_pace()
end

-- The token bucket, as the moment at which it will be full again. A moment not long ago is left as it is: clients come a
-- little late for each token, and the pace would suffer from all of that.
local interval = per / limit
if tat < now - math.min(0.9 * interval, 100000) then
  tat = now
end
tat = math.min(tat, now + depth * interval)  -- it may be of another quota
local tokens = math.min(depth, math.floor((now - tat) / interval + depth + 0.001))
local spare = depth - depth_bulk

-- Fair shares. While some client gets fewer bulk slots than it asks for, what each one gets is counted, and nobody gets
-- more than a few slots ahead of those who wait. Who comes anew is behind another one by half of what it holds less.
-- Nobody takes more than a sixteenth at once, or a quarter of a second's worth, so that others can come in between.
local HUNGRY = 1.6 * SECOND  -- for so long a client that got too little is waited for: it asks again within a second
local count_of_mine

local function holds()
  local counts = {}
  for _, slot in ipairs(call('ZRANGEBYSCORE', slots, younger, '+inf')) do
    local holder = string.match(slot, '^!?([^:]*)')
    counts[holder] = (counts[holder] or 0) + 1
  end
  return counts
end

local function fair(most)
  local entries = call('HGETALL', shares)
  local lowest, lowest_client, is_new = nil, nil, true
  for i = 1, #entries, 2 do
    local count, hungry_until, at = struct.unpack('<ddd', entries[i + 1])
    if entries[i] == client then
      count_of_mine, is_new = count, now > at + HUNGRY
    elseif hungry_until > now and count < (lowest or math.huge) then
      lowest, lowest_client = count, entries[i]
    end
  end
  most = math.min(most, math.ceil(limit * math.max(1 / 16, SECOND / 4 / per)))
  if not lowest then
    return most
  end
  if is_new then
    local held_now = holds()
    local behind = math.max(0, math.floor(((held_now[lowest_client] or 0) - (held_now[client] or 0)) / 2))
    count_of_mine = math.max(count_of_mine or 0, lowest - behind)
  end
  return math.max(0, math.min(most, lowest + math.ceil(limit / 32) - count_of_mine))
end

local function share(got, unmet)
  if count_of_mine or unmet then
    count_of_mine = (count_of_mine or limit + (holds()[client] or 0)) + got
    call('HSET', shares, client, struct.pack('<ddd', count_of_mine, unmet and now + HUNGRY or 0, now))
    call('PEXPIRE', shares, math.ceil(2 * per / 1000))
  end
end

local fresh, fresh_bulk = 0, 0
if math.max(held, paused, next_turn) <= now then
  local most = rate and 1 or limit
  fresh = math.max(0, math.min(interactive - granted, limit - taken, tokens, most))
  if urgent > 0 and granted + fresh >= interactive and call('HGET', state, 'urgent_by') == client then
    urgent, hot = 0, true
  end
  if bulk > granted_bulk and urgent <= now and granted + fresh >= interactive then
    fresh_bulk = fair(math.max(0, math.min(
      bulk - granted_bulk, limit_bulk - taken - fresh, tokens - fresh - spare, most - fresh)))
    share(fresh_bulk, granted_bulk + fresh_bulk < bulk)
  end
end
if fresh + fresh_bulk > 0 then
  local names, back = {}, now + lease + span - per
  local function add(from, count)
    for number = from, from + count - 1 do
      names[#names + 1] = back
      names[#names + 1] = client .. ':' .. number
    end
  end
  add(first + granted, fresh)
  add(first + interactive + granted_bulk, fresh_bulk)
  call('ZADD', slots, unpack(names))
  tat = tat + (fresh + fresh_bulk) * interval
  if rate then
    next_turn = now + 1 / rate
  end
  if now >= last + per then
    began, cold = now, true
  end
  last, hot = now, true
  taken, granted, granted_bulk = taken + fresh + fresh_bulk, granted + fresh, granted_bulk + fresh_bulk
end

-- Step 4, wait: when a class that got less than it wanted can go, probably and at the earliest.

local function wait(unmet, most, left)
  if unmet <= 0 then
    return 0, 0
  end
  local function back(place)
    return call('ZRANGEBYSCORE', slots, younger, '+inf', 'WITHSCORES', 'LIMIT', place, 1)[2] - span + per
  end
  local certain = math.max(held, paused, next_turn, tat + (1 + left - depth) * interval)
  local probable = certain
  if taken >= most then
    -- A slot in use comes back at once if its request is never sent; one whose request was answered does not.
    local answered = call('ZCOUNT', slots, younger, string.format('%.0f', now + span))
    if answered >= most then
      certain = math.max(certain, back(answered - most))
    end
    probable = math.max(certain, math.min(back(taken - most), now + per))
  end
  return math.max(0, math.ceil(probable - now)), math.max(0, math.ceil(certain - now))
end

local soon, soonest = wait(interactive - granted, limit, 0)
local soon_bulk, soonest_bulk = wait(bulk - granted_bulk, limit_bulk, spare)
if granted < interactive then
  -- Until the interactive calls that wait have come again, bulk calls of others leave them the turn.
  local until_then = now + math.min(soon, SECOND) + 100000
  if until_then > urgent + 50000 then
    urgent, hot = until_then, true
    call('HSET', state, 'urgent_by', client)
  end
end

-- Once a second: keep what is in use, forget what is not.
if now > seen + SECOND or fresh_life then
  cold = true
  if lease == longest then
    longest_at = now
  elseif now > longest_at + longest then
    longest, longest_at = lease, now
  end
  call('ZREMRANGEBYSCORE', slots, '-inf', now)
  if per == span then
    span_at = now
  elseif now > span_at + span then
    call('ZREMRANGEBYSCORE', slots, '-inf', now + span - per)
    change_span(per)
  end
  call('PEXPIRE', slots, math.ceil((longest + span) / 1000) + 2000)
  call('PEXPIRE', state, math.ceil((idle + math.max(0, paused - now)) / 1000))
end
if hot then
  keep_hot()
end
if cold then
  keep_cold()
end
return {
  granted, granted_bulk, now, taken, soon, soonest, soon_bulk, soonest_bulk,
  paused, held, rate and math.floor(rate * 1e9) or -1, epoch, kept_quota or quota,
}
