"""The promise to interactive calls: how much of the window bulk calls leave free, now and for as long as a window lasts.

A bulk call may take a slot at time t only if what remains keeps the promise: `reserve` slots at any moment, and `rho`
slots a second from now on until the slot that it takes comes back. With `free` slots at t and `released(h)` of the taken
ones back within h seconds, it may go iff

    free + released(h) - 1 >= reserve + rho * h        for every h from 0 to per.                             (1)

What is known is when the answered slots come back: `per` seconds after the answer. All other slots that are held, of
requests in flight or lost, count as not coming back within `per`.

*What it guarantees.* If no more than rho * h interactive calls come in any h seconds after a bulk call was admitted, each
of them finds a free slot: by (1) that many have come back by then, and the next bulk call has to keep the promise anew.
Bulk calls lose nothing by it in the long run: a clump that they take at once comes back as a clump, one window later.

*How it is decided in O(1).* Number the answers 0, 1, 2, … as they arrive; answer k arrived at a[k], K have arrived so far,
and `held` slots are in flight or lost. (1) is tightest just before a slot comes back, and at h = per. Just before that of
answer k, what came back before cancels out on both sides, and (1) becomes

    key[k] - rho * t <= limit - held - K - 1 - reserve    with  key[k] = rho * (a[k] + per) - k               (2)

for every answer k whose slot is not back yet; at h = 0 and h = per it is

    free >= 1 + reserve                                and   limit - held - 1 - reserve >= rho * per.         (3)

A monotonic queue holds the largest key: an answer appends its key, after it has removed the smaller ones at the end;
slots that are back leave at the head. If (2) fails for the head, the next moment to look is the sooner of
t + (key - rho * t - room) / rho, where `room` is the right side of (2), and the moment when the head's slot is back.

*rho follows demand.* Interactive calls are counted by windows of `per` seconds, one after the other. With `busiest` the
largest count of the running window and the two before it,

    step = limit / per / STEPS
    rho  = min(most, max(least, step * ceil(FOLLOWED * busiest / per / step)))

so rho moves in steps, a few times in a window, and each move computes the keys anew. `least` is `Quota.promised`, what is
promised without any demand; `most` is `Quota.promised_at_most`, which keeps (3) possible: a lone bulk call always goes.

Nothing here reads a clock, waits or sends: times are parameters, in seconds, and never go back.
"""

from __future__ import annotations

import math
from collections import deque

from .quota import Quota
from .window import Window

FOLLOWED = 1.6
"""How much is promised of what interactive calls used lately."""
WINDOWS = 3
"""How many windows of demand are remembered, the running one included."""
STEPS = 20
"""Steps of `rho` from nothing to the whole quota."""
ROUNDING = 1e-6
"""Slots by which floating-point arithmetic may be off."""


class Promise:
    """When a bulk call may take a slot of `window`."""

    __slots__ = ("_answers", "_counts", "_enough", "_keys", "_quota", "_reserve", "_since", "_window", "rho")

    def __init__(self, window: Window, quota: Quota) -> None:
        self._window = window
        self._since = -math.inf
        self._counts: deque[int] = deque([0] * WINDOWS, maxlen=WINDOWS)
        self._answers = 0
        self.configure(quota)

    def configure(self, quota: Quota) -> None:
        """Keep another promise from now on; the window has been told. The demand is not forgotten."""
        self._quota = quota
        self._reserve = quota.reserved
        self.rho: float = -1.0
        """Slots per second that are promised."""
        self._follow()

    def wanted(self, now: float) -> None:
        """An interactive call asks for a slot."""
        self._roll(now)
        self._counts[-1] += 1
        if self._counts[-1] > self._enough:
            self._follow()

    def answered(self, now: float) -> None:
        """The answer to a request arrived; the window has been told."""
        self._push(now)

    def opens(self, now: float) -> float:
        """When a bulk call may go: `now`, or a time to look again, or `inf` to look at the next answer."""
        window = self._window
        opens = window.opens(now, self._quota.limit - self._reserve)
        if opens > now:
            return opens
        self._roll(now)
        rho, keys = self.rho, self._keys
        if not rho:
            return now
        room = self._quota.limit - window.held - 1 - self._reserve
        looks = min(window.next_lost(), self._next_move)  # the promise may change by itself then
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
        """A time before which a bulk call with `ahead` others before it cannot go, however fast the answers come."""
        self._roll(now)
        self._forget(now)
        if not self.rho or not self._keys:
            return now
        key, answer = self._keys[0]
        room = self._quota.limit - self._window.in_flight - self._answers - 1 - self._reserve - ahead
        return min((key - room) / self.rho, answer + self._window.per, self._next_move)

    @property
    def _next_move(self) -> float:
        """A time before which `rho` does not fall."""
        return self._since + self._window.per if self.rho > self._quota.promised else math.inf

    def _roll(self, now: float) -> None:
        """Begin the next window of demand if the running one is over."""
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
        """Let `rho` be what the demand calls for."""
        step = self._quota.rate / STEPS
        wanted = step * math.ceil(FOLLOWED * max(self._counts) / self._quota.per / step)
        most = self._quota.promised_at_most
        rho = min(most, max(self._quota.promised, wanted))
        # The calls of one window up to which it stays like that.
        steps = math.floor(rho / step + ROUNDING)
        self._enough = math.inf if rho >= most else steps * step * self._quota.per / FOLLOWED
        if rho != self.rho:
            self.rho = rho
            self._keys: deque[tuple[float, float]] = deque()
            answers = self._window.answers()
            self._answers -= len(answers)
            for answer in answers:
                self._push(answer)

    def _push(self, answer: float) -> None:
        key, keys = self.rho * (answer + self._window.per) - self._answers, self._keys
        while keys and keys[-1][0] <= key:
            keys.pop()
        keys.append((key, answer))
        self._answers += 1

    def _forget(self, now: float) -> None:
        keys = self._keys
        while keys and keys[0][1] + self._window.per <= now:
            keys.popleft()
