-- Look at one quota, and change nothing.
--
-- KEYS  slots (sorted set), state (hash)
-- Returns {now, taken, paused until, held until, requests per 1000 s or -1, quota or ''}.

local slots, state = unpack(KEYS)

<STATE>

local rate, shorter, quota = nil, 0, ''
if kept[3] then
  local limit, per
  quota, limit, per = string.match(kept[3], ' ((%d+)/(%d+))$')
  rate, shorter = pace(limit / per, per), math.max(0, span - per)
end
return {
  now, call('ZCOUNT', slots, string.format('(%.0f', now + shorter), '+inf'), paused, held,
  rate and math.floor(rate * 1e9) or -1, quota,
}
