-- End the pause after a 429, and the slower pace after it. What is held because slots were forgotten stays held.
--
-- KEYS  state (hash)
-- Returns for how long the pause would have gone on (microseconds), or -1 if there was neither a pause nor a slower pace.

local state = KEYS[1]

<STATE>

local left = paused > now and math.ceil(paused - now) or base > 0 and 0 or -1
if left >= 0 then
  paused, base, since, next_turn = 0, 0, 0, 0
  keep_hot()
  keep_cold()
  keep_pace()
end
return left
