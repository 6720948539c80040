-- Grant slots of one quota: as many as are free, and as its pace allows.
--
-- A slot is a member of a sorted set; its score is the moment it comes back, in microseconds of this server's clock. A
-- granted slot is leased: it comes back by itself should its holder die. settle.lua shortens that when the answer is there.
--
-- KEYS  slots (sorted set), state (hash), fences (hash)
-- ARGV  client, seq                 who asks, and the number of this message: a repetition makes earlier ones void
--       first, interactive, bulk    slots client:first, client:first+1, ...: so many for interactive calls, then for bulk
--       again                       1 when a message that asked for these very slots went unanswered, else 0
--       run                         the run id of this server: it tells one process from the next
--       epoch, age                  what the last answer called the epoch, or '', and how long ago that answer came
--       limit, limit_bulk           slots that may be taken, by class
--       depth, depth_bulk           tokens that may be spent at once, by class
--       per, lease                  the window; how long a slot lasts whose end nobody reports
--       idle                        how long the state of a quota that nobody uses is kept
--       quota                       limit and per as text, for others to compare with theirs
--       Durations are in microseconds.
-- Returns {interactive granted, bulk granted, now, taken, wait interactive, wait bulk, paused until, held until,
--          requests per 1000 s or -1, epoch, quota of whoever asked before}, or {-1} for a message that is void.

local slots, state, fences = KEYS[1], KEYS[2], KEYS[3]
local client, seq = ARGV[1], tonumber(ARGV[2])
local first, interactive, bulk, again = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local run, known, age = ARGV[7], ARGV[8], tonumber(ARGV[9])
local limit, limit_bulk, depth, depth_bulk = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local per, lease, idle, quota = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16]), ARGV[17]

-- A message that was held up on its way, and that its sender has repeated since, would take slots that nobody gives back.
if tonumber(redis.call('HGET', fences, client) or '0') > seq then
  return {-1}
end
if again then
  redis.call('HSET', fences, client, seq)
  redis.call('PEXPIRE', fences, math.ceil(lease / 1000))
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local kept = redis.call('HMGET', state, 'born', 'run', 'seen', 'held', 'paused', 'tat', 'base', 'since', 'next', 'quota')
local born, seen = kept[1], tonumber(kept[3] or '0')
local held, paused, tat = tonumber(kept[4] or '0'), tonumber(kept[5] or '0'), tonumber(kept[6] or '0')
local base, since, next_turn = tonumber(kept[7] or '0'), tonumber(kept[8] or '0'), tonumber(kept[9] or '0')

-- Slots may have been forgotten. Then nothing is granted until every request that had one has left the API's window.
local function hold(moment)
  if moment > held then
    held = moment
    redis.call('HSET', state, 'held', held)
  end
end

if not born then
  born = string.format('%.0f-%s', now, client)
  redis.call('HSET', state, 'born', born, 'run', run)
  redis.call('PEXPIRE', state, math.ceil(idle / 1000))
elseif kept[2] ~= run then
  -- A restart that lost what was not yet written, or a replica that took over before it had seen everything.
  redis.call('HSET', state, 'run', run)
  hold(now + lease)
