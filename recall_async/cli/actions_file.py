"""ACTIONS: what `bulk` is to do, as JSON lines or as CSV, from a file or from standard input.

It is read twice: once to check all of it, and again to do it, soonest event first. Between the two, 24 bytes are kept of
each action: where it stands, which event it is for, and when that starts.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from .. import checks
from ..bulk.actions import Action, RemoveBot, ScheduleBot, event_of, start_of
from ..errors import ConfigurationError
from ..resources.fields import check_deduplication_key
from .records import CSV, Invalid, JSONLines, Records, is_csv, open_twice

REQUIRED = ("action", "event_id")
OPTIONAL = ("deduplication_key", "bot_config", "start_time", "end_time")


class ActionsFile:
    """The actions of the file at `path`, or of standard input for `-`. Raises `OSError`.

    `default_config` is for bots of which the file says nothing. `check` comes first; `len()` and iterating are for a file
    in which it found nothing wrong.
    """

    def __init__(self, path: str, default_config: Mapping[str, Any]) -> None:
        self.name: str = "standard input" if path == "-" else path
        self._default_config = default_config
        self._path = path
        self._file = open_twice(path)
        self._records: Records = JSONLines(self._file)
        if is_csv(path, self._file):
            self._records = CSV(self._file, required=REQUIRED, optional=OPTIONAL, json=("bot_config",))
        self._offsets = array("q")
        self._starts = array("d")
        self._events = array("q")
        self._checked = self._state()
        self._copied = not self._is_at_path()

    def check(self) -> Iterator[str]:
        """Yield every problem, as `file:line: field and problem`."""
        self._checked = self._state()
        for record in self._records.all():
            try:
                action = self._action(record.fields)
            except Invalid as error:
                yield from (f"{self.name}:{record.line}: {problem}" for problem in error.args)
                continue
            self._offsets.append(record.offset)
            self._starts.append(start_of(action))
            self._events.append(hash(event_of(action)))

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Action]:
        """Yield the actions, soonest event first, otherwise in the order of the file."""
        starts, events = self._starts, self._events
        # Several actions on one event keep their order: none starts later than one behind it.
        for later, earlier in pairwise(sorted(range(len(self)), key=events.__getitem__)[::-1]):
            if events[later] == events[earlier]:
                starts[earlier] = min(starts[earlier], starts[later])
        for place in array("q", sorted(range(len(self)), key=starts.__getitem__)):
            if self._state() != self._checked:
                raise self._changed("it was written to")
            if not self._copied and os.path.exists(self._path) and not self._is_at_path():
                raise self._changed("it was replaced by another file")
            try:
                action = self._action(self._records.at(self._offsets[place]))
            except Invalid as error:
                raise self._changed(str(error)) from None
            if hash(event_of(action)) != events[place]:
                raise self._changed("another action stands where one was")
            yield action

    def _state(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def _is_at_path(self) -> bool:
        """Return whether the file that is read still has its name."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _changed(self, how: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} was changed while the job was at work ({how}), so the job stopped. Start it again: its results "
            "say what is done."
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _action(self, fields: Mapping[str, Any] | Invalid) -> Action:
        if isinstance(fields, Invalid):
            raise fields
        known = REQUIRED + OPTIONAL
        problems = [f"unknown field {name!r:.80}; there are {', '.join(known)}" for name in fields if name not in known]

        def check(name: str, how: Callable[[Any], object], *, required: bool = True) -> Any:
            value = fields.get(name)
            if value is None:
                if required:
                    problems.append(f"{name} is missing")
                return None
            try:
                how(value)
            except ConfigurationError as error:
                text = str(error)
                if "must have a time zone" in text:  # the advice is for Python
                    text = (
                        f"{text.partition(': use')[0]}: add it, as in 2025-06-10T18:54:18Z or 2025-06-10T18:54:18+02:00"
                    )
                problems.append(text)
            return value

        kind = check("action", _check_action)
        event_id = check("event_id", lambda value: checks.uuid("event_id", value))
        start = check("start_time", lambda value: checks.moment("start_time", value), required=False)
        end = check("end_time", lambda value: checks.moment("end_time", value), required=False)
        key = check("deduplication_key", check_deduplication_key, required=kind != "remove")
        config = check("bot_config", _check_config, required=False)
        if problems:
            raise Invalid(*problems)
        if kind == "remove":
            return RemoveBot(event_id, start_time=start, end_time=end)
        return ScheduleBot(event_id, key, self._default_config if config is None else config, start, end)


def _check_action(value: object) -> None:
    if value not in ("schedule", "remove"):
        raise checks.invalid("action", "schedule or remove", value)


def _check_config(value: object) -> None:
    if not isinstance(value, dict):
        raise checks.invalid("bot_config", "a JSON object", value)
