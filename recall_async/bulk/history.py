"""What earlier runs of a job did, so that this one does not do it again.

An action is left out iff it is what the journal says was done last to its event. A job that does several things to one
event does them again when it is restarted: requests are upserts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from .. import errors
from ..errors import ConfigurationError, RecallError
from .actions import Action, Outcome, ScheduleBot, event_of, over_since
from .journal import JournalFile
from .records import Result, error_in, identity_of


class History:
    """The last result of each event. Takes some 150 bytes for each."""

    def __init__(self, file: JournalFile, *, retry_failed: bool) -> None:
        self._file = file
        self._retry_failed = retry_failed
        self._places: dict[int, int] = {}
        """By event, the place of its last result in the file."""
        self._repeated: set[int] = set()
        """Deduplication keys of actions that are done again: what came after them with the same key is, too."""
        self._met: set[int] = set()
        """Events of which an action was left out."""
        self.strangers: int = 0
        """How many events the journal tells of, until one of them is found in the job."""

    def __len__(self) -> int:
        """How many events the journal tells of that this run has not met yet."""
        return len(self._places) - len(self._met)

    async def load(self) -> None:
        """Read the file. Raises `JournalError`."""
        for number, (place, result) in enumerate(self._file.results()):
            if number % 256 == 255:
                await asyncio.sleep(0)
            self._places[hash(result.event_id)] = place
        self.strangers = len(self._places)

    def look_for(self, actions: Iterable[Action]) -> None:
        """See whether the journal tells of any of these actions' events."""
        if self.strangers and any(hash(event_of(action)) in self._places for action in actions):
            self.strangers = 0

    def known(self, action: Action) -> Outcome | None:
        """The outcome of an action that is left out; `None` for one that is to be done. Raises `JournalError`."""
        event = event_of(action)
        place = self._places.get(hash(event))
        if place is None:
            return None
        result = self._file.result(place)
        if result.event_id != event:  # another event with this hash
            return None
        self.strangers = 0
        key = hash(action.deduplication_key) if isinstance(action, ScheduleBot) else None
        if key not in self._repeated and _identity(action) == result.identity and not self._again(action, result):
            self._met.add(hash(event))
            return _resumed(action, result)
        # From here on, this run decides what is there.
        del self._places[hash(event)]
        self._met.discard(hash(event))
        if key is not None:
            self._repeated.add(key)
        return None

    def _again(self, action: Action, result: Result) -> bool:
        """Whether an action is to be done again that the journal has."""
        if result.status == "done":
            return False
        if result.status == "skipped":
            # The meeting may have been postponed; without its times, nothing says so but another request.
            return _over(action) is None and (not result.attempts or _has_times(action))
        if not result.attempts or self._retry_failed:
            return True  # it took no request to find out, and takes none to find out whether it is still so
        kind = getattr(errors, str((result.error or {}).get("type")), None)
        # Of what a newer version wrote, it is not known whether it would pass.
        return not (isinstance(kind, type) and issubclass(kind, RecallError)) or kind is RecallError or kind.may_pass


def _identity(action: Action) -> object:
    try:
        return identity_of(action)
    except ConfigurationError:
        return None  # to be raised when the action's turn comes


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
