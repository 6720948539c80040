-- Report how slots ended, when no ask for slots is sent with it: acquire.lua does the same. An unreported slot is freed
-- when its lease expires.
--
-- KEYS  slots (sorted set), state (hash), promise (list)
-- ARGV  client, per
--       ended   packed, for each slot: its number, how it ended, and how long ago (microseconds of the client's clock,
--               measured when the message was sent, so that a slot is never freed too early):
--         <ANSWERED>   the slot is freed one window after the response
--         <REJECTED>   the same, but marked: pause.lua does not count it as granted by the API
--         <UNUSED>     the slot is freed now

local slots, state, promise = unpack(KEYS)
local client, per, ended = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cold = call('HGET', state, 'cold')  -- see state.lua
local span, rho = per, 0
if cold then
  span, rho = struct.unpack('<dd', cold)
  span = math.max(per, span)
end

<RECORD_ENDINGS>
