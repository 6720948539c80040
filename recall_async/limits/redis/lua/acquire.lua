-- Record how slots of one quota ended, and grant new ones: as many as are free and its pace allows.
--
-- A slot is a member of a sorted set. Its score is a time of this server's clock, in microseconds. For a slot in use, it
-- is the end of its lease, so that the slot is freed if its holder dies. For an answered slot, it is the time of the
-- response plus `span`, the longest recent window of any quota of this lane, and at least the API's own. A quota with a
-- shorter window counts only the younger slots, and earlier requests still count when a quota is replaced.
--
-- KEYS  slots (sorted set), state (hash), fences (hash), shares (hash), promise (list)
-- ARGV  client
--       terms   packed:
--         limit, reserve            the number of slots; how many of them bulk calls always leave free
--         burst, burst_bulk         how many requests may be sent at once, by class
--         least, most_promised      slots per second that bulk calls leave to interactive calls: at least, at most
--         per, lease                the window; how long an unreported slot lasts
--         hold_new                  1 to wait for a lease if there is no data of the quota, otherwise 0
--       ask     packed:
--         seq                       the number of this message: a repetition voids earlier ones
--         first, interactive, bulk  slots client:first, client:first+1, ...: numbers for interactive calls, then for bulk
--         wanted                    the number of new interactive calls since this client last asked
--         age                       how long ago the last reply came
--         again                     1 if an earlier message for the same slots got no reply, otherwise 0
--       ended   packed: how slots ended, as in settle.lua
--       name    'known limit/per': the epoch in the last reply, or '', and the quota, which clients compare with their own
--       run     the run id of this server process; left out if `known` contains it
--       Durations are in microseconds.
-- Returns -1 for a void message, otherwise one string, because an array takes Redis longer: 'interactive-granted
--          bulk-granted now taken', and, unless all slots were granted without a pace and `name` holds, for interactive
--          calls and for bulk calls: when one is probably admitted, and before when certainly none is, both in microseconds
--          from now; paused until, held until, requests per 1000 s or -1, epoch, quota of the client that asked before.

local slots, state, fences, shares, promise = unpack(KEYS)
local client, terms, ask, ended, name, run = unpack(ARGV)
local limit, reserve, burst, burst_bulk, least, most_promised, per, lease, hold_new = struct.unpack('<ddddddddB', terms)
local seq, first, interactive, bulk, wanted, age, again = struct.unpack('<ddddddB', ask)
local remember = math.max(per, <WINDOW>)  -- a quota with a shorter window may be followed by the API's own

<READ_STATE>

-- A delayed message that its sender has repeated would take slots that no client frees; `fenced` tells if there may be any.
if kept[5] and tonumber(call('HGET', fences, client) or '0') > seq then
  return -1
end
if again == 1 then
  call('HSET', fences, client, seq)
  call('HSET', state, 'fenced', 1)
  if call('PTTL', fences) < lease / 1000 + 60000 then
    call('PEXPIRE', fences, math.ceil(lease / 1000) + 60000)
  end
end

local hot, cold = false, false  -- whether these have changed
local second = math.floor(now / SECOND)

-- Step 1, hold: slots may have been lost, or the clock set back. Then nothing is granted until every request that had a
-- slot has left the API's window. The longest lease and window in use count.

local fresh_life = not kept[3]
local renew = fresh_life or set_back or lease > longest or remember > span or now >= seen + SECOND
if lease > longest then
  longest, longest_at = lease, second
