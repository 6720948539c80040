"""In which order actions go: soonest event first, and never two at once that would get in each other's way."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from ..caller import Account
from ..errors import ConfigurationError
from .actions import Action, RemoveBot, ScheduleBot, event_of, start_of


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

    __slots__ = ("account", "action", "blockers", "followers", "replaces", "tokens")

    def __init__(self, action: Action, *, replaces: int) -> None:
        self.action = action
        self.replaces = replaces
        self.account = Account()
        self.tokens: list[object] = [event_of(action)]
        """What no two actions at work have in common."""
        if isinstance(action, ScheduleBot):
            self.tokens.append(("key", str(action.deduplication_key)))
        self.blockers = 0
        self.followers: list[Item] = []


class Turns:
    """Which actions may go now: of those on one event, or with one deduplication key, only the first.

    The API answers 409 to parallel requests with one key; on one event, the order decides what is there in the end.
    """

    def __init__(self) -> None:
        self._last: dict[object, Item] = {}
        self.ready: deque[Item] = deque()
        """Whose turn it is."""
        self.waiting = 0
        """How many came and did not go yet."""

    def add(self, item: Item) -> None:
        """An action comes."""
        self.waiting += 1
        for token in item.tokens:
            before = self._last.get(token)
            if before is not None:
                before.followers.append(item)
                item.blockers += 1
            self._last[token] = item
        if not item.blockers:
            self.ready.append(item)

    def go(self) -> Item:
        """The next action whose turn it is."""
        self.waiting -= 1
        return self.ready.popleft()

    def finished(self, item: Item) -> None:
        """An action that went is finished: those behind it may go."""
        for token in item.tokens:
            if self._last.get(token) is item:
                del self._last[token]
        for follower in item.followers:
            follower.blockers -= 1
            if not follower.blockers:
                self.ready.append(follower)
