"""The scripts on a Redis whose clock the test moves: hours pass at once, and clocks are set back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis import Redis

from recall_async.limits.contract import Ending
from recall_async.limits.quota import Quota
from recall_async.limits.redis.scripts import (
    Ask,
    Command,
    Ended,
    Grant,
    Keys,
    Pause,
    Script,
    Terms,
    acquire,
    decode,
    pause,
    settle,
)

CLOCK = "the-tests-clock"
_TIME = "call('TIME')"


def text_of(script: Script) -> str:
    """A script that reads the time from a key."""
    assert script.text.count(_TIME) <= 1
    return script.text.replace(_TIME, f"call('HMGET', '{CLOCK}', 's', 'us')")


class Clock:
    """What the scripts take for the time, in seconds."""

    def __init__(self, client: Redis, now: float = 1.7e9) -> None:
        self._client = client
        self._known: dict[str, tuple[str, str]] = {}
        self.set(now)

    def set(self, now: float) -> None:
        self.now = now
        micros = round(now * 1e6)
        self._client.hset(CLOCK, mapping={"s": micros // 10**6, "us": micros % 10**6})

    def advance(self, seconds: float) -> None:
        self.set(self.now + seconds)

    def run(self, command: Command) -> Any:
        """Run a script at this time; keys expire by it, too, as far as the test says so with `expire`."""
        script, keys, arguments = command
        if script.sha not in self._known:
            text = text_of(script)
            self._known[script.sha] = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._client.eval(self._known[script.sha][0], len(keys), *keys, *arguments)


class Process:
    """A process that speaks to the scripts without a lane, one message at a time, none of which is lost."""

    def __init__(
        self, clock: Clock, keys: Keys, name: str, quota: Quota, longest_request: float = 60.0, **options: Any
    ):
        self.clock = clock
        self.keys = keys
        self.name = name
        self.longest_request = longest_request
        self.options = options
        self.use(quota)
        self._seq = self._number = 0
        self.epoch, self.heard = "", 0.0
        self.run = "run"
        self.last: Grant | None = None

    def use(self, quota: Quota) -> None:
        """Keep to another quota from now on."""
        self.terms = Terms.of(quota, 0, self.longest_request, **self.options)

    def ask(
        self, interactive: int = 0, bulk: int = 0, *, wanted: int | None = None, ended: Sequence[Ended] = ()
    ) -> list[int]:
        """Ask for slots, and report how others ended. Returns the numbers of those granted."""
        self._seq += 1
        first, self._number = self._number, self._number + interactive + bulk
        message = (
            self.keys,
            self.name,
            self._seq,
            Ask(first, interactive, bulk, 0.0, interactive if wanted is None else wanted),
        )
        age = self.clock.now - self.heard if self.epoch else 0.0
        known = {"again": False, "run": self.run, "epoch": self.epoch, "age": max(0.0, age)}
        command = acquire(*message, **known, terms=self.terms, ended=ended)
        grant = self.last = decode(self.clock.run(command), self.epoch, self.terms)
        assert grant is not None
        self.epoch, self.heard = grant.epoch, self.clock.now
        of_bulk = first + interactive
        return [*range(first, first + grant.interactive), *range(of_bulk, of_bulk + grant.bulk)]

    def answered(self, *numbers: int, ending: Ending = Ending.ANSWERED) -> None:
        """Report how slots ended, at this moment."""
        if numbers:
            self.clock.run(
                settle(self.keys, self.name, [Ended(number, ending, 0.0) for number in numbers], 0.0, self.terms)
            )

    def pause(self, seconds: float) -> None:
        """Report a 429."""
        self.clock.run(pause(self.keys, Pause(seconds, 0.0, round(self.clock.now * 1e6), 0.0), 0.0, self.terms))
