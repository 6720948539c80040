-- Read the use of one quota, without changing anything.
--
-- KEYS  slots (sorted set), state (hash)
-- Returns {now, taken, paused until, held until, requests per 1000 s or -1, quota or ''}.

<READ_STATE>

local limit, per, quota = 1, 1, ''
if kept[3] then
  quota, limit, per = string.match(kept[3], ' ((%d+)/(%d+))$')
end
<PACE>
return {
  now, call('ZCOUNT', KEYS[1], string.format('(%.0f', now + math.max(0, span - per)), '+inf'), paused, held,
  rate and math.floor(rate * 1e9) or -1, quota,
}
