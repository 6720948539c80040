"""What one lane has to say to Redis, kept until it was heard.

Sans-I/O: it composes commands and reads replies. Until a message is answered nobody knows what became of it; then the
same is said again, with a higher number, which also makes the first one void should it arrive after all.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from ..contract import Ending
from .scripts import IDLE, Answer, Ask, Command, Keys, Pause, Terms, acquire, decode, pause, settle

Memory = dict[str, tuple[str, float]]
"""The epochs that a process has seen, and when it last did: it outlives the lanes of an event loop."""


class Dialogue:
    """One lane's side of the conversation. Times are seconds of the loop's clock."""

    def __init__(self, keys: Keys, memory: Memory) -> None:
        self._keys = keys
        self._memory = memory
        self._client = secrets.token_hex(6)
        self._seq = self._number = 0
        self._ended: list[tuple[int, Ending, float]] = []
        self._pauses: list[Pause] = []
        self._said = 0, 0  # how many of these the message on its way holds
        self.asked: Ask | None = None
        """What was asked for and is not answered yet."""
        self.greets = False
        """Whether to tell Redis which epoch is known here, though nothing is wanted."""

    @property
    def unsaid(self) -> bool:
        """Whether there is anything that Redis has not confirmed."""
        return bool(self._ended or self._pauses or self.asked or self.greets)

    def ended(self, number: int, ending: Ending, now: float) -> None:
        """A slot ended."""
        self._ended.append((number, ending, now))

    def paused(self, said: Pause) -> None:
        """The request of a slot met a 429."""
        self._pauses.append(said)

    def knows(self, now: float) -> bool:
        """Whether an epoch is known here."""
        known = self._memory.get(self._keys.state)
        return known is not None and now - known[1] < IDLE

    def compose(self, now: float, run: str, interactive: int, bulk: int, terms: Terms) -> list[Command]:
        """The next message: how slots ended, pauses, and so many slots to ask for, or the last ask again."""
        self._said = len(self._pauses), len(self._ended)
        commands = [pause(self._keys, said, now, terms) for said in self._pauses]
        if self._ended:
            commands.append(settle(self._keys, self._client, self._ended, now, terms))
        again = self.asked is not None
        if self.asked is None and (interactive or bulk or self.greets):
            self.asked = Ask(self._number, interactive, bulk, now)
            self._number += interactive + bulk
        if self.asked is not None:
            self._seq += 1
            epoch, heard = self._memory[self._keys.state] if self.knows(now) else ("", now)
            command = acquire(
                *(self._keys, self._client, self._seq, self.asked),
                again=again,
                run=run,
                epoch=epoch,
                age=now - heard,
                terms=terms,
            )
            commands.append(command)
        return commands

    def heard(self, replies: Sequence[Any], now: float) -> tuple[Ask, Answer] | None:
        """The answer to what was asked, if there is one."""
        pauses, ended = self._said
        del self._pauses[:pauses], self._ended[:ended]
        if self.asked is None or (answer := decode(replies[-1])) is None:
            return None
        ask, self.asked, self.greets = self.asked, None, False
        self._memory[self._keys.state] = answer.epoch, now
        return ask, answer
