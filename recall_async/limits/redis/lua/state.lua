-- What Redis knows of one quota beside its slots, and the pace after a 429. Each part stands in the other scripts where
-- they say its name, so that each of them makes no more functions than it needs: that took a fifth of all the time.
--
-- The numbers are packed, because reading and writing them one by one took another fifth: those that change with each grant
-- in the field `hot`, the others in `cold`. No field is longer than 64 bytes, beyond which Redis keeps a hash in a form that
-- takes longer to find. All numbers are microseconds, and moments of this server's clock where not said otherwise.

--- READ_STATE
-- KEYS[2] is the hash.
local SECOND = 1000000
local call = redis.call
local clock = call('TIME')
local now = clock[1] * SECOND + clock[2]

local kept = call('HMGET', KEYS[2], 'hot', 'cold', 'name', 'pace')
local tat, tat_bulk, last, urgent, next_turn, counted_from, count, count_before, count_earlier, bulk_at =
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0
if kept[1] then
  tat, tat_bulk,          -- when the token buckets of interactive and of bulk calls will be full
  last,                   -- when slots were last granted
  urgent,                 -- until when bulk calls leave interactive calls the turn
  next_turn,              -- when the next request may go at the pace after a 429
  counted_from,           -- since when interactive calls are counted
  count, count_before, count_earlier,  -- so many since then, and in the two windows before
  bulk_at                 -- when bulk calls last asked, in seconds
    = struct.unpack('<ddddddIIII', kept[1])
end
local span, rho, seen, longest, held, paused, began, span_at, longest_at = 0, 0, 0, 0, 0, 0, 0, 0, 0
if kept[2] then
  span,                 -- the longest window in use
  rho,                  -- slots per microsecond that are promised to interactive calls; settle.lua reads these two, too
  seen,                 -- a moment that has passed, not much longer ago than a second before the last ask
  longest,              -- the longest lease in use
  held, paused,         -- until when nobody goes: because slots were forgotten; because the API said so
  began,                -- the first grant after a window of silence
  span_at, longest_at   -- when the longest window and lease were last named, in seconds
    = struct.unpack('<dddddddII', kept[2])
end
local base, since = 0, 0
if kept[4] then
  base, since           -- the pace after a 429: requests per microsecond, and from when on
    = struct.unpack('<dd', kept[4])
end

--- KEEP_HOT
call('HSET', KEYS[2], 'hot', struct.pack('<ddddddIIII', tat, tat_bulk, last, urgent, next_turn, counted_from,
  count, count_before, count_earlier, bulk_at))

--- KEEP_COLD
seen = now
call('HSET', KEYS[2], 'cold', struct.pack('<dddddddII', span, rho, seen, longest, held, paused, began, span_at, longest_at))

--- KEEP_PACE
if base > 0 then
  call('HSET', KEYS[2], 'pace', struct.pack('<dd', base, since))
else
  call('HDEL', KEYS[2], 'pace')
end

--- PACE
-- The pace after a 429, as in pace.py: requests per microsecond, or nil if nothing holds us back.
local rate
if base > 0 then
  local windows = math.max(0, now - since) / per
  rate = base * <GROWTH> ^ math.min(windows * (windows + 1) / 2, 200)
  if rate >= limit / per then
    rate = nil
  end
end

--- CHANGE_SPAN
-- The longest window in use is another: `per`.
for _, slot in ipairs(call('ZRANGE', slots, 0, -1)) do
  call('ZINCRBY', slots, per - span, slot)
end
span, span_at, rho, cold = per, second, 0, true  -- the promise is computed anew
