-- A request met a 429: nobody goes for a while, and everybody goes slower after that, as in pace.py.
--
-- KEYS  slots (sorted set), state (hash)
-- ARGV  pause, age     for how long, and how long ago that was said (microseconds)
--       granted_at     when the request got its slot (microseconds of this server's clock)
--       limit, per     the quota; per in microseconds
--       jitter         a random number from 0 to 1
--       idle           how long the state of a quota that nobody uses is kept (microseconds)
-- Returns until when everybody pauses.

local slots, state = KEYS[1], KEYS[2]
local pause, age, granted_at = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, per, jitter, idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local kept = redis.call('HMGET', state, 'paused', 'base', 'since', 'next', 'began')
local paused, base = tonumber(kept[1] or '0'), tonumber(kept[2] or '0')
local since, next_turn, began = tonumber(kept[3] or '0'), tonumber(kept[4] or '0'), tonumber(kept[5] or '0')
local resume = now - age + pause

paused = math.max(paused, resume)
redis.call('HSET', state, 'paused', paused)
redis.call('PEXPIRE', state, math.ceil((pause + idle) / 1000))

if granted_at < since then
  -- It left before the last slowdown could reach it, and tells nothing new but that the pause goes on.
  redis.call('HSET', state, 'since', math.max(since, resume))
  return paused
end

-- What the API granted in the last window: slots that are answered, without the rejected ones.
local accepted = 0
for _, slot in ipairs(redis.call('ZRANGEBYSCORE', slots, string.format('(%.0f', now), now + per)) do
  if string.sub(slot, 1, 1) ~= '!' then
    accepted = accepted + 1
  end
end
local full = limit / per
local granted = math.max(accepted, 1) / per
-- We may have been at it for a part of the window only, of which the end of the pause tells how old its oldest request is.
local busy, oldest = now - began, per - (resume - now)
if busy > 0 and busy < oldest then
  granted = granted * oldest / busy
end
local rate = full
if base > 0 then
  local windows = math.max(0, now - since) / per
  rate = base * 1.08 ^ math.min(windows * (windows + 1) / 2, 200)
end
base = math.max(math.min(granted, rate, full) * 0.7, full * 0.05)
redis.call('HSET', state, 'base', base, 'since', resume, 'next', math.max(next_turn, resume + jitter / base))
return paused
