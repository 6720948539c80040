-- Prefix of every script. Chunks with the same event or deduplication key are performed in the order of their submission,
-- whatever their jobs.
--
-- A chunk has a name, "job's token/number". Keys under `stem`, for the whole workspace:
--   last    hash: event or key -> name of the last unfinished chunk with it
--   held    hash: name -> a chunk that waits for others, packed
--   needs   hash: name -> how many chunks it waits for
--   behind: a set per chunk: the names of the chunks that wait for it
-- A job's own `chunks` hash: name -> id in the stream; empty while the chunk is held.

-- A released chunk stays pending, but counts as idle for a year (in milliseconds), so that it can be taken at once.
local YEAR = 31536000000

-- Return whether a worker holds a chunk, by its entry in XPENDING. The clock of the server may have been set back a little.
local function is_held(pending)
  return pending[3] < YEAR - 500000000
end

-- Return the fields of a stream's entry.
local function fields_of(entry)
  local fields = {}
  for place = 1, #entry[2], 2 do
    fields[entry[2][place]] = entry[2][place + 1]
  end
  return fields
end

-- Return why a job gets no further chunk, as an error reply, or nil.
local function refusal(job)
  if redis.call('EXISTS', job) == 0 then
    return redis.error_reply('RECALLGONE')
  end
  if redis.call('HGET', job, 'cancelled') then
    return redis.error_reply('RECALLCANCELLED')
  end
end

-- Make the next chunk of a job, from the numbers of its actions, their events and keys, and the actions.
local function next_chunk(job, token, numbers, tokens, actions)
  local name = token .. '/' .. redis.call('HINCRBY', job, 'chunks', 1)
  return {job = token, name = name, numbers = table.concat(numbers, ' '), tokens = tokens, actions = actions}
end

local function put_into_stream(stem, stream, chunk, keep)
  local id = redis.call('XADD', stream, '*', 'job', chunk.job, 'name', chunk.name, 'numbers', chunk.numbers,
    'tokens', chunk.tokens, 'actions', chunk.actions)
  local chunks = stem .. 'job:' .. chunk.job .. ':chunks'
  redis.call('HSET', chunks, chunk.name, id)
  redis.call('EXPIRE', chunks, keep)
end

-- Add a chunk: to the stream, or behind the chunks that it must wait for.
local function add_chunk(stem, stream, chunk, keep)
  local last, needs = stem .. 'last', 0
  for token in string.gmatch(chunk.tokens, '%S+') do
    local before = redis.call('HGET', last, token)
    if before and before ~= chunk.name then
      needs = needs + redis.call('SADD', stem .. 'behind:' .. before, chunk.name)
      redis.call('EXPIRE', stem .. 'behind:' .. before, keep)
    end
    redis.call('HSET', last, token, chunk.name)
  end
  redis.call('EXPIRE', last, keep)
  if needs == 0 then
    put_into_stream(stem, stream, chunk, keep)
    return
  end
  redis.call('HSET', stem .. 'held', chunk.name, cmsgpack.pack(chunk))
  redis.call('HSET', stem .. 'needs', chunk.name, needs)
  local chunks = stem .. 'job:' .. chunk.job .. ':chunks'
  redis.call('HSET', chunks, chunk.name, '')
  for _, key in ipairs({stem .. 'held', stem .. 'needs', chunks}) do
    redis.call('EXPIRE', key, keep)
  end
end

-- Release the chunks that wait for a chunk that was finished, abandoned or dropped.
local function let_others_go(stem, stream, name, tokens, keep)
  for token in string.gmatch(tokens, '%S+') do
    if redis.call('HGET', stem .. 'last', token) == name then
      redis.call('HDEL', stem .. 'last', token)
    end
  end
  for _, other in ipairs(redis.call('SMEMBERS', stem .. 'behind:' .. name)) do
    if redis.call('HINCRBY', stem .. 'needs', other, -1) <= 0 then
      redis.call('HDEL', stem .. 'needs', other)
      local packed = redis.call('HGET', stem .. 'held', other)
      if packed then
        redis.call('HDEL', stem .. 'held', other)
        put_into_stream(stem, stream, cmsgpack.unpack(packed), keep)
      end
    end
  end
  redis.call('DEL', stem .. 'behind:' .. name)
end

-- Remove a chunk that was finished, abandoned or cancelled, and release those that wait for it.
local function remove_chunk(stem, stream, group, job, name, id, keep)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  redis.call('HDEL', job .. ':chunks', name)
  let_others_go(stem, stream, name, entry and fields_of(entry).tokens or '', keep)
end
