-- Add a chunk, unless it exists.
-- KEYS: job, stream   ARGV: stem, job's token, number of the first action, count, actions, events and keys, seconds to keep
local job, stream = KEYS[1], KEYS[2]
local stem, token, first, count, actions, tokens, keep = unpack(ARGV)

if redis.call('EXISTS', job) == 0 then
  return redis.error_reply('RECALLGONE')
end
if redis.call('HGET', job, 'cancelled') then
  return redis.error_reply('RECALLCANCELLED')
end
if redis.call('HGET', job, 'written') == first then
  local numbers = {}
  for number = first, first + count - 1 do
    numbers[#numbers + 1] = string.format('%d', number)
  end
  add_chunk(stem, stream, {
    job = token,
    name = token .. '/' .. redis.call('HINCRBY', job, 'chunks', 1),
    numbers = table.concat(numbers, ' '),
    tokens = tokens,
    actions = actions,
  }, keep)
  local written = redis.call('HINCRBY', job, 'written', count)
  if written == tonumber(redis.call('HGET', job, 'total')) then
    redis.call('HSET', job, 'submitted', 1)
  end
  redis.call('EXPIRE', job, keep)
end
return redis.status_reply('OK')
