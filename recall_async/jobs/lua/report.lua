-- Tell what became of actions of a chunk, and what becomes of the chunk: renew its lease, settle or release it.
-- Answers held, lost (somebody else has it: nothing was written) or cancelled.
-- KEYS: stream, job, outcomes, chunks
-- ARGV: group, consumer, id, what, seconds to keep, and number, status and line of each outcome
local stream, job, outcomes, chunks = unpack(KEYS)
local group, consumer, id, what, keep = unpack(ARGV, 1, 5)

local known = redis.call('EXISTS', job, stream) == 2
local pending = known and redis.call('XPENDING', stream, group, id, id, 1)[1]
local cancelled = known and redis.call('HGET', job, 'cancelled')
if not cancelled and not (pending and pending[2] == consumer) then
  return 'lost'
end

-- Only deliveries without any progress count: a chunk that gets on does not kill its workers.
local progress = #ARGV > 5
for place = 6, #ARGV, 3 do
  if redis.call('HSETNX', outcomes, ARGV[place], ARGV[place + 2]) == 1 then
    redis.call('HINCRBY', job, ARGV[place + 1], 1)
  end
end
redis.call('EXPIRE', job, keep)
redis.call('EXPIRE', outcomes, keep)
if cancelled then
  return 'cancelled'
end
redis.call('EXPIRE', chunks, keep)

if what == 'settle' then
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  redis.call('HDEL', chunks, id)
elseif what == 'release' then
  -- It can be taken at once, and this delivery does not count.
  local deliveries = progress and 0 or pending[4] - 1
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', 31536000000, 'RETRYCOUNT', deliveries, 'JUSTID')
else
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', progress and 0 or pending[4], 'JUSTID')
end
return 'held'
