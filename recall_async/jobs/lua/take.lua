-- Take a chunk: one whose lease is over, or else the next one that nobody had.
-- Answers {id, job's token, number of the first action, actions, numbers of those that are done}, or how many chunks others
-- have.
-- KEYS: stream   ARGV: group, consumer, lease in milliseconds, deliveries at most, stem of the jobs' keys, seconds to keep
local stream = KEYS[1]
local group, consumer, lease, cap, stem, keep = unpack(ARGV)

local function drop(id)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
end

-- The chunk as it is answered; nil if there is nothing to be done about it any more.
local function accept(entry)
  local id, fields = entry[1], entry[2]
  local token, first, count, actions = fields[2], tonumber(fields[4]), tonumber(fields[6]), fields[8]
  local job = stem .. token
  if redis.call('EXISTS', job) == 0 then
    return drop(id)
  end
  local deliveries = redis.call('XPENDING', stream, group, id, id, 1)[1][4]
  if deliveries > tonumber(cap) then
    redis.call('HSET', job .. ':dead', id, actions)
    redis.call('EXPIRE', job .. ':dead', keep)
    redis.call('HDEL', job .. ':chunks', id)
    return drop(id)
  end
  local done = {}
  for number = first, first + count - 1 do
    if redis.call('HEXISTS', job .. ':outcomes', number) == 1 then
      done[#done + 1] = number
    end
  end
  return {id, token, first, actions, done}
end

if redis.call('EXISTS', stream) == 0 then
  return 0
end

-- Who asks has nothing: what is noted as his was in an answer that he did not get.
local unheard = redis.call('XPENDING', stream, group, '-', '+', 1, consumer)[1]
if unheard then
  for _, entry in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unheard[1])) do
    local chunk = entry and accept(entry)
    if chunk then
      return chunk
    end
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
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  if not reply then
    return redis.call('XPENDING', stream, group)[1]
  end
  local chunk = accept(reply[1][2][1])
  if chunk then
    return chunk
  end
end
