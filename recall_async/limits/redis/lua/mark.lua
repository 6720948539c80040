-- Tell one life of this server's data from the next: the mark is set once, and goes with all else when data are lost.
--
-- KEYS  mark (hash)
-- ARGV  value   the mark, if there is none yet
-- Returns the mark.

redis.call('HSETNX', KEYS[1], 'life', ARGV[1])
return redis.call('HGET', KEYS[1], 'life')