end
local epoch = born .. '/' .. run
if known ~= '' and known ~= epoch then
  -- The client got slots that are unknown here, the last of them before its last answer: from a server that failed, or
  -- before a flush or an empty restart. In the latter case so did others, of whom nobody may be left to tell.
  hold(now - age + lease)
  if string.sub(known, 1, #born + 1) ~= born .. '/' then
    hold(tonumber(string.match(born, '^%d+')) + lease)
  end
end
if now < seen - 1000000 then
  -- The server's clock was set back: every moment that is kept lies too far ahead.
  redis.call('DEL', slots)
  tat, next_turn, since, paused, held = 0, now, now, now + math.max(0, paused - seen), 0
  redis.call('HSET', state, 'tat', 0, 'next', now, 'since', now, 'paused', paused, 'seen', now)
  hold(now + lease)
end

-- What has come back is not counted, and swept out now and then: one by one that costs more than all the rest.
local taken = redis.call('ZCOUNT', slots, string.format('(%.0f', now), '+inf')

local granted, granted_bulk = 0, 0
if again then
  -- The unanswered message may have been granted the first few slots of each class.
  local function present(offset, wanted)
    local count = 0
    while count < wanted and redis.call('ZSCORE', slots, client .. ':' .. (first + offset + count)) do
      count = count + 1
    end
    return count
  end
  granted, granted_bulk = present(0, interactive), present(interactive, bulk)
end

-- The pace after a 429, as in pace.py.
local rate = 0
if base > 0 then
  local windows = math.max(0, now - since) / per
  rate = base * 1.08 ^ math.min(windows * (windows + 1) / 2, 200)
  if rate >= limit / per then
    rate, next_turn = 0, 0
    redis.call('HDEL', state, 'base', 'since', 'next')
  end
end

-- The token bucket, as the moment at which it will be full again. A moment not long ago is left as it is: clients come a
-- little late for each token, and the pace would suffer from all of that.
local interval = per / limit
if tat < now - math.min(0.9 * interval, 100000) then
  tat = now
end
local tokens = math.min(depth, math.floor((now - tat) / interval + depth + 0.001))
local spare = depth - depth_bulk

local fresh, fresh_bulk = 0, 0
if math.max(held, paused, next_turn) <= now then
  local most = rate > 0 and 1 or limit
  fresh = math.max(0, math.min(interactive - granted, limit - taken, tokens, most))
  fresh_bulk = math.max(0, math.min(
    bulk - granted_bulk, limit_bulk - taken - fresh, tokens - fresh - spare, most - fresh))
end
if fresh + fresh_bulk > 0 then
  local added = {}
  local function add(from, count)
    for number = from, from + count - 1 do
      added[#added + 1] = now + lease
      added[#added + 1] = client .. ':' .. number
    end
  end
  add(first + granted, fresh)
  add(first + interactive + granted_bulk, fresh_bulk)
  redis.call('ZADD', slots, unpack(added))
  tat = tat + (fresh + fresh_bulk) * interval
  redis.call('HSET', state, 'tat', tat)
  if rate > 0 then
    next_turn = now + 1 / rate
    redis.call('HSET', state, 'next', next_turn)
  end
  if now > seen + 1000000 then
    redis.call('HSET', state, 'seen', now)
    if now >= seen + per then
      redis.call('HSET', state, 'began', now)  -- after a window of silence
    end
    redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
    redis.call('PEXPIRE', slots, math.ceil(lease / 1000) + 2000)
    redis.call('PEXPIRE', state, math.ceil(idle / 1000))
  end
  taken, granted, granted_bulk = taken + fresh + fresh_bulk, granted + fresh, granted_bulk + fresh_bulk
end

-- How long a class that got less than it wanted waits at the least: for the pause, for its token, and for as many slots
-- to come back as its share is exceeded by. A slot in flight comes back one window from now at the earliest.
local function wait(unmet, share, left)
  if unmet <= 0 then
    return 0
  end
  local moment = math.max(held, paused, next_turn, tat + (1 + left - depth) * interval)
  if taken >= share then
    local place = redis.call('ZCARD', slots) - share
    local back = redis.call('ZRANGE', slots, place, place, 'WITHSCORES')
    moment = math.max(moment, math.min(tonumber(back[2]), now + per))
  end
  return math.max(0, math.ceil(moment - now))
end

if kept[10] ~= quota then
  redis.call('HSET', state, 'quota', quota)
end
return {
  granted, granted_bulk, now, taken, wait(interactive - granted, limit, 0), wait(bulk - granted_bulk, limit_bulk, spare),
  paused, held, rate > 0 and math.floor(rate * 1e9) or -1, epoch, kept[10] or quota,
}
