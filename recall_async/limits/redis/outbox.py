"""The commands of one lane for Redis, kept until Redis replies.

A message is one script if possible: an ask for slots also reports how earlier slots ended.

Sans-I/O: it composes commands and reads replies. A message without a reply may have taken effect. It is repeated with
a higher number, which also voids the first message if it arrives later.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

from ..contract import Ending
from ..pace import LONGEST_USUAL_PAUSE
from .memory import Kept, Known
from .scripts import Ask, Command, Ended, Grant, Keys, Pause, Terms, acquire, decode, pause, settle


class Outbox:
    """The outgoing commands of one lane. Times are seconds of the loop's clock."""

    def __init__(self, keys: Keys, known: Known) -> None:
        self._keys = keys
        self._known = known
        self._client = secrets.token_hex(6)
        self._seq = self._number = self._wanted = 0
        self._ended: list[Ended] = []
        self._pauses: list[Pause] = []
        self._said = 0, 0  # how many of these the message in flight contains
        self._said_pauses: list[Pause] = []
        self._run = ""
        self._asked_with: tuple[str, Terms]  # the epoch and the terms that the ask named
        self.asked: Ask | None = None
        """The ask without a reply so far."""

    @property
    def pending(self) -> bool:
        """True if Redis has not confirmed everything."""
        return bool(self._ended or self._pauses or self.asked)

    @property
    def urgent(self) -> bool:
        """True if there is a pause to send."""
        return bool(self._pauses)

    def unknown_pause(self, now: float) -> float:
        """Return the end of a pause that Redis may not have, -inf if there is none."""
        kept = self._known.pause(now)
        return -math.inf if kept is None or (kept.told and not self._pauses) else kept.until

    def ended(self, number: int, ending: Ending, now: float) -> None:
        """Record the end of a slot."""
        self._ended.append(Ended(number, ending, now))

    def pause(self, said: Pause) -> None:
        """Record that the request of a slot got a 429."""
        self._pauses.append(said)
        self._known.paused(Kept(said, ""), said.at)

    def wanted(self) -> None:
        """Record a new interactive call."""
        self._wanted += 1

    def compose(self, now: float, run: str, interactive: int, bulk: int, terms: Terms) -> list[Command]:
        """Return the next message: pauses, an ask for slots or the last ask again, and with it how slots ended."""
        self._said, self._run = (len(self._pauses), len(self._ended)), run
        self._said_pauses = [*self._pauses, *self._lost_pause(now, run)]
        commands = [pause(self._keys, said, now, terms) for said in self._said_pauses]
        again = self.asked is not None
        if self.asked is None and (interactive or bulk):
            self.asked = Ask(self._number, interactive, bulk, now, self._wanted)
            self._number += interactive + bulk
            self._wanted = 0
        if self.asked is not None:
            self._seq += 1
            epoch, age = self._known.epoch(now)
            self._asked_with = epoch, terms
            commands.append(
                acquire(
                    *(self._keys, self._client, self._seq, self.asked),
                    again=again,
                    run=run,
                    epoch=epoch,
                    age=age,
                    terms=terms,
                    ended=self._ended,
                    now=now,
                )
            )
        elif self._ended:
            commands.append(settle(self._keys, self._client, self._ended, now, terms))
        return commands

    def _lost_pause(self, now: float, run: str) -> list[Pause]:
        """Return the pause that Redis refused, or that it lost since it was told."""
        kept = self._known.pause(now)
        if kept is None or kept.pause in self._pauses or kept.told == self._place(now, run):
            return []
        if not kept.told:
            return [kept.pause]
        # The pace has been reduced already. An absurd pause may have been ended by an operator.
        return [kept.pause._replace(granted_at=-1)] if kept.pause.seconds <= LONGEST_USUAL_PAUSE else []

    def _place(self, now: float, run: str) -> str:
        """Return a name of the state of Redis: of its server process and its data."""
        return f"{run} {self._known.epoch(now)[0]}"

    def on_reply(self, replies: Sequence[Any], now: float) -> tuple[Ask, Grant] | None:
        """Remove the confirmed commands. Return the ask with its grant, if there is one.

        If a reply is an error, Redis refused the command and would refuse it again: it is removed, too. A slot whose
        end is not reported is freed when its lease expires. A refused pause is sent again with the next message.
        """
        outcome = self._on_reply(replies, now)
        kept = self._known.pause(now)
        if kept is not None and any(said[:2] == kept.pause[:2] for said in self._said_pauses):
            refused = any(isinstance(reply, Exception) for reply in replies[: len(self._said_pauses)])
            self._known.paused(kept._replace(told="" if refused else self._place(now, self._run)), now)
        self._said_pauses = []
        return outcome

    def _on_reply(self, replies: Sequence[Any], now: float) -> tuple[Ask, Grant] | None:
        (pauses, ended), self._said = self._said, (0, 0)
        reply = replies[-1] if self.asked is not None and replies else None
        refused = isinstance(reply, Exception)
        grant = None if reply is None or refused else decode(reply, *self._asked_with)
        if reply is not None and not refused and grant is None:
            return None  # the message was void
        del self._pauses[:pauses], self._ended[:ended]
        if refused:
            self.asked = None
        if self.asked is None or grant is None:
            return None
        ask, self.asked = self.asked, None
        self._known.heard(grant.epoch, now, self._asked_with[1] if grant.interactive or grant.bulk else None)
        return ask, grant

    def on_no_reply(self) -> None:
        """Handle a message without a reply: it will be repeated."""
        self._said, self._said_pauses = (0, 0), []

    def clear(self) -> None:
        """Drop all commands but a lasting pause. Unreported slots are freed when their leases expire."""
        self._ended.clear()
        self._pauses.clear()
        self._said, self._said_pauses, self.asked = (0, 0), [], None
