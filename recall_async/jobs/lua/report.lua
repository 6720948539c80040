-- Write the results of a chunk's actions, and renew the chunk's lease, settle it or release it.
-- Returns held, lost (another worker holds it: nothing was written), cancelled, or gone (Redis has lost the job).
-- KEYS: stream, job
-- ARGV: stem, group, consumer, id, name, what, seconds to keep, excused; then number, status, line and, if it failed, action of each
local stream, job = KEYS[1], KEYS[2]
local stem, group, consumer, id, name, what, keep, excused = unpack(ARGV, 1, 8)
local outcomes, chunks, failed = job .. ':outcomes', job .. ':chunks', job .. ':failed'

if redis.call('EXISTS', job, stream) < 2 then
  return 'gone'
end
local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
-- A cancelled renewal that arrives after the release must not take the chunk back.
if not (pending and pending[2] == consumer and is_held(pending)) then
  return redis.call('HGET', job, 'cancelled') and 'cancelled' or 'lost'
end
local cancelled = redis.call('HGET', job, 'cancelled')

-- Only deliveries without progress count: a chunk with finished actions does not kill its workers. In an outage of the
-- API no worker finishes anything, so those that die in it do not count.
local progress = #ARGV > 8 or excused == '1'
for place = 9, #ARGV, 4 do
  if redis.call('HSETNX', outcomes, ARGV[place], ARGV[place + 2]) == 1 then
    redis.call('HINCRBY', job, ARGV[place + 1], 1)
    if ARGV[place + 1] == 'failed' then
      redis.call('HSET', failed, ARGV[place], ARGV[place + 3])
    end
  end
end
for _, key in ipairs({job, outcomes, chunks, failed}) do
  redis.call('EXPIRE', key, keep)
end

if what == 'settle' or (what == 'release' and cancelled) then
  remove_chunk(stem, stream, group, job, name, id, keep)
elseif what == 'release' then
  -- The chunk can be taken at once, and this delivery does not count.
  local deliveries = progress and 0 or pending[4] - 1
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', YEAR, 'RETRYCOUNT', deliveries, 'JUSTID')
else
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', progress and 0 or pending[4], 'JUSTID')
end
return cancelled and 'cancelled' or 'held'
