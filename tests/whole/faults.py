"""What goes wrong on the way to the server and back, drawn for each request by the seed of the run."""

from __future__ import annotations

from enum import Enum, auto
from random import Random


class Fault(Enum):
    """What becomes of one request."""

    NONE = auto()
    RESET_BEFORE = auto()
    """The connection breaks before the request is counted."""
    RESET_AFTER = auto()
    """The connection breaks after the request took effect."""
    CLOSED_AFTER = auto()
    """The connection is closed after the request took effect, without an answer."""
    GATEWAY = auto()
    """A gateway answers 502, 503 or 504 and passes nothing on."""
    GATEWAY_AFTER = auto()
    """The request takes effect, and then a gateway answers 502, 503 or 504."""
    GATEWAY_EARLY = auto()
    """A gateway answers before the application counts the request, which takes effect a little later."""
    THROTTLED = auto()
    """Something in front of the API answers 429."""
    SLOW_BEFORE = auto()
    """The request lies around before it is counted, for less than the client's time limit."""
    SLOW_WORK = auto()
    """The request is counted, and takes effect longer after than the client waits."""
    SLOW_AFTER = auto()
    """The request takes effect, and the answer comes later than the client waits."""
    TRUNCATED = auto()
    """The request takes effect, and its answer is cut off in the middle."""
    GARBLED = auto()
    """The request takes effect, and its answer is no JSON."""
    MIXED_UP = auto()
    """The request takes effect, and its answer is about another object."""
    TWICE = auto()
    """A second answer follows the first one while the connection is idle."""
    FULL_POOL = auto()
    """The API answers 507."""
    BLOCKED = auto()
    """A firewall answers 403."""
    BROKE = auto()
    """The API answers 402, and to every request of the next second."""


class Faults:
    """Draws a fault with probability `rate`, as long as there shall be any.

    Half of all runs have faults of two kinds only: what meets itself again and again goes deeper than what is met once.
    """

    def __init__(self, random: Random, rate: float) -> None:
        self._random = random
        kinds = [fault for fault in Fault if fault is not Fault.NONE]
        self._kinds = random.sample(kinds, 2) if random.random() < 0.5 else kinds
        self.rate = rate

    def draw(self) -> Fault:
        """What becomes of the next request."""
        if self._random.random() >= self.rate:
            return Fault.NONE
        return self._random.choice(self._kinds)

    def happens(self) -> bool:
        """Whether something else goes wrong now, such as a connection that is refused."""
        return self._random.random() < self.rate / 4
