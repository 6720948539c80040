-- Begin or continue a job. Returns {chunk size, number of actions written so far}.
-- KEYS: job, stream   ARGV: stem, group, job's token, name, digest, total, chunk size, seconds to keep
local job, stream = KEYS[1], KEYS[2]
local stem, group, token, name, digest, total, size, keep = unpack(ARGV)

if redis.call('EXISTS', job) == 1 then
  if redis.call('HGET', job, 'digest') ~= digest then
    return redis.error_reply('RECALLOTHER')
  end
  if redis.call('HGET', job, 'cancelled') then
    return redis.error_reply('RECALLCANCELLED')
  end
else
  redis.call('HSET', job, 'name', name, 'digest', digest, 'total', total, 'size', size, 'chunks', 0, 'written', 0)
  if total == '0' then
    redis.call('HSET', job, 'submitted', 1)
  end
  redis.call('EXPIRE', job, keep)
  local now = redis.call('TIME')
  redis.call('ZADD', stem .. 'names', string.format('%d', now[1] * 1000000 + now[2]), token)
end
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end
return {tonumber(redis.call('HGET', job, 'size')), tonumber(redis.call('HGET', job, 'written'))}
