-- Drop what is left of a job. A chunk that a worker has is dropped when the worker has heard of it, or its lease is over:
-- until then, requests for it may be in flight, and chunks behind it wait. Answers whether there is such a job.
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
  local tokens = ''
  if id == '' then
    redis.call('HDEL', chunks, name)  -- what waits for others stays in line, and is dropped when its turn comes
  elseif not redis.call('XPENDING', stream, group, id, id, 1)[1] then
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      for field = 1, #entry[2], 2 do
        if entry[2][field] == 'tokens' then
          tokens = entry[2][field + 1]
        end
      end
      redis.call('XDEL', stream, id)
    end
    redis.call('HDEL', chunks, name)
    let_others_go(stem, stream, name, tokens, keep)
  end
end
return 1
