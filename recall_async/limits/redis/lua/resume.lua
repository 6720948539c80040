-- End the pause after a 429, and the slower pace after it. A hold because of lost slots stays.
--
-- KEYS  slots (sorted set), state (hash)
-- Returns the remaining microseconds of the pause, or -1 if there was neither a pause nor a slower pace.

<READ_STATE>

local left = paused > now and math.ceil(paused - now) or base > 0 and 0 or -1
if left >= 0 then
  paused, base, since, next_turn = 0, 0, 0, 0
  <KEEP_HOT>
  <KEEP_COLD>
  <KEEP_PACE>
end
return left
