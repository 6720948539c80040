-- A job at this moment: {total, done, failed, skipped, open, in work, dead, submitted, cancelled}; nil if there is none.
-- KEYS: job, stream, chunks, dead   ARGV: group
local job, stream, chunks, dead = unpack(KEYS)

if redis.call('EXISTS', job) == 0 then
  return false
end
local in_work, from = 0, '-'
while redis.call('EXISTS', stream) == 1 do
  local page = redis.call('XPENDING', stream, ARGV[1], from, '+', 1000)
  for _, pending in ipairs(page) do
    in_work = in_work + redis.call('HEXISTS', chunks, pending[1])
  end
  if #page < 1000 then
    break
  end
  from = '(' .. page[#page][1]
end
local function count(name)
  return tonumber(redis.call('HGET', job, name) or 0)
end
return {
  count('total'), count('done'), count('failed'), count('skipped'),
  redis.call('HLEN', chunks) - in_work, in_work, redis.call('HLEN', dead), count('submitted'), count('cancelled'),
}
