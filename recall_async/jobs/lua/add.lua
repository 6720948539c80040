-- Add a chunk, unless it is there. Answers how many actions of the job are written.
-- KEYS: job, stream, chunks   ARGV: job's token, number of the first action, count, actions, seconds to keep
local job, stream, chunks = KEYS[1], KEYS[2], KEYS[3]
local token, first, count, actions, keep = unpack(ARGV)

if redis.call('EXISTS', job) == 0 then
  return redis.error_reply('RECALLGONE')
end
if redis.call('HGET', job, 'cancelled') then
  return redis.error_reply('RECALLCANCELLED')
end
if redis.call('HGET', job, 'written') == first then
  local id = redis.call('XADD', stream, '*', 'job', token, 'first', first, 'count', count, 'actions', actions)
  redis.call('HSET', chunks, id, first)
  redis.call('HINCRBY', job, 'chunks', 1)
  local written = redis.call('HINCRBY', job, 'written', count)
  if written == tonumber(redis.call('HGET', job, 'total')) then
    redis.call('HSET', job, 'submitted', 1)
  end
  redis.call('EXPIRE', job, keep)
  redis.call('EXPIRE', chunks, keep)
end
return tonumber(redis.call('HGET', job, 'written'))
