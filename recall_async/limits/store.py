"""Who shares what: one lane per (event loop, workspace, operation), whichever session asks for it.

The registry belongs to the event loop, because lanes do. It outlives the sessions, so that a session opened after
another was closed knows what that one sent. A process that uses one workspace in several loops has a quota in each of
them that knows nothing of the others: it is told so, once, and needs a store that can be shared.
"""

from __future__ import annotations

import asyncio
import logging
from threading import Lock
from weakref import WeakKeyDictionary, ref

from ..errors import ConfigurationError
from .contract import QuotaLane
from .lane import LocalLane
from .quota import Quota, base_quota

logger = logging.getLogger("recall_async")

_lock = Lock()
_lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], LocalLane]] = WeakKeyDictionary()
_homes: dict[str, ref[asyncio.AbstractEventLoop] | None] = {}
"""The first loop in which a workspace was used; `None` once a second one was reported."""


class LocalQuotaStore:
    """The quota's state in this process, shared by everybody in the running event loop."""

    def lane(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        loop = asyncio.get_running_loop()
        with _lock:
            lanes = _lanes.setdefault(loop, {})
            _warn_of_second_loop(workspace, loop)
        lane = lanes.get((workspace, operation))
        if lane is None:
            lane = lanes[workspace, operation] = LocalLane(operation, quota or base_quota(operation))
            lane.named = quota is not None
        elif quota is None:
            if not lane.sessions:
                _change(lane, base_quota(operation), named=False)
        elif quota != lane.quota and lane.sessions and lane.named:
            raise ConfigurationError(
                f"{operation} keeps to {lane.quota} in another open session of this workspace, so it cannot keep to "
                f"{quota} here: give both sessions the same `quotas`, or close the other one first"
            )
        else:
            _change(lane, quota, named=True)
        return lane

    async def aclose(self) -> None:
        """Nothing is held open."""


def _change(lane: LocalLane, quota: Quota, *, named: bool) -> None:
    lane.named = named
    if quota != lane.quota:
        lane.configure(quota)


def _warn_of_second_loop(workspace: str, loop: asyncio.AbstractEventLoop) -> None:
    home = _homes.setdefault(workspace, ref(loop))
    if home is not None and home() is not loop:
        _homes[workspace] = None
        logger.warning(
            "workspace %s is used in more than one event loop of this process: each loop keeps a quota of its own, so "
            "together they can overrun the server's. Use one loop, or share the quota: quota_store=RedisQuotaStore(...)",
            workspace,
        )
