-- Add a chunk, unless it exists.
-- KEYS: job, stream   ARGV: stem, job's token, number of the first action, count, actions, events and keys, seconds to keep
local job, stream = KEYS[1], KEYS[2]
local stem, token, first, count, actions, tokens, keep = unpack(ARGV)

local refused = refusal(job)
if refused then
  return refused
end
if redis.call('HGET', job, 'written') == first then
  local numbers = {}
  for number = first, first + count - 1 do
    numbers[#numbers + 1] = string.format('%d', number)
  end
  add_chunk(stem, stream, next_chunk(job, token, numbers, tokens, actions), keep)
  local written = redis.call('HINCRBY', job, 'written', count)
  if written == tonumber(redis.call('HGET', job, 'total')) then
    redis.call('HSET', job, 'submitted', 1)
  end
  redis.call('EXPIRE', job, keep)
end
return redis.status_reply('OK')
