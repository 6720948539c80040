-- What Redis knows of one quota beside its slots. Stands where a script says STATE, after `state`, the name of the hash,
-- was set. The numbers are packed, because reading and writing them one by one took a fifth of all the time: those that
-- change with each grant in the field `hot`, the others in `cold`. No field is longer than 64 bytes, beyond which Redis keeps
-- a hash in a form that takes longer to find. All numbers are microseconds, and moments of this server's clock.

local SECOND = 1000000
local call = redis.call
local clock = call('TIME')
local now = clock[1] * SECOND + clock[2]

local kept = call('HMGET', state, 'hot', 'cold', 'name', 'pace')
local tat, last, urgent, next_turn = 0, 0, 0, 0
if kept[1] then
  tat,        -- when the token bucket will be full
  last,       -- when slots were last granted
  urgent,     -- until when bulk calls leave interactive calls the turn
  next_turn   -- when the next request may go at the pace after a 429
    = struct.unpack('<dddd', kept[1])
end
local span, seen, span_at, longest, longest_at, held, paused, began = 0, 0, 0, 0, 0, 0, 0, 0
if kept[2] then
  span,                 -- the longest window in use; settle.lua reads it, too
  seen,                 -- a moment that has passed, not much longer ago than a second before the last ask
  span_at,              -- when that window was last named
  longest, longest_at,  -- the same for the longest lease
  held, paused,         -- until when nobody goes: because slots were forgotten; because the API said so
  began                 -- the first grant after a window of silence
    = struct.unpack('<dddddddd', kept[2])
end
local base, since = 0, 0
if kept[4] then
  base, since           -- the pace after a 429: requests per microsecond, and from when on
    = struct.unpack('<dd', kept[4])
end

local function keep_hot()
  call('HSET', state, 'hot', struct.pack('<dddd', tat, last, urgent, next_turn))
end

local function keep_cold()
  seen = now
  call('HSET', state, 'cold', struct.pack('<dddddddd', span, seen, span_at, longest, longest_at, held, paused, began))
end

local function keep_pace()
  if base > 0 then
    call('HSET', state, 'pace', struct.pack('<dd', base, since))
  else
    call('HDEL', state, 'pace')
  end
end

-- The pace after a 429, as in pace.py: requests per microsecond, or nil if nothing holds us back.
local function pace(full, per)
  if base == 0 then
    return nil
  end
  local windows = math.max(0, now - since) / per
  local rate = base * <GROWTH> ^ math.min(windows * (windows + 1) / 2, 200)
  return rate < full and rate or nil
end
