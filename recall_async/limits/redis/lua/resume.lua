-- End the pause after a 429, and the slower pace after it. What is held because slots were forgotten stays held.
--
-- KEYS  state (hash)
-- Returns for how long the pause would have gone on (microseconds), 0 if there was none.

local state = KEYS[1]

<STATE>

local left = math.max(0, math.ceil(paused - now))
if kept[2] then
  paused, base, since, next_turn = 0, 0, 0, 0
  keep_hot()
  keep_cold()
  keep_pace()
end
return left
