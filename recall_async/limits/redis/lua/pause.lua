-- Pause all processes after a 429, and reduce the pace after that, as in pace.py.
--
-- KEYS  slots (sorted set), state (hash)
-- ARGV  pause, age     for how long, and how long ago the 429 came (microseconds)
--       granted_at     when the request got its slot (microseconds of this server's clock)
--       limit, per     the quota; per in microseconds
--       jitter         a random number from 0 to 1
-- Returns until when all processes pause.

local slots, state = unpack(KEYS)
local pause, age, granted_at, limit, per, jitter = unpack(ARGV)
pause, age, granted_at = tonumber(pause), tonumber(age), tonumber(granted_at)
limit, per, jitter = tonumber(limit), tonumber(per), tonumber(jitter)

<READ_STATE>

local resume = (set_back and seen or now) - age + pause  -- of a pause, acquire.lua reckons the rest from `seen`
paused = math.max(paused, resume)
if set_back then
  <KEEP_COLD>
  call('PEXPIRE', state, math.ceil((pause + <STATE_TTL>) / 1000))
  return paused
end

if granted_at < since then
  -- The request was sent before the last slowdown, so it only extends the pause.
  since = math.max(since, resume)
else
  -- What the API granted in the last window: answered slots without the rejected ones.
  local accepted = 0
  for _, slot in ipairs(call('ZRANGEBYSCORE', slots, string.format('(%.0f', now + span - per), now + span)) do
    if string.sub(slot, 1, 1) ~= '!' then
      accepted = accepted + 1
    end
  end
  <PACE>
  local full = limit / per
  local granted, current = accepted / per, rate or full
  -- The lane may have sent only in a part of the window. The end of the pause tells the age of the oldest request in it.
  local busy, oldest = now - began, per - (resume - now)
  if busy > 0 and busy < oldest then
    if accepted > 0 then
      granted = granted * oldest / busy
    elseif bulk_at * SECOND > now - per then
      granted = full  -- most likely requests of the same job before a restart
    elseif not rate then
      granted = <FRESH> * full
    end
  end
  granted = math.min(granted, current)
  local floor = now >= since + per / 2 and current / 2 or current  -- what a slower pace does is seen half a window later
  base = math.max(granted - <DOUBT> * math.sqrt(granted / per), math.min(<FLOOR> * full, floor), <LEAST> / per)
  since, next_turn = resume, math.max(next_turn, resume + jitter * math.min(1 / base, <CAUTION>))
end
seen = math.max(seen, now - SECOND)  -- so that the next ask renews the keys
<KEEP_HOT>
<KEEP_COLD>
<KEEP_PACE>
call('PEXPIRE', state, math.ceil((math.max(0, paused - now) + <STATE_TTL>) / 1000))
return paused
