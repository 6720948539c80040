-- Take a chunk: one whose lease has expired, otherwise the next new one.
-- Returns {id, job's token, name, numbers of its actions, actions, numbers of the finished ones}, or how many chunks
-- other workers hold; -1 if no job was ever submitted, or all data is lost.
-- With `new_first` 1, new chunks come first, since the worker gave others back.
-- KEYS: stream   ARGV: stem, group, consumer, lease in milliseconds, deliveries at most, seconds to keep, new_first
local stream = KEYS[1]
local stem, group, consumer, lease, cap, keep, new_first = unpack(ARGV)

-- Return the reply for a chunk; nil if no action of it is to be performed.
local function accept(entry)
  local id, fields = entry[1], fields_of(entry)
  local job = stem .. 'job:' .. fields.job
  if redis.call('EXISTS', job) == 0 or redis.call('HGET', job, 'cancelled') then
    return remove_chunk(stem, stream, group, job, fields.name, id, keep)
  end
  local deliveries = redis.call('XPENDING', stream, group, id, id, 1)[1][4]
  local dead = deliveries > tonumber(cap)
  local done, lines = {}, string.gmatch(fields.actions, '[^\n]+')
  for number in string.gmatch(fields.numbers, '%d+') do
    local action = lines()
    if redis.call('HEXISTS', job .. ':outcomes', number) == 1 then
      done[#done + 1] = tonumber(number)
    elseif dead then
      redis.call('HSET', job .. ':failed', number, action)
    end
  end
  if dead then
    redis.call('HSET', job .. ':dead', fields.name, 1)
    redis.call('EXPIRE', job .. ':dead', keep)
    redis.call('EXPIRE', job .. ':failed', keep)
    return remove_chunk(stem, stream, group, job, fields.name, id, keep)
  end
  return {id, fields.job, fields.name, fields.numbers, fields.actions, done}
end

if redis.call('EXISTS', stream) == 0 then
  return -1
end

-- The worker holds no chunk: one that is assigned to it was in a reply that it did not get, or it was released.
for _, unheard in ipairs(redis.call('XPENDING', stream, group, '-', '+', 100, consumer)) do
  if is_held(unheard) then
    for _, entry in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unheard[1])) do
      local chunk = entry and accept(entry)
      if chunk then
        return chunk
      end
    end
  end
end

-- Return the next new chunk; nil if there is none.
local function next_one()
  while true do
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
    if not reply then
      return nil
    end
    local chunk = accept(reply[1][2][1])
    if chunk then
      return chunk
    end
  end
end

if new_first == '1' then
  local chunk = next_one()
  if chunk then
    return chunk
  end
end

local cursor = '0-0'
repeat
  local reply = redis.call('XAUTOCLAIM', stream, group, consumer, lease, cursor, 'COUNT', 1)
  cursor = reply[1]
  for _, entry in ipairs(reply[2]) do
    local chunk = entry and accept(entry)
    if chunk then
      return chunk
    end
  end
until cursor == '0-0'

while true do
  local chunk = next_one()
  if chunk then
    return chunk
  end
  local others = redis.call('XPENDING', stream, group)[1]
  local held = redis.call('HKEYS', stem .. 'held')
  if others > 0 or #held == 0 then
    return others + #held
  end
  for _, name in ipairs(held) do  -- the chunks that they wait for do not exist: part of the data was lost
    local packed = redis.call('HGET', stem .. 'held', name)
    redis.call('HDEL', stem .. 'held', name)
    redis.call('HDEL', stem .. 'needs', name)
    put_into_stream(stem, stream, cmsgpack.unpack(packed), keep)
  end
end
