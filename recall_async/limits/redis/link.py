"""The connection of one event loop to Redis: everything its lanes have to say goes in one message at a time.

While a message is on its way, what comes up meanwhile gathers for the next one; so a busy process sends few large
messages, and an idle one none: there is no task while there is nothing to say.

A message without an answer is an outage, and what it said may or may not have been done. It is said again until somebody
answers; the scripts are made for that.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
)

from ..loops import clock_of
from .scripts import Command
from .wire import Wire

logger = logging.getLogger("recall_async")

PATIENCE = 2.0
"""Seconds after which an answer is not waited for any longer."""
RETRY_AT_MOST = 1.0
"""Seconds between attempts in a long outage."""
LANES_AT_ONCE = 256
"""Lanes that share a message: Redis is busy with it for some ten milliseconds at the most."""
REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)
"""Answers that another attempt does not change."""


class Speaker(Protocol):
    """A lane, as its link sees it."""

    @property
    def in_use(self) -> bool:
        """Is there an open session?"""

    @property
    def used(self) -> bool:
        """Whether the connection is needed."""

    def compose(self, run: str) -> list[Command]:
        """What is to be said now, to the server with this run id."""

    def heard(self, replies: Sequence[Any]) -> None:
        """What was said was answered."""

    def unheard(self) -> None:
        """Whether what was said was done is unknown; it will be said again."""

    def refused(self, error: RedisError) -> None:
        """What was said was not done, and saying it again is no use."""

    def fail(self, error: Exception) -> None:
        """Nobody who waits will be served."""

    def greet(self) -> None:
        """Another server process answers, which may have forgotten what this lane knows."""


class Link:
    """What connects the lanes of one event loop with Redis."""

    def __init__(self, connect: Callable[[], Redis], *, owned: bool) -> None:
        self._connect = connect
        self._now = clock_of(asyncio.get_running_loop())
        self._owned = owned
        self._client: Redis | None = None
        self._wire: Wire | None = None
        self._run = ""
        self._kept = False
        self._due: dict[Speaker, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._said_at: float | None = None
        self._silent_since: float | None = None
        self.lanes: list[Speaker] = []
        """All that speak through it."""
        self.trouble = ""
        """Why Redis does not answer; empty while it does."""

    def ask(self, lane: Speaker) -> None:
        """Let the lane say what it has to say, at once or with the next message."""
        self._due[lane] = None
        self._start()

    def _start(self) -> None:
        if self._task is None and self._due:
            self._task = asyncio.get_running_loop().create_task(self._talk(), name="recall_async quota store")

    def silence(self) -> float:
        """Seconds for which Redis has owed an answer."""
        since = self._said_at if self._silent_since is None else self._silent_since
        return 0.0 if since is None else self._now() - since

    async def aclose_unused(self) -> None:
        """Close, unless a lane needs it."""
        if not any(lane.used for lane in self.lanes):
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's. Lanes that are still used make new ones."""
        # All of it is let go of before the first wait: who has something to say meanwhile begins anew.
        task, self._task = self._task, None
        wire, self._wire = self._wire, None
        client, self._client = self._client, None
        self._due = {lane: None for lane in self._due if lane.used}
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if wire is not None:
            await wire.aclose()
        if client is not None and self._owned:
            await client.aclose()
        for lane in self.lanes:
            lane.unheard()
        self._start()

    async def _talk(self) -> None:
        try:
            while self._due:
                await asyncio.sleep(0)  # whoever is ready to run may have something to add
                lanes = list(self._due)[:LANES_AT_ONCE]
                for lane in lanes:
                    del self._due[lane]
                try:
                    heard = await self._exchange(lanes)
                except Exception as error:  # a fault of this package: whoever waits must hear of it
                    for lane in self.lanes:
                        lane.fail(error)
                    raise
                if not heard:
                    delay = min(RETRY_AT_MOST, max(0.05, self.silence() / 2))
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                    self._due = {lane: None for lane in self._due if lane.in_use}
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _exchange(self, lanes: list[Speaker]) -> bool:
        """Whether Redis has heard these lanes."""
        self._said_at = said_at = self._now()
        said: list[tuple[Speaker, int]] = []
        try:
            async with asyncio.timeout(PATIENCE):
                if self._wire is None:
                    self._client = self._connect()
                    self._wire = Wire(self._client)
                wire = self._wire
                await wire.ready()
                self._recognize(wire.run)
                commands: list[Command] = []
                for lane in lanes:
                    spoken = lane.compose(wire.run)
                    commands += spoken
                    said.append((lane, len(spoken)))
                replies: list[Any] = await wire.send(commands) if commands else []
        except (RedisError, OSError, TimeoutError) as error:
            said = [(lane, 1) for lane in lanes]
            replies = [error] * len(lanes)
        finally:
            self._said_at = None
        failure = next((reply for reply in replies if isinstance(reply, Exception)), None)
        # A connection that was kept may have been closed meanwhile, by either side or in between: that is no outage yet.
        stale = self._kept and isinstance(failure, ConnectionError) and not isinstance(failure, REFUSALS)
        self._kept = failure is None
        if failure is None:
            self._answered()
        elif not stale:
            self._failed(failure, said_at)
        place = 0
        for lane, count in said:
            heard, place = replies[place : place + count], place + count
            refusal = next((reply for reply in heard if isinstance(reply, REFUSALS)), None)
            if refusal is not None:
                lane.refused(refusal)
            elif any(isinstance(reply, Exception) for reply in heard):
                self._due[lane] = None
                lane.unheard()
            elif heard:
                lane.heard(heard)
        return failure is None or stale

    def _failed(self, error: Exception, said_at: float) -> None:
        begins = not self.trouble
        if isinstance(error, TimeoutError) and not str(error):
            self.trouble = f"no answer within {PATIENCE:g} s"
        else:
            self.trouble = str(error) or type(error).__name__
        if begins:
            self._silent_since = said_at
            logger.warning("Redis does not answer, so calls wait for their quota: %s", self.trouble)

    def _answered(self) -> None:
        if self.trouble:
            logger.info("Redis answers again after %.1f s", self.silence())
            self.trouble, self._silent_since = "", None

    def _recognize(self, run: str) -> None:
        if self._run not in ("", run):
            # Another server process, which may know nothing of what these lanes hold.
            for lane in self.lanes:
                lane.greet()
        self._run = run
