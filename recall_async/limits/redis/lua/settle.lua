-- Say how slots ended. What is not reported comes back when its lease is over.
--
-- KEYS  slots (sorted set), state (hash)
-- ARGV  client, per, then for each slot: its number, how it ended, and how long ago (microseconds of the client's clock,
--       measured when the message left, so that a slot never comes back too early)
--       answered   it comes back one window after the answer
--       rejected   the same, but marked: pause.lua does not count it as granted by the API
--       unused     it comes back now

local slots, state = unpack(KEYS)
local client, per = ARGV[1], tonumber(ARGV[2])
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cold = call('HGET', state, 'cold')  -- see state.lua
local span = cold and math.max(per, (struct.unpack('<d', cold))) or per

for i = 3, #ARGV, 3 do
  local slot, ending, back = client .. ':' .. ARGV[i], ARGV[i + 1], now - ARGV[i + 2] + span
  if ending == 'answered' then
    -- XX and LT make a repeated message harmless: it neither brings back a slot nor holds it longer.
    call('ZADD', slots, 'XX', 'LT', back, slot)
  elseif call('ZREM', slots, slot) == 1 and ending == 'rejected' then
    call('ZADD', slots, back, '!' .. slot)
  end
end
