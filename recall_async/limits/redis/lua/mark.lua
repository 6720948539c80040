-- Identify this life of the server's data: the mark is set once, and is lost with the data.
--
-- KEYS  mark (hash)
-- ARGV  value   the new mark, if there is none
-- Returns the mark.

redis.call('HSETNX', KEYS[1], 'life', ARGV[1])
return redis.call('HGET', KEYS[1], 'life')
