"""Since when and why Redis does not answer, and what is logged of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

logger: logging.Logger = logging.getLogger("recall_async")

REMIND_EVERY = 60.0
"""Seconds between two warnings about one outage."""


class Silence:
    """An outage of Redis, or a refusal, as one link sees it. Times are seconds of the loop's clock."""

    def __init__(self, who: str, clock: Callable[[], float]) -> None:
        self._who = who
        self._now = clock
        self._remind_at = math.inf
        self._refusal = ""
        self.trouble: str = ""
        """Why Redis does not reply; empty while it does."""
        self.since: float | None = None
        """When the first message without a reply was sent."""

    @property
    def seconds(self) -> float:
        """How long a reply has been missing."""
        return 0.0 if self.since is None else self._now() - self.since

    def begin(self, why: str, since: float) -> None:
        """Record that a message got no reply."""
        begins, self.trouble = not self.trouble, why
        now = self._now()
        if begins:
            self.since = since if self.since is None else self.since
            self._remind_at = now + REMIND_EVERY
            logger.warning("%s does not answer, so calls wait for their quota: %s", self._who, why)
        elif now >= self._remind_at:
            self._remind_at = now + REMIND_EVERY
            logger.warning("%s has not answered for %.0f s, and calls still wait: %s", self._who, self.seconds, why)

    def refused(self, why: str) -> None:
        """Record that Redis refused the connection."""
        if why != self._refusal:
            self._refusal = why
            logger.warning("Redis refuses the connection, so calls fail: %s", why)

    def end(self) -> None:
        """Record a reply."""
        if self.trouble:
            logger.info("%s answers again after %.1f s", self._who, self.seconds)
        self._refusal = ""
        self.forget()

    def forget(self) -> None:
        """Forget the outage: no lane is in use any more."""
        self.trouble, self.since, self._remind_at = "", None, math.inf
