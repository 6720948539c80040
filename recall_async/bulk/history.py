"""What earlier runs of a job did, so that this one does not do it again.

An action is left out if it is what the journal says was done last to its event. Where the journal has several actions of
an event, one that is not the last is *held*: if the job goes on as the journal does, all of them were done; if it goes on
otherwise, or ends there, they are done again, in order.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import ConfigurationError
from .actions import Action, Outcome, event_of, over_since
from .journal import JournalFile, Line, error_in, identity_of

FINAL = frozenset({"BadRequestError", "NotFoundError", "BotAlreadyDispatchedError"})
"""Errors that the same request would meet again."""


class Decision(NamedTuple):
    """What is to become of an action."""

    action: Action
    outcome: Outcome | None
    """Its outcome, if an earlier run did it."""
    replaces: int = 0
    """How many of the last things that were done to the event it takes the place of."""


class Places:
    """Where in the file the last line of an event is: a hash table of 16 bytes for each place in it.

    A dictionary of the same content takes ten times as much, which for a million events is more than everything else.
    """

    __slots__ = ("_keys", "_mask", "_values")

    def __init__(self, most: int) -> None:
        self._mask = (1 << (most * 3 // 2).bit_length()) - 1
        self._keys = array("Q", [0]) * (self._mask + 1)
        self._values = array("Q", [0]) * (self._mask + 1)

    def get(self, event: str) -> int:
        """The number that was put there for the event, or 0."""
        return self._values[self._slot(event)[0]]

    def put(self, event: str, value: int) -> None:
        slot, key = self._slot(event)
        self._keys[slot], self._values[slot] = key, value

    def _slot(self, event: str) -> tuple[int, int]:
        key = hash(event) & 0xFFFFFFFFFFFFFFFF or 1
        slot = key & self._mask
        while self._keys[slot] not in (0, key):
            slot = (slot + 1) & self._mask
        return slot, key


class Chain:
    """An event to which earlier runs did several things."""

    __slots__ = ("held", "places", "resumed", "run", "steps")

    def __init__(self, places: list[int]) -> None:
        self.places = places
        self.steps: list[Line] = []
        self.run: list[object] = []
        """The identities of this run's actions so far."""
        self.held: list[tuple[int, Action]] = []
        """Those of which it is not known yet whether they are to be done, with their place in `run`."""
        self.resumed = False
        """Whether some were found to be done."""


class History:
    """The journal's lines, by event. Memory: 16 to 32 bytes for each, some 300 for an event with several actions."""

    def __init__(self, file: JournalFile, *, retry_failed: bool) -> None:
        self._file = file
        self._retry_failed = retry_failed
        self._places = Places(0)
        self._chains: dict[str, Chain] = {}
        self._holding: dict[str, Chain] = {}
        self.strangers = 0
        """How many events the journal tells of, until one of them is found in the job."""

    async def load(self) -> None:
        """Read the file. Raises `JournalError`."""
        self._places = Places(self._file.count())
        for number, (place, line) in enumerate(self._file.lines()):
            if number % 256 == 255:
                await asyncio.sleep(0)
            self._add(place, line)

    def _add(self, place: int, line: Line) -> None:
        event = line.event_id
        mark = self._places.get(event)
        self._places.put(event, place + 1 << 1)
        if not mark:
            self.strangers += 1
            return
        chain = self._chains.get(event) or Chain([(mark >> 1) - 1])
        if line.replaces:
            del chain.places[-line.replaces :]
        elif self._file.line(chain.places[-1]).identity == line.identity:
            chain.places.pop()
        chain.places.append(place)
        if len(chain.places) > 1:
            self._chains[event] = chain
        else:
            self._chains.pop(event, None)

    def look_for(self, actions: Iterable[Action]) -> None:
        """See whether the journal tells of any of these actions' events."""
        if self.strangers and any(self._places.get(event_of(action)) for action in actions):
            self.strangers = 0

    def decide(self, action: Action) -> list[Decision]:
        """What is to become of this action, and of those before it that were held because of it; maybe nothing yet."""
        event = event_of(action)
        mark = self._places.get(event)
        if not mark:
            return [Decision(action, None)]
        self.strangers = 0
        chain = self._chains.get(event)
        try:
            identity = identity_of(action)
        except ConfigurationError:
            identity = None  # to be raised when the action's turn comes
        if chain is not None:
            return self._follow(event, chain, action, identity)
        line = self._file.line((mark >> 1) - 1)
        if line.identity != identity:
            self._places.put(event, 0)
            return [Decision(action, None, 0 if mark & 1 or line.event_id != event else 1)]
        if self._again(action, line):
            self._places.put(event, 0)
            return [Decision(action, None)]
        self._places.put(event, mark | 1)
        return [Decision(action, _resumed(action, line))]

    def _follow(self, event: str, chain: Chain, action: Action, identity: object) -> list[Decision]:
        if not chain.run:
            chain.steps = [self._file.line(place) for place in chain.places]
        if not chain.run or identity != chain.run[-1]:
            chain.run.append(identity)
        length = len(chain.run)
        chain.held.append((length - 1, action))
        steps = [step.identity for step in chain.steps]
        if steps[-length:] == chain.run:
            return self._release(event, chain)
        if any(steps[first : first + length] == chain.run for first in range(len(steps) - length)):
            self._holding[event] = chain
            return []
        return self._redo(event, chain)

    def _release(self, event: str, chain: Chain) -> list[Decision]:
        """The job went the journal's way to its end."""
        self._holding.pop(event, None)
        length = len(chain.run)
        decisions: list[Decision] = []
        for number, (place, action) in enumerate(chain.held):
            line = chain.steps[place - length]
            if self._again(action, line):
                chain.held = chain.held[number:]
                return decisions + self._redo(event, chain, replaces=length - place)
            decisions.append(Decision(action, _resumed(action, line)))
        chain.held = []
        chain.resumed = True
        return decisions

    def _redo(self, event: str, chain: Chain, *, replaces: int | None = None) -> list[Decision]:
        """The job goes another way, or ends before the journal does, or has something to repeat."""
        self._holding.pop(event, None)
        del self._chains[event]
        self._places.put(event, 0)
        if replaces is None:
            replaces = 0 if chain.resumed else len(chain.steps)
        return [Decision(action, None, 0 if number else replaces) for number, (_, action) in enumerate(chain.held)]

    def rest(self) -> list[Decision]:
        """What is to become of those that are still held when the job has no more actions."""
        return [decision for event, chain in list(self._holding.items()) for decision in self._redo(event, chain)]

    def _again(self, action: Action, line: Line) -> bool:
        """Whether an action is to be done again that the journal has."""
        if line.status == "done":
            return False
        if not line.attempts:
            # It took no request to find out, and takes none to find out whether it is still so.
            return line.status == "failed" or _over(action) is None
        if line.status == "skipped":
            return False
        return self._retry_failed or (line.error or {}).get("type") not in FINAL


def _resumed(action: Action, line: Line) -> Outcome:
    error = error_in(line)
    reason = (_over(action) if error is None else str(error)) if line.status == "skipped" else None
    return Outcome(action, None, error, 0, 0.0, reason, resumed=True)


def _over(action: Action) -> str | None:
    try:
        return over_since(action, time.time())
    except ConfigurationError:
        return None  # to be raised when the action's turn comes
