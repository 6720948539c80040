"""Tell a Redis that may have lost its data that slots are in use.

Redis cannot know which data it lost. For each quota, a process with slots names the state in which they were written
and when it last received it; the script then makes all processes wait until the slots have passed. A report about data
that were not lost has no effect.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from ..expiring import Key
from .link import MAX_BATCH
from .memory import Known, Memory
from .scripts import Ask, Command, Terms, acquire, decode


class StateGreeter:
    """Reports all quotas for which this process may have slots, of open and closed sessions."""

    def __init__(self, memory: Memory, clock: Callable[[], float]) -> None:
        self._memory = memory
        self._now = clock
        self._client = secrets.token_hex(6)
        self._met = "", ""
        self._due: dict[Key, Known] = {}
        self._said: list[tuple[Known, str, Terms]] = []  # with the epoch and the terms that each report named

    def meet(self, run: str, life: str) -> bool:
        """Plan what to report to this server process, with this life of its data. True if there is anything."""
        if (run, life) != self._met:
            self._met = run, life
            self._plan(lost=self._memory.lost(run, life))
        return bool(self._due)

    def _plan(self, *, lost: bool) -> None:
        """Plan reports: all that concern this server if its data are `lost`, or those of slots of another process."""
        for known in self._memory.holders(self._now()):
            if (lost or known.run != self._met[0]) and self._concerns(known):
                self._due[known.key] = known

    def _concerns(self, known: Known) -> bool:
        """True if this server keeps the quota."""
        return True

    @property
    def speaks(self) -> bool:
        return bool(self._due)

    def compose(self, run: str) -> list[Command]:
        now = self._now()
        self._said = []
        commands = []
        for known in list(self._due.values())[:MAX_BATCH]:
            terms = known.terms
            assert terms is not None
            epoch, age = known.epoch(now)
            self._said.append((known, epoch, terms))
            ask = Ask(0, 0, 0, now)
            sender = (known.keys, self._client, 0, ask)
            commands.append(acquire(*sender, again=False, run=run, epoch=epoch, age=age, terms=terms))
        return commands

    def on_reply(self, replies: Sequence[Any]) -> None:
        now = self._now()
        for (known, epoch, terms), reply in zip(self._said, replies, strict=True):
            self._due.pop(known.key, None)
            if not isinstance(reply, Exception) and (grant := decode(reply, epoch, terms)) is not None:
                known.heard(grant.epoch, now)

    def on_no_reply(self) -> None:
        self._said = []

    def refused(self, error: Exception) -> None:
        self._due.clear()

    def fail(self, error: Exception) -> None:
        self._due.clear()
