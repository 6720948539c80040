"""The order of actions: soonest event first, and conflicting actions never at the same time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from ..call import Call
from ..errors import ConfigurationError
from ..models import CalendarEvent
from .actions import Action, RemoveBot, ScheduleBot, event_of, start_of
from .records import conflict_keys


def check_action(action: object) -> Action:
    """Return the action. Raises `ConfigurationError` for any other object."""
    if not isinstance(action, ScheduleBot | RemoveBot):
        raise ConfigurationError(f"actions must be ScheduleBot or RemoveBot, got {type(action).__name__}")
    return action


async def soonest_first(given: Iterable[Action]) -> list[Action]:
    """Sort actions by the start of their events, unknown starts last. Actions on one event keep their order."""
    actions = list(given)  # an iterator can be read only once
    starts: dict[str, float] = {}
    for number, action in enumerate(actions):
        if number % 1024 == 1023:
            await asyncio.sleep(0)
        event = event_of(check_action(action))
        starts[event] = min(start_of(action), starts.get(event, math.inf))
    actions.sort(key=lambda action: starts[event_of(action)])
    return actions


class Item:
    """An action in progress."""

    __slots__ = ("action", "blockers", "call", "conflict_keys", "followers")

    def __init__(self, action: Action) -> None:
        self.action: Action = action
        self.call: Call[CalendarEvent] | None = None
        """The call that performs the action, once it has begun."""
        self.conflict_keys: list[object] = conflict_keys(action)
        self.blockers: int = 0
        self.followers: list[Item] = []

    @property
    def in_flight(self) -> bool:
        """True while a request of the action is in flight."""
        return self.call is not None and self.call.in_flight


class ConflictQueue:
    """A queue of actions. Of those on one event, or with one deduplication key, only the first is ready."""

    def __init__(self) -> None:
        self._last: dict[object, Item] = {}
        self.ready: deque[Item] = deque()
        """Actions that may begin."""
        self.waiting: int = 0
        """The number of actions that were added and not popped yet."""

    def add(self, item: Item) -> None:
        """Add an action. It waits for earlier actions on its event or key."""
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
        """Return the next ready action, and remove it."""
        self.waiting -= 1
        return self.ready.popleft()

    def finished(self, item: Item) -> None:
        """Mark a popped action as finished. Actions that waited for it become ready."""
        for key in item.conflict_keys:
            if self._last.get(key) is item:
                del self._last[key]
        for follower in item.followers:
            follower.blockers -= 1
            if not follower.blockers:
                self.ready.append(follower)
