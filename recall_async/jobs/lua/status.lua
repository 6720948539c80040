-- A snapshot of a job: {total, done, failed, skipped, open, in work, dead, submitted, cancelled}; nil if there is none.
-- KEYS: job, stream   ARGV: group
local job, stream = KEYS[1], KEYS[2]

if redis.call('EXISTS', job) == 0 then
  return false
end
local ids, open = {}, 0
for _, id in ipairs(redis.call('HVALS', job .. ':chunks')) do
  ids[id] = true
  open = open + 1
end
local in_work, from = 0, '-'
while redis.call('EXISTS', stream) == 1 do
  local page = redis.call('XPENDING', stream, ARGV[1], from, '+', 1000)
  for _, pending in ipairs(page) do
    in_work = in_work + (ids[pending[1]] and is_held(pending) and 1 or 0)
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
  open - in_work, in_work, redis.call('HLEN', job .. ':dead'), count('submitted'), count('cancelled'),
}
