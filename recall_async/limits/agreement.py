"""The quota of a lane: the one that its open sessions configured, otherwise the API's base value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..errors import ConfigurationError
from .quota import Quota, base_quota


class Agreement:
    """The sessions that use one lane, and their common quota.

    A quota applies until the last session that named it leaves: the other sessions return to the base value. If no
    session is left, the quota stays until the next session joins, because earlier requests are still reported under
    it.
    """

    __slots__ = ("_apply", "_named", "_operation", "quota", "sessions")

    def __init__(self, operation: str, quota: Quota, apply: Callable[[Quota], None]) -> None:
        self._operation = operation
        self._apply = apply
        self._named = 0
        self.sessions: int = 0
        """The number of open sessions."""
        self.quota: Quota = quota
        """The quota in force."""

    def join(self, quota: Quota | None) -> None:
        """Add a session. Raises `ConfigurationError` if an open session named another quota."""
        if quota is not None and self._named and quota != self.quota:
            raise ConfigurationError(
                f"the quota of {self._operation} must be {self.quota}, as in another open session of this workspace, got "
                f"{quota}: give both sessions the same `quotas`, or close the other one first"
            )
        if quota is not None or not self._named:
            self._change(quota or base_quota(self._operation))
        self.sessions += 1
        self._named += quota is not None

    def leave(self, quota: Quota | None) -> None:
        """Remove a session that joined with this quota."""
        self.sessions -= 1
        self._named -= quota is not None
        if self.sessions and quota is not None and not self._named:
            with suppress(ConfigurationError):  # the base value is too small for the store's local reserve
                self._change(base_quota(self._operation))

    def _change(self, quota: Quota) -> None:
        if quota != self.quota:
            self._apply(quota)
            self.quota = quota
