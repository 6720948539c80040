-- Add a chunk of failed and abandoned actions, without those that have been added again already.
-- Returns how many were added.
-- KEYS: job, stream   ARGV: stem, job's token, numbers, events and keys, seconds to keep
local job, stream = KEYS[1], KEYS[2]
local stem, token, numbers, tokens, keep = unpack(ARGV)
local failed, outcomes = job .. ':failed', job .. ':outcomes'

local refused = refusal(job)
if refused then
  return refused
end
local taken, actions = {}, {}
for number in string.gmatch(numbers, '%d+') do
  local action = redis.call('HGET', failed, number)
  if action then
    redis.call('HDEL', failed, number)
    if redis.call('HDEL', outcomes, number) == 1 then
      redis.call('HINCRBY', job, 'failed', -1)
    end
    taken[#taken + 1], actions[#actions + 1] = number, action
  end
end
if #taken > 0 then
  add_chunk(stem, stream, next_chunk(job, token, taken, tokens, table.concat(actions, '\n')), keep)
  redis.call('DEL', job .. ':dead')
  redis.call('EXPIRE', job, keep)
end
return #taken
