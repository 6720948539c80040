"""The promise to interactive calls: how many slots bulk calls leave free, now and during the next window.

A bulk call may take a slot at time t only if the other slots keep the promise: `reserve` slots at any moment, and
`rho` slots per second until the taken slot is freed. With `free` slots at t, and `released(h)` of the used slots
freed within h seconds, the call is admitted if and only if

    free + released(h) - 1 >= reserve + rho * h        for every h from 0 to per.                             (1)

An answered slot is freed `per` seconds after its response. All other used slots, of requests in flight or lost, count
as not freed within `per`.

*Guarantee.* If at most rho * h interactive calls arrive in any h seconds after a bulk call was admitted, each of them
finds a free slot: by (1) enough slots have been freed by then, and each further bulk call must keep the promise, too.
In the long run bulk calls lose no throughput: slots that they take in a burst are freed in a burst, one window later.

*Decision in O(1).* Number the responses 0, 1, 2, … as they arrive; response k arrived at a[k], K have arrived so far,
and `held` slots are in flight or lost. (1) is tightest just before a slot is freed, and at h = per. Just before the
slot of response k is freed, the slots freed earlier cancel out on both sides, and (1) becomes

    key[k] - rho * t <= limit - held - K - 1 - reserve    with  key[k] = rho * (a[k] + per) - k               (2)

for every response k whose slot is not freed yet; at h = 0 and h = per it is

    free >= 1 + reserve                                and   limit - held - 1 - reserve >= rho * per.         (3)

A monotonic queue has the largest key at its head: a response removes the smaller keys at the end and appends its own;
freed slots leave at the head. If (2) fails for the head, try again at t + (key - rho * t - room) / rho, where `room`
is the right side of (2), or when the head's slot is freed, whichever is sooner.

*rho follows demand.* Interactive calls are counted in consecutive windows of `per` seconds. With `busiest`, the
largest count of the current window and the two before it,

    step = limit / per / STEPS
    rho  = min(most, max(least, step * ceil(FOLLOWED * busiest / per / step)))

so rho changes in steps, a few times per window, and each change recomputes the keys. `least` is `Quota.promised`, the
promise without any demand; `most` is `Quota.promised_at_most`, which keeps (3) possible: a single bulk call is always
admitted.

*A careful start.* Other clients, or the same job before a restart, may have used the server's window unseen. A lane that
had no response within the last window has at most `OPENING` requests in flight for bulk calls, and one more for each
response: if the window is full, a few requests are rejected, not half a window of them.

This module reads no clock and does no I/O: times are parameters, in seconds, and never decrease.
"""

from __future__ import annotations

import math
from collections import deque

from .quota import Quota
from .window import Window

FOLLOWED = 1.6
"""The promise, as a factor of the rate of recent interactive calls."""
WINDOWS = 3
"""The number of windows whose demand is stored, including the current one."""
STEPS = 20
"""Steps of `rho` from 0 to the whole quota."""
OPENING = 32
"""The requests in flight before bulk calls wait for a response, if there was none within the last window."""
ROUNDING = 1e-6
"""The tolerance for floating-point errors, in slots."""


class Promise:
    """Decides when a bulk call may take a slot of `window`."""

    __slots__ = ("_answers", "_counts", "_enough", "_keys", "_quota", "_reserve", "_since", "_window", "rho")

    def __init__(self, window: Window, quota: Quota) -> None:
        self._window = window
        self._since = -math.inf
        self._counts: deque[int] = deque([0] * WINDOWS, maxlen=WINDOWS)
        self._answers = 0
        self.configure(quota)

    def configure(self, quota: Quota) -> None:
        """Keep the promise of another quota from now on. Configure the window first. The demand is kept."""
        self._quota = quota
        self._reserve = quota.reserved
        self.rho: float = -1.0
        """The promised slots per second."""
        self._follow()

    def wanted(self, now: float) -> None:
        """Record that an interactive call asks for a slot."""
        if now >= self._since + self._window.per:
            self._roll(now)
        self._counts[-1] += 1
        if self._counts[-1] > self._enough:
            self._follow()

    def answered(self, answer: float) -> None:
        """Record a response. Call `Window.answered` first."""
        if self.rho:
            key, keys = self.rho * (answer + self._window.per) - self._answers, self._keys
            while keys and keys[-1][0] <= key:
                keys.pop()
            keys.append((key, answer))
            if keys[0][1] + self._window.per <= answer:
                keys.popleft()
        self._answers += 1

    def opens(self, now: float) -> float:
        """Return `now` if a bulk call is admitted, otherwise a time to try again, or `inf` for the next response."""
        window = self._window
        opens = window.opens(now, self._quota.limit - self._reserve)
        if opens > now:
            return opens
        self._roll(now)
        rho, keys = self.rho, self._keys
        if not rho:
            return now
        room = self._quota.limit - window.held - 1 - self._reserve
        looks = min(window.next_lost(), self._next_move)  # the promise may change then
        later = math.nextafter(now, math.inf)
        if room + ROUNDING < rho * self._quota.per:
            return max(later, looks)
        self._forget(now)
        if not keys:
            return now
        key, answer = keys[0]
        missing = key - rho * now - room + self._answers
        if missing <= ROUNDING:
            return now
        return max(later, min(now + missing / rho, answer + window.per, looks))

    def earliest(self, now: float, ahead: int) -> float:
        """Return a time before which a bulk call with `ahead` calls before it cannot be admitted in any case."""
        self._roll(now)
        self._forget(now)
        if not self.rho or not self._keys:
            return now
        key, answer = self._keys[0]
        room = self._quota.limit - self._window.in_flight - self._answers - 1 - self._reserve - ahead
        return min((key - room) / self.rho, answer + self._window.per, self._next_move)

    def places(self, now: float) -> float:
        """Return how many requests may be in flight before bulk calls wait for a response."""
        if not self.rho:
            return math.inf
        return OPENING + self._window.heard(now)

    @property
    def _next_move(self) -> float:
        """Return a time before which `rho` does not decrease."""
        return self._since + self._window.per if self.rho > self._quota.promised else math.inf

    def _roll(self, now: float) -> None:
        """Begin the next window of demand if the current one has ended."""
        per = self._window.per
        if now < self._since + per:
            return
        passed = (now - self._since) / per
        if passed < WINDOWS:
            whole = max(1, int(passed))
            self._since += per * whole
            self._counts.extend([0] * whole)
        else:
            self._since = now
            self._counts.extend([0] * WINDOWS)
        self._follow()

    def _follow(self) -> None:
        """Set `rho` to follow the demand."""
        step = self._quota.rate / STEPS
        wanted = step * math.ceil(FOLLOWED * max(self._counts) / self._quota.per / step)
        most = self._quota.promised_at_most
        rho = min(most, max(self._quota.promised, wanted))
        # The number of calls per window up to which `rho` stays the same.
        steps = math.floor(rho / step + ROUNDING)
        self._enough = math.inf if rho >= most else steps * step * self._quota.per / FOLLOWED
        if rho != self.rho:
            self.rho = rho
            self._keys: deque[tuple[float, float]] = deque()
            for answer in self._window.answers():
                self.answered(answer)

    def _forget(self, now: float) -> None:
        keys = self._keys
        while keys and keys[0][1] + self._window.per <= now:
            keys.popleft()
