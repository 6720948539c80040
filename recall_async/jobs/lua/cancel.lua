-- Drop what is left of a job. Answers whether there is such a job.
-- KEYS: job, stream, chunks   ARGV: group
local job, stream, chunks = unpack(KEYS)

if redis.call('EXISTS', job) == 0 then
  return 0
end
local left = redis.call('HKEYS', chunks)
if #left > 0 or not redis.call('HGET', job, 'submitted') then
  redis.call('HSET', job, 'cancelled', 1)
end
for _, id in ipairs(left) do
  redis.call('XACK', stream, ARGV[1], id)
  redis.call('XDEL', stream, id)
end
redis.call('DEL', chunks)
return 1
