"""Who shares what: one lane per (event loop, workspace, operation), whichever session asks for it.

The registry belongs to the event loop, because lanes do. It outlives the sessions, so that a session opened after
another was closed knows what that one sent; and what a loop sent that was closed, the next loop inherits. Two loops that
run at the same time, in two threads, cannot share a lane: a process that uses one workspace in both is told so, once,
and needs a store that can be shared.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol

from ...errors import ConfigurationError
from ..contract import QuotaLane
from ..loops import PerLoop
from ..quota import Quota, base_quota
from .lane import LocalLane

logger = logging.getLogger("recall_async")

Lanes = dict[tuple[str, str], LocalLane]
_registry: PerLoop[Lanes] = PerLoop(dict)
_legacy: Lanes = {}
"""Lanes of closed loops that no other loop has asked for yet."""
_told: set[str] = set()


class LocalQuotaStore:
    """The quota's state in this process, shared by everybody in the running event loop."""

    longest_request = math.inf

    def lane(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        lanes = _registry.get()
        lane = lanes.get((workspace, operation))
        if lane is None:
            lane = lanes[workspace, operation] = LocalLane(operation, quota or base_quota(operation))
            lane.named = quota is not None
            _inherit(lane, workspace, operation)
        else:
            agree(lane, operation, quota)
        return lane

    async def aclose(self) -> None:
        """Nothing is held open."""


class ConfigurableLane(Protocol):
    """A lane that open sessions agree on."""

    sessions: int
    named: bool
    """Whether a session asked for this very quota; else it is the API's base value."""

    @property
    def quota(self) -> Quota:
        """What it keeps to."""

    def configure(self, quota: Quota) -> None:
        """Keep to another quota from now on."""


def agree(lane: ConfigurableLane, operation: str, quota: Quota | None) -> None:
    """Have a lane keep to what another session asks for; `ConfigurationError` if an open one asked for something else."""
    if quota is None:
        if not lane.sessions:
            _change(lane, base_quota(operation), named=False)
    elif quota != lane.quota and lane.sessions and lane.named:
        raise ConfigurationError(
            f"{operation} keeps to {lane.quota} in another open session of this workspace, so it cannot keep to "
            f"{quota} here: give both sessions the same `quotas`, or close the other one first"
        )
    else:
        _change(lane, quota, named=True)


def _change(lane: ConfigurableLane, quota: Quota, *, named: bool) -> None:
    lane.named = named
    if quota != lane.quota:
        lane.configure(quota)


def _inherit(lane: LocalLane, workspace: str, operation: str) -> None:
    for lanes in _registry.bequeathed():
        _legacy.update(lanes)
    if (earlier := _legacy.pop((workspace, operation), None)) is not None:
        lane.inherit(earlier)
    if workspace not in _told and any((workspace, operation) in lanes for lanes in _registry.others()):
        _told.add(workspace)
        logger.warning(
            "workspace %s is used in two event loops of this process at once: each keeps a quota of its own, so together "
            "they can overrun the server's. Use one loop, or share the quota: quota_store=RedisQuotaStore.from_url(...)",
            workspace,
        )
