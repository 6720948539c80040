-- Look at one quota, and change nothing.
--
-- KEYS  slots (sorted set), state (hash)
-- Returns {now, taken, paused until, held until, requests per 1000 s or -1, quota or ''}.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local kept = redis.call('HMGET', KEYS[2], 'paused', 'held', 'base', 'since', 'quota')
local base, since, quota = tonumber(kept[3] or '0'), tonumber(kept[4] or '0'), kept[5] or ''

local rate = -1
if base > 0 and quota ~= '' then
  -- As in acquire.lua.
  local limit, per = string.match(quota, '^(%d+)/(%d+)$')
  local windows = math.max(0, now - since) / per
  local slower = base * 1.08 ^ math.min(windows * (windows + 1) / 2, 200)
  if slower < limit / per then
    rate = math.floor(slower * 1e9)
  end
end
return {
  now, redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf'),
  tonumber(kept[1] or '0'), tonumber(kept[2] or '0'), rate, quota,
}
