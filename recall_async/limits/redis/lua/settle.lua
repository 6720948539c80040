-- Report how slots ended. An unreported slot is freed when its lease expires.
--
-- KEYS  slots (sorted set), state (hash), promise (list)
-- ARGV  client, per, then for each slot: its number, how it ended, and how long ago (microseconds of the client's clock,
--       measured when the message was sent, so that a slot is never freed too early)
--       answered   the slot is freed one window after the response
--       rejected   the same, but marked: pause.lua does not count it as granted by the API
--       unused     the slot is freed now

local slots, state, promise = unpack(KEYS)
local client, per = ARGV[1], tonumber(ARGV[2])
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cold = call('HGET', state, 'cold')  -- see state.lua
local span, rho = per, 0
if cold then
  span, rho = struct.unpack('<dd', cold)
  span = math.max(per, span)
end

for i = 3, #ARGV, 3 do
  local slot, ending, at = client .. ':' .. ARGV[i], ARGV[i + 1], now - ARGV[i + 2]
  local is_new
  if ending == 'answered' then
    -- XX and LT make a repeated message harmless: it neither restores a freed slot nor extends one.
    is_new = call('ZADD', slots, 'XX', 'LT', 'CH', at + span, slot) == 1
  else
    is_new = call('ZREM', slots, slot) == 1 and ending == 'rejected'
    if is_new then
      call('ZADD', slots, at + span, '!' .. slot)
    end
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
  end
end
