-- Drop a job's unfinished actions. A chunk that a worker holds is dropped when the worker learns of it, or its lease
-- expires: until then its requests may be in flight, and chunks behind it wait. Returns whether the job exists.
-- KEYS: job, stream   ARGV: stem, group, seconds to keep
local job, stream = KEYS[1], KEYS[2]
local stem, group, keep = unpack(ARGV)
local chunks = job .. ':chunks'

if redis.call('EXISTS', job) == 0 then
  return 0
end
local left = redis.call('HGETALL', chunks)
if #left > 0 or not redis.call('HGET', job, 'submitted') then
  redis.call('HSET', job, 'cancelled', 1)
end
for place = 1, #left, 2 do
  local name, id = left[place], left[place + 1]
  if id == '' then
    redis.call('HDEL', chunks, name)  -- a waiting chunk stays in the queue, and is dropped when it is next
  else
    local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
    if not (pending and is_held(pending)) then
      remove_chunk(stem, stream, group, job, name, id, keep)
    end
  end
end
return 1
