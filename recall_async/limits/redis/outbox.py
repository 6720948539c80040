"""What one lane has to say to Redis, kept until it was heard.

Sans-I/O: it composes commands and reads replies. Until a message is answered nobody knows what became of it; then the
same is said again, with a higher number, which also makes the first one void should it arrive after all.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from ..contract import Ending
from .memory import Known, Memory
from .scripts import Ask, Command, Grant, Keys, Pause, Terms, acquire, decode, pause, settle


class Outbox:
    """One lane's side of the conversation. Times are seconds of the loop's clock."""

    def __init__(self, keys: Keys, known: Known, memory: Memory) -> None:
        self._keys = keys
        self._known = known
        self._memory = memory
        self._client = secrets.token_hex(6)
        self._seq = self._number = self._wanted = 0
        self._ended: list[tuple[int, Ending, float]] = []
        self._pauses: list[Pause] = []
        self._said = 0, 0  # how many of these the message on its way holds
        self._asked_with: Terms | None = None
        self.asked: Ask | None = None
        """What was asked for and is not answered yet."""

    @property
    def pending(self) -> bool:
        """Is there anything that Redis has not confirmed?"""
        return bool(self._ended or self._pauses or self.asked)

    @property
    def paused(self) -> bool:
        """Is there a pause of which Redis may not know?"""
        return bool(self._pauses)

    def ended(self, number: int, ending: Ending, now: float) -> None:
        """A slot ended."""
        self._ended.append((number, ending, now))

    def pause(self, said: Pause) -> None:
        """The request of a slot met a 429."""
        self._pauses.append(said)

    def wanted(self) -> None:
        """An interactive call has come."""
        self._wanted += 1

    def compose(self, now: float, run: str, interactive: int, bulk: int, terms: Terms) -> list[Command]:
        """The next message: how slots ended, pauses, and so many slots to ask for, or the last ask again."""
        self._said = len(self._pauses), len(self._ended)
        commands = [pause(self._keys, said, now, terms) for said in self._pauses]
        if self._ended:
            commands.append(settle(self._keys, self._client, self._ended, now, terms))
        again = self.asked is not None
        if self.asked is None and (interactive or bulk):
            self.asked = Ask(self._number, interactive, bulk, now, self._wanted)
            self._number += interactive + bulk
            self._wanted = 0
        if self.asked is not None:
            self._seq += 1
            self._asked_with = terms
            epoch, age = self._known.epoch(now)
            sender = (self._keys, self._client, self._seq, self.asked)
            commands.append(acquire(*sender, again=again, run=run, epoch=epoch, age=age, terms=terms))
        return commands

    def on_reply(self, replies: Sequence[Any], now: float) -> tuple[Ask, Grant] | None:
        """Strike out what was said. Returns the answer to what was asked, if there is one.

        Where an error stands in place of a reply, Redis has refused that command, and would again: it is struck out, too,
        since a slot whose end is not reported comes back with its lease.
        """
        pauses, ended = self._said
        del self._pauses[:pauses], self._ended[:ended]
        self._said = 0, 0
        if self.asked is None or not replies:
            return None
        if isinstance(replies[-1], Exception):
            self.asked = None
            return None
        grant = decode(replies[-1])
        if grant is None:
            return None
        ask, self.asked = self.asked, None
        self._known.heard = grant.epoch, now
        if (grant.interactive or grant.bulk) and self._asked_with is not None:
            self._memory.granted(self._known, self._asked_with, now + self._asked_with.lease / 1e6)
        return ask, grant

    def on_no_reply(self) -> None:
        """Nobody knows what became of what was said: it will be said again."""
        self._said = 0, 0

    def clear(self) -> None:
        """Say nothing of it: who is not heard holds what it has until its lease is over."""
        self._ended.clear()
        self._pauses.clear()
        self._said, self.asked = (0, 0), None