end
local changed, epoch, kept_quota = kept[3] ~= name or run or set_back or remember > span, nil, nil
if changed then
  -- The life of this quota's data, the server process, and the quota of the last ask: 'born/run limit/per'.
  local known, quota = string.match(name, '^(.*) ([^ ]*)$')
  local born, born_run
  born, born_run, kept_quota = string.match(kept[3] or '', '^([^/]*)/(.*) ([^ ]*)$')
  run = run or string.match(known, '/(.*)$')
  local function hold(moment)
    moment = math.min(moment, now + longest)  -- by then all slots have expired, whatever the clock was
    if moment > held then
      held, cold = moment, true
    end
  end
  if fresh_life then
    born, kept_quota = string.format('%d-%s', now, string.sub(client, 1, 6)), quota
    span, span_at = math.max(remember, span), second
    if hold_new == 1 then
      hold(now + longest)
    end
  elseif born_run ~= run then
    -- A restart that lost unwritten data, or a replica that took over without all data.
    hold(now + longest)
  end
  if remember > span then
    <CHANGE_SPAN>
  end
  if set_back then
    -- The server's clock was set back: every stored time is too far ahead.
    call('DEL', slots, shares, promise)
    paused, held = now + math.max(0, paused - seen), 0
    tat, tat_bulk, last, began, urgent, since, next_turn, span_at, longest_at = 0, 0, 0, now, 0, now, now, second, second
    rho, counted_from, bulk_at, hot, cold = 0, now, 0, true, true
    <KEEP_PACE>
    hold(now + longest)
  end
  epoch = born .. '/' .. run
  if known ~= '' and known ~= epoch then
    -- The client got slots that are unknown here, the last of them before its last reply: from a server that failed, or
    -- before a flush or an empty restart. In the latter case other clients, which may have died, had slots, too.
    hold(now - age + longest)
    if string.sub(known, 1, #born + 1) ~= born .. '/' then
      hold(tonumber(string.match(born, '^%d+')) + longest)
    end
  end
  if kept[3] ~= epoch .. ' ' .. quota then
    call('HSET', state, 'name', epoch .. ' ' .. quota)
  end
end

-- Step 2, record how slots ended, and count: which slots are in use, and which of them were granted to a message without a reply.

<RECORD_ENDINGS>
local younger = string.format('(%d', now + span - per)
if now >= 2^40 and #younger < 13 then  -- a Redis built for 32 bits: each slot would seem to be over
  return redis.error_reply('ERR this server counts with 32 bits in scripts, too few for its time: use a 64-bit build')
end
local taken = call('ZCOUNT', slots, younger, '+inf')
local granted, granted_bulk = 0, 0
if again == 1 then
  local function present(offset, wanted_now)
    local found = 0
    while found < wanted_now and call('ZSCORE', slots, client .. ':' .. (first + offset + found)) do
      found = found + 1
    end
    return found
  end
  granted, granted_bulk = present(0, interactive), present(interactive, bulk)
elseif wanted > 0 or bulk > 0 then
  local passed = math.floor((now - counted_from) / per)
  if passed > 0 then
    count_before, count_earlier = passed == 1 and count or 0, passed == 1 and count_before or passed == 2 and count or 0
    count, counted_from = 0, passed > 2 and now or counted_from + passed * per
  end
  count, hot = math.min(count + wanted, 4294967295), true
end

-- Step 3, grant.

<PACE>
if base > 0 and not rate then
  base, since, next_turn, hot = 0, 0, 0, true
  <KEEP_PACE>
end

-- The token buckets, each as the time at which it will be full again. A recent time is kept: clients ask slightly late for
-- each token, and the sum of these delays would reduce the pace. The bucket may be that of another quota.
local interval = per / limit
local tokens, tokens_bulk = limit, limit
if burst < limit then
  if tat < now - math.min(0.9 * interval, 100000) then
    tat = now
  end
  tat = math.min(tat, now + burst * interval)
  tokens = math.min(burst, math.floor((now - tat) / interval + burst + 0.001))
end
if bulk > 0 then
  if tat_bulk < now - math.min(0.9 * interval, 100000) then
    tat_bulk = now
  end
  tat_bulk = math.min(tat_bulk, now + burst_bulk * interval)
  tokens_bulk = math.min(burst_bulk, math.floor((now - tat_bulk) / interval + burst_bulk + 0.001))
  bulk_at = second
end

local fresh, fresh_bulk, allowed_at = 0, 0, 0
if math.max(held, paused, next_turn) <= now then
  fresh = math.max(0, math.min(interactive - granted, limit - taken, tokens, rate and 1 or limit))
  taken = taken + fresh
  if urgent > 0 and granted + fresh >= interactive and call('HGET', state, 'urgent_by') == client then
    urgent, hot = 0, true
  end
end
if bulk > granted_bulk and math.max(held, paused, next_turn, urgent) <= now and granted + fresh >= interactive then
  -- The promise to interactive calls: how many bulk slots it allows now, and when it allows the next, as promise.py
  -- explains. The list contains the monotonic queue: times of responses and their numbers. It is kept while bulk calls
  -- ask, and recomputed from the slots when the promise changes.
  local nominal = per / (1 + <TOLERANCE>)
  local step = limit / nominal / <STEPS>
  local wanted_rho = math.min(most_promised / SECOND, math.max(least / SECOND,
    step * math.ceil(<FOLLOWED> * math.max(count, count_before, count_earlier) / nominal / step)))
  if wanted_rho ~= rho then
    rho, cold = wanted_rho, true
    call('DEL', promise)
    local answers = rho > 0 and call('ZRANGEBYSCORE', slots, younger, string.format('%d', now + span), 'WITHSCORES') or {}
    local keys, entries, size = {}, {}, 0
    for place = 2, #answers, 2 do
      local at, number = answers[place] - span, place / 2 - 1
      local key = rho * (at + per) - number
      while size > 0 and keys[size] <= key do
        size = size - 1
      end
      size = size + 1
      keys[size], entries[size] = key, struct.pack('<dd', at, number)
    end
    for place = 1, size do
      call('RPUSH', promise, entries[place])
    end
    if size > 0 then
      call('PEXPIRE', promise, math.ceil((longest + span) / 1000))
    end
  end
  local ROUNDING = 0.000001  -- the tolerance for floating-point errors, in slots
  local allowed = limit - reserve - taken
  if rho > 0 and allowed >= 1 then
    -- Slots in use count as not freed, and so do lost ones until the last window of their lease.
    local answered = call('ZCOUNT', slots, younger, string.format('%d', now + span))
    local room = allowed + answered + ROUNDING
    -- A careful start: others may have used the API's window unseen; see promise.py. Lost slots are not told from those in
    -- flight, so beyond these, one slot is allowed in each interval of the quota.
    local places = <OPENING> + 2 * answered - taken
    if places < 1 and now >= last + interval then
      places = 1
    end
    allowed = math.min(allowed, room - rho * nominal, places)
    if allowed < 1 then
      allowed_at = math.max(last + interval, now + 100000)  -- or when a response comes
    end
    local head = call('LINDEX', promise, 0)
    local at, number
    while head do
      at, number = struct.unpack('<dd', head)
      if at + per > now then
        break
      end
      call('LPOP', promise)
      head = call('LINDEX', promise, 0)
    end
    if head then
      local _, newest = struct.unpack('<dd', call('LINDEX', promise, -1))
      local missing = rho * (at + per - now) + newest + 1 - number
      allowed = math.min(allowed, room - missing)
      allowed_at = math.max(allowed_at, now + math.min((missing - room + 1) / rho, at + per - now))
    end
  end
  local most = math.max(0, math.floor(math.min(bulk - granted_bulk, allowed, tokens_bulk, rate and 1 - fresh or limit)))

  -- Fair shares. While a client gets fewer bulk slots than it asks for, the slots of each client are counted, and none
  -- gets more than a few slots ahead of the waiting clients. A new client that holds fewer slots than a waiting one starts
  -- behind it by half the difference. No client takes more at once than a sixteenth of the quota, or the slots of a quarter
  -- of a second, so that others can ask in between.
  local HUNGRY = 1.6 * SECOND  -- a client that got too few slots is waited for this long: it asks again within a second
  local function holds()
    local counts = {}
    for _, slot in ipairs(call('ZRANGEBYSCORE', slots, younger, '+inf')) do
      local holder = string.match(slot, '^!?([^:]*)')
      counts[holder] = (counts[holder] or 0) + 1
    end
    return counts
  end
  local shares_of = call('HGETALL', shares)
  local mine, lowest, lowest_client, is_new = nil, nil, nil, true
  for i = 1, #shares_of, 2 do
    local got, hungry_until, asked_at = struct.unpack('<ddd', shares_of[i + 1])
    if shares_of[i] == client then
      mine, is_new = got, now > asked_at + HUNGRY
    elseif hungry_until > now and got < (lowest or math.huge) then
      lowest, lowest_client = got, shares_of[i]
    end
  end
  fresh_bulk = math.min(most, math.ceil(limit * math.max(1 / 16, SECOND / 4 / per)))
  if lowest then
    if is_new then
      local held_now = holds()
      local behind = math.floor(((held_now[lowest_client] or 0) - (held_now[client] or 0)) / 2)
      mine = math.max(mine or 0, lowest - math.max(0, behind))
    end
    fresh_bulk = math.max(0, math.min(fresh_bulk, lowest + math.ceil(limit / 32) - mine))
  end
  local unmet = granted_bulk + fresh_bulk < bulk
  if mine or unmet then
    mine = (mine or limit + (holds()[client] or 0)) + fresh_bulk
    call('HSET', shares, client, struct.pack('<ddd', mine, unmet and now + HUNGRY or 0, now))
    call('PEXPIRE', shares, math.ceil(2 * per / 1000))
  end
  taken = taken + fresh_bulk
end

if fresh + fresh_bulk > 0 then
  local names, back, size = {}, string.format('%d', now + lease + span - per), 0
  for number = first + granted, first + granted + fresh - 1 do
    names[size + 1], names[size + 2], size = back, string.format('%s:%d', client, number), size + 2
  end
  for number = first + interactive + granted_bulk, first + interactive + granted_bulk + fresh_bulk - 1 do
    names[size + 1], names[size + 2], size = back, string.format('%s:%d', client, number), size + 2
  end
  call('ZADD', slots, unpack(names))
  if taken == fresh + fresh_bulk then  -- the set may be new
    call('PEXPIRE', slots, math.ceil((longest + span) / 1000) + 2000)
  end
  tat, tat_bulk = tat + fresh * interval, tat_bulk + fresh_bulk * interval
  if rate then
    next_turn = now + 1 / rate
  end
  if now >= last + per then
    began, cold = now, true
  end
  last, hot = now, true
  granted, granted_bulk = granted + fresh, granted_bulk + fresh_bulk
end

-- Step 4, wait: when a class that got too few slots is admitted, probably and at the earliest.

local soon, soonest, soon_bulk, soonest_bulk = 0, 0, 0, 0
if granted < interactive or granted_bulk < bulk then
  local function wait(most, token_at)
    local function back(place)
      return call('ZRANGEBYSCORE', slots, younger, '+inf', 'WITHSCORES', 'LIMIT', place, 1)[2] - span + per
    end
    local certain = math.max(held, paused, next_turn, token_at)
    local probable = certain
    if taken >= most then
      -- A slot in use is freed at once if its request is never sent; an answered slot is not.
      local answered = call('ZCOUNT', slots, younger, string.format('%d', now + span))
      if answered >= most then
        certain = math.max(certain, back(answered - most))
      end
      probable = math.max(certain, math.min(back(taken - most), now + per))
    end
    return math.max(0, math.ceil(probable - now)), math.max(0, math.ceil(certain - now))
  end
  if granted < interactive then
    soon, soonest = wait(limit, burst < limit and tat + (1 - burst) * interval or 0)
    -- Until the waiting interactive calls ask again, other clients' bulk calls wait for them.
    local until_then = now + math.min(soon, SECOND) + 100000
    if until_then > urgent + 50000 then
      urgent, hot = until_then, true
      call('HSET', state, 'urgent_by', client)
    end
  end
  if granted_bulk < bulk then
    soon_bulk, soonest_bulk = wait(limit - reserve, tat_bulk + (1 - burst_bulk) * interval)
    soon_bulk = math.max(soon_bulk, math.ceil(allowed_at - now))
  end
end

-- Once a second, and when something must be remembered for longer: renew the data in use, and remove the rest.
if renew then
  seen, cold = now, true
  if lease == longest then
    longest_at = second
  elseif now > longest_at * SECOND + longest then
    longest, longest_at = lease, second
  end
  call('ZREMRANGEBYSCORE', slots, '-inf', now)
  if remember == span then
    span_at = second
  elseif now > span_at * SECOND + span then
    call('ZREMRANGEBYSCORE', slots, '-inf', now + span - remember)
    <CHANGE_SPAN>
  end
  if rho > 0 then
    if second > bulk_at + 10 then
      rho = 0
      call('DEL', promise)
    else
      call('PEXPIRE', promise, math.ceil((longest + span) / 1000))
    end
  end
  call('PEXPIRE', slots, math.ceil((longest + span) / 1000) + 2000)
  call('PEXPIRE', state, math.ceil((<STATE_TTL> + math.max(0, paused - now)) / 1000))
  if kept[5] and call('EXISTS', fences) == 0 then
    call('HDEL', state, 'fenced')
  end
end
if hot then
  <KEEP_HOT>
end
if cold then
  <KEEP_COLD>
end
if granted >= interactive and granted_bulk >= bulk and math.max(paused, held) <= now and not rate and not changed then
  return string.format('%d %d %d %d', granted, granted_bulk, now, taken)
end
return string.format('%d %d %d %d %d %d %d %d %d %d %d %s', granted, granted_bulk, now, taken, soon, soonest, soon_bulk,
  soonest_bulk, paused, held, rate and rate * 1e9 or -1, changed and epoch .. ' ' .. kept_quota or name)
