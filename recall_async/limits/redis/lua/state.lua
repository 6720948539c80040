-- The state of one quota other than its slots, and the pace after a 429. The other scripts include each part by its name,
-- so that each of them creates only the functions that it needs: creating all took a fifth of the time.
--
-- The numbers are packed, because reading and writing them one by one took another fifth: those that change with each
-- grant in the field `hot`, the others in `cold`. No field is longer than 64 bytes: with longer ones, Redis stores the hash
-- in a slower form. Numbers are microseconds, and times of this server's clock, unless another unit is named. Those for a
-- command of each ask are written by '%d', because Redis takes far longer to write a number itself.

--- READ_STATE
-- KEYS[2] is the hash.
local SECOND = 1000000
local call = redis.call
local clock = call('TIME')
local now = clock[1] * SECOND + clock[2]

local kept = call('HMGET', KEYS[2], 'hot', 'cold', 'name', 'pace', 'fenced')
local tat, tat_bulk, last, urgent, next_turn, counted_from, count, count_before, count_earlier, bulk_at =
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0
if kept[1] then
  tat, tat_bulk,          -- when the token buckets of interactive and of bulk calls will be full
  last,                   -- when slots were last granted
  urgent,                 -- until when bulk calls wait for interactive calls
  next_turn,              -- when the next request may be sent at the pace after a 429
  counted_from,           -- since when interactive calls are counted
  count, count_before, count_earlier,  -- their number since then, and in the two windows before
  bulk_at                 -- when bulk calls last asked, in seconds
    = struct.unpack('<ddddddIIII', kept[1])
end
local span, rho, seen, longest, held, paused, began, span_at, longest_at = 0, 0, 0, 0, 0, 0, 0, 0, 0
if kept[2] then
  span,                 -- how long answered slots are remembered: the longest window in use, or the API's own
  rho,                  -- promised slots per microsecond for interactive calls; settle.lua also reads these two
  seen,                 -- a past time, at most about a second before the last ask, which renews the keys a second later
  longest,              -- the longest lease in use
  held, paused,         -- until when no request is sent: because slots were lost; because of a 429
  began,                -- the first grant after a window without grants
  span_at, longest_at   -- when the longest window and lease were last named, in seconds
    = struct.unpack('<dddddddII', kept[2])
end
local set_back = now < seen - SECOND  -- the server's clock
local base, since = 0, 0
if kept[4] then
  base, since           -- the pace after a 429: requests per microsecond, and from when on
    = struct.unpack('<dd', kept[4])
end

--- KEEP_HOT
call('HSET', KEYS[2], 'hot', struct.pack('<ddddddIIII', tat, tat_bulk, last, urgent, next_turn, counted_from,
  count, count_before, count_earlier, bulk_at))

--- KEEP_COLD
call('HSET', KEYS[2], 'cold', struct.pack('<dddddddII', span, rho, seen, longest, held, paused, began, span_at, longest_at))

--- KEEP_PACE
if base > 0 then
  call('HSET', KEYS[2], 'pace', struct.pack('<dd', base, since))
else
  call('HDEL', KEYS[2], 'pace')
end

--- PACE
-- The pace after a 429, as in pace.py: requests per microsecond, or nil if the pace is not reduced.
local rate
if base > 0 then
  local windows = math.max(0, now - since) / per
  local slowly = math.min(windows, 1 + <CAUTION> / per, 2.5)
  rate = base * <GROWTH> ^ slowly * <RECOVERY> ^ math.min(windows - slowly, 50)
  rate = rate < limit / per * <RECOVERY> and math.min(rate, limit / per) or nil
end

--- CHANGE_SPAN
-- Remember answered slots for `remember`.
for _, slot in ipairs(call('ZRANGE', slots, 0, -1)) do
  call('ZINCRBY', slots, remember - span, slot)
end
span, span_at, rho, cold = remember, second, 0, true  -- the promise must be recomputed

--- RECORD_ENDINGS
-- `ended` as in settle.lua.
local place = 1
while place <= #ended do
  local number, ending, age, is_new
  number, ending, age, place = struct.unpack('<dBd', ended, place)
  local slot, at = string.format('%s:%d', client, number), now - age
  if ending == <ANSWERED> then
    -- XX and LT make a repeated message harmless: it neither restores a freed slot nor extends one.
    is_new = call('ZADD', slots, 'XX', 'LT', 'CH', string.format('%d', at + span), slot) == 1
  else
    is_new = ending == <REJECTED> and call('ZSCORE', slots, slot)
    if is_new then
      call('ZADD', slots, string.format('%d', at + span), '!' .. slot)  -- first, for an empty set would lose its expiry
    end
    call('ZREM', slots, slot)
  end
  if is_new and rho > 0 then
    -- Record the response for the promise to interactive calls; see acquire.lua and promise.py.
    local number, last, last_at, last_number = 0, call('LINDEX', promise, -1), nil, nil
    if last then
      last_at, last_number = struct.unpack('<dd', last)
      number, at = last_number + 1, math.max(at, last_at)
    end
    local key = rho * (at + per) - number
    while last and rho * (last_at + per) - last_number <= key do
      call('RPOP', promise)
      last = call('LINDEX', promise, -1)
      if last then
        last_at, last_number = struct.unpack('<dd', last)
      end
    end
    call('RPUSH', promise, struct.pack('<dd', at, number))
    if not last then  -- the list is new; perhaps nobody asks again
      call('PEXPIRE', promise, math.ceil(2 * span / 1000))
    end
  end
end
