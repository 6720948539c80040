-- Remove workers that hold no chunk and have sent nothing for the length of a lease; a worker that still runs is added
-- again with its next command.
-- KEYS: stream   ARGV: group, lease in milliseconds
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for place = 1, #facts, 2 do
      consumer[facts[place]] = facts[place + 1]
    end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    end
  end
end
return 0
