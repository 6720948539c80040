"""The results of a job's earlier runs, so that this run does not repeat their actions.

An action is left out if and only if it is the last action on its event in the journal. A restarted job with several
actions on one event performs them again: requests are upserts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from ..errors import ConfigurationError, RecallError
from .actions import Action, Outcome, ScheduleBot, event_of, over_since
from .journal import JournalFile
from .records import Result, error_in, identity_of, plain_text


class EarlierResults:
    """The last result of each event in a journal. Needs less than 300 bytes per event, however many actions each has."""

    def __init__(self, file: JournalFile, *, retry_failed: bool) -> None:
        self._file = file
        self._retry_failed = retry_failed
        self._places: dict[int, int] = {}
        """For each event, the place of its last result in the file."""
        self._keys: set[int] = set()
        """Deduplication keys of these results, without those of actions that this run performs: later actions with such
        a key must be performed, too."""
        self._last_left_out: dict[int, int] = {}
        """For each key that several events have, the place of the last result with which an action was left out."""
        self._left_out: set[int] = set()
        """Events with an action that was left out."""
        self.foreign_events: int = 0
        """The number of events in the journal; 0 once the job contains one of them."""

    def __len__(self) -> int:
        """Return the number of events in the journal that this run has not reached yet."""
        return len(self._places) - len(self._left_out)

    async def load(self) -> None:
        """Read the file. Raises `JournalError`."""
        keys: dict[int, int] = {}
        for number, (place, result) in enumerate(self._file.results()):
            if number % 256 == 255:
                await asyncio.sleep(0)
            event = hash(result.event_id)
            self._places[event] = place
            keys[event] = hash(result.deduplication_key)
        shared: set[int] = set()
        for key in keys.values():
            (shared if key in self._keys else self._keys).add(key)
        self._last_left_out = dict.fromkeys(shared, -1)
        self.foreign_events = len(self._places)

    def look_for(self, actions: Iterable[Action]) -> None:
        """Set `foreign_events` to 0 if the journal contains one of these actions' events."""
        if self.foreign_events and any(hash(event_of(action)) in self._places for action in actions):
            self.foreign_events = 0

    def known(self, action: Action) -> Outcome | None:
        """Return an action's earlier outcome; `None` if the action must be performed. Raises `JournalError`."""
        event = event_of(action)
        key = hash(plain_text(action.deduplication_key)) if isinstance(action, ScheduleBot) else None
        result = self._last(event)
        if (
            result is not None
            and (key is None or key in self._keys)
            and _identity(action) == result.identity
            and not self._again(action, result)
            and self._in_order(key, event)
        ):
            self._left_out.add(hash(event))
            return _resumed(action, result)
        if result is not None:
            # From now on, this run's actions determine the event's bot.
            del self._places[hash(event)]
            self._left_out.discard(hash(event))
        if key is not None:
            self._keys.discard(key)
        return None

    def _in_order(self, key: int | None, event: str) -> bool:
        """Return whether the action was performed after those with its key that this run has left out."""
        if key is None or key not in self._last_left_out:
            return True
        place = self._places[hash(event)]
        if place < self._last_left_out[key]:
            return False
        self._last_left_out[key] = place
        return True

    def _last(self, event: str) -> Result | None:
        """Return the last result of an event; `None` if the journal has none, or this run has performed an action on it."""
        place = self._places.get(hash(event))
        if place is None:
            return None
        result = self._file.result(place)
        if result.event_id != event:  # another event with this hash
            return None
        self.foreign_events = 0
        return result

    def _again(self, action: Action, result: Result) -> bool:
        """Return whether to repeat an action that the journal contains."""
        if result.status == "done":
            return False
        if result.status == "skipped":
            # The meeting may have been postponed. Without its times, only another request can show it.
            return _over(action) is None and (not result.attempts or _has_times(action))
        if not result.attempts or self._retry_failed:
            return True  # it failed without a request, so checking again needs none
        error = error_in(result)
        # An error type of a newer version is unknown: it may be temporary.
        return error is None or type(error) is RecallError or error.may_pass


def _identity(action: Action) -> object:
    try:
        return identity_of(action)
    except ConfigurationError:
        return None  # the error is raised when the action is performed


def _has_times(action: Action) -> bool:
    return action.start_time is not None or action.end_time is not None


def _resumed(action: Action, result: Result) -> Outcome:
    error = error_in(result)
    reason = (_over(action) if error is None else str(error)) if result.status == "skipped" else None
    return Outcome(action, None, error, 0, 0.0, reason, resumed=True)


def _over(action: Action) -> str | None:
    try:
        return over_since(action, time.time())
    except ConfigurationError:
        return None  # to be raised when the action's turn comes
