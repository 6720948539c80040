"""In which order actions go: soonest event first, and never two at once that would get in each other's way."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from ..call import Account
from ..errors import ConfigurationError
from .actions import Action, RemoveBot, ScheduleBot, event_of, start_of
from .records import conflict_keys


def check_action(action: object) -> Action:
    """The action. Raises `ConfigurationError` for anything else."""
    if not isinstance(action, ScheduleBot | RemoveBot):
        raise ConfigurationError(f"a bulk job takes ScheduleBot and RemoveBot, not {type(action).__name__}")
    return action


async def soonest_first(given: Iterable[Action]) -> list[Action]:
    """The actions by start time of their events, those without one last; an event's own actions keep their order."""
    actions = list(given)  # which it may be possible to read only once
    starts: dict[str, float] = {}
    for number, action in enumerate(actions):
        if number % 1024 == 1023:
            await asyncio.sleep(0)
        event = event_of(check_action(action))
        starts[event] = min(start_of(action), starts.get(event, math.inf))
    actions.sort(key=lambda action: starts[event_of(action)])
    return actions


class Item:
    """An action on its way through the job."""

    __slots__ = ("account", "action", "blockers", "conflict_keys", "followers")

    def __init__(self, action: Action, account: Account) -> None:
        self.action: Action = action
        self.account: Account = account
        self.conflict_keys: list[object] = conflict_keys(action)
        self.blockers: int = 0
        self.followers: list[Item] = []


class ConflictQueue:
    """Which actions may go now: of those on one event, or with one deduplication key, only the first."""

    def __init__(self) -> None:
        self._last: dict[object, Item] = {}
        self.ready: deque[Item] = deque()
        """Those that may go."""
        self.waiting: int = 0
        """How many were added and not popped yet."""

    def add(self, item: Item) -> None:
        """Put an action behind those that it must wait for."""
        self.waiting += 1
        for key in item.conflict_keys:
            before = self._last.get(key)
            if before is not None:
                before.followers.append(item)
                item.blockers += 1
            self._last[key] = item
        if not item.blockers:
            self.ready.append(item)

    def pop(self) -> Item:
        """Take the next action that may go."""
        self.waiting -= 1
        return self.ready.popleft()

    def finished(self, item: Item) -> None:
        """Let those go that waited for this action, which was popped."""
        for key in item.conflict_keys:
            if self._last.get(key) is item:
                del self._last[key]
        for follower in item.followers:
            follower.blockers -= 1
            if not follower.blockers:
                self.ready.append(follower)
