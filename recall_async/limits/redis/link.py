"""The connection of one event loop to Redis: everything that its lanes have to say goes in one message at a time.

**The invariant.** As long as any lane is used, a lane is asked what it has to say before every message, from the moment
at which it called `wake` until it has nothing to say any more. Nothing else ends that: not an error, an outage, a
cancellation, the closing of a connection, or a message that was sent. So nothing that a lane has to say can be lost here,
and no lane can be left waiting for an answer to a message that nobody will send.

While a message is on its way, what comes up meanwhile gathers for the next one; so a busy process sends few large
messages. A message without an answer is an outage, whatever exception says so, and what it said may or may not have been
done. It is said again until somebody answers; the scripts are made for that.

**The vigil.** While slots of this process may still count, and nothing is to be said, the link waits for the connection to
break, and looks twice a second whether Redis still has its data. If it has not, all who may have slots there tell it at
once (greeter.py), before others are granted what is in use.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis

from .failures import Failure, advice, meaning
from .memory import Memory
from .scripts import Command, mark
from .wire import Wire

logger: logging.Logger = logging.getLogger("recall_async")

OUTAGE_TIMEOUT = 2.0
"""Seconds after which an answer is not waited for any longer."""
RETRY_AT_MOST = 1.0
"""Seconds between attempts in a long outage."""
RETRY_HELD_AT_MOST = 0.2
"""The same, while slots of this process may still count: the first to speak after a restart should be one who knows."""
RETRY_REFUSED = 0.1
"""Seconds until a server that refused the connection is asked again, if somebody has something to say."""
MAX_BATCH = 256
"""Lanes that share a message: Redis is busy with it for some ten milliseconds at the most."""
UNUSED_AT_MOST = 0.2
"""Seconds for which a connection that nobody uses is left open by a session whose closing was cancelled."""
BEAT = 0.5
"""Seconds between two looks at whether Redis still has its data."""


class Speaker(Protocol):
    """A lane, as its link sees it."""

    @property
    def speaks(self) -> bool:
        """Whether it has something to say now."""

    def compose(self, run: str) -> list[Command]:
        """What it has to say, to the server process with this run id. Said again in full after `on_no_reply`."""

    def on_reply(self, replies: Sequence[Any]) -> None:
        """The answers to what was said; errors that mean a refusal stand among them."""

    def on_no_reply(self) -> None:
        """Whether what was said was done is unknown."""

    def refused(self, error: Exception) -> None:
        """The server refuses the connection. Whoever waits must hear of it, and nothing is left to say."""

    def fail(self, error: Exception) -> None:
        """A fault of this package: whoever waits must hear of it, and nothing is left to say."""


class Greeter(Speaker, Protocol):
    """Who speaks up when Redis has lost its data."""

    def greet(self) -> None:
        """Tell Redis which quotas this process may have slots of."""


class _Said(NamedTuple):
    speaker: Speaker
    commands: list[Command]


class Link:
    """What connects the lanes of one event loop with Redis."""

    def __init__(
        self,
        connect: Callable[[], Redis],
        memory: Memory,
        mark_key: str,
        *,
        owned: bool,
        clock: Callable[[], float],
        open_wire: Callable[[Redis], Awaitable[Wire]] = Wire.open,
    ) -> None:
        self._connect = connect
        self._memory = memory
        self._mark_key = mark_key
        self._owned = owned
        self._now = clock
        self._open_wire = open_wire
        self._loop = asyncio.get_running_loop()
        self._client: Redis | None = None
        self._wire: Wire | None = None
        self._fresh = True  # nothing was said yet on this connection
        self._awake: dict[Speaker, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._unused: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._said_at: float | None = None
        self._silent_since: float | None = None
        self._spoke_at = -1.0
        self._warned = False
        self._refusal = ""
        self.greeter: Greeter | None = None
        self.users: int = 0
        """Lanes that are used: `join` and `leave` count them."""
        self.trouble: str = ""
        """Why Redis does not answer; empty while it does."""

    def wake(self, speaker: Speaker) -> None:
        """Ask this lane what it has to say, before every message, until that is nothing."""
        self._awake[speaker] = None
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)
        self._start()

    def _start(self) -> None:
        if self._task is None and self.users and (self._awake or self._keeps_vigil):
            self._task = self._loop.create_task(self._talk(), name="recall_async quota store")

    def silence(self) -> float:
        """Seconds for which Redis has owed an answer."""
        since = self._said_at if self._silent_since is None else self._silent_since
        return 0.0 if since is None else self._now() - since

    @property
    def _keeps_vigil(self) -> bool:
        return self.users > 0 and self._memory.slots_until > self._now()

    async def _talk(self) -> None:
        """Say what there is to say, message by message: the only place that waits for Redis."""
        task, vigil = asyncio.current_task(), False
        try:
            while self._task is task and self.users:
                await asyncio.sleep(0)  # whoever is ready to run may have something to add
                if speakers := self._speakers():
                    vigil, delay = False, await self._exchange(speakers)
                elif not self._keeps_vigil:
                    return
                elif self._wire is None or self._now() - self._spoke_at >= BEAT:
                    vigil, delay = True, await self._exchange([])
                elif vigil:
                    delay = 0.0
                    await self._doze(self._wire)
                else:
                    self._look_later()
                    return
                if delay:
                    await asyncio.sleep(delay)
        finally:
            if self._task is task:
                self._task = None

    def _speakers(self) -> list[Speaker]:
        """Who is asked next: those who are awake, without those who have nothing to say any more."""
        for speaker in [speaker for speaker in self._awake if not speaker.speaks]:
            del self._awake[speaker]
        return list(self._awake)[:MAX_BATCH]

    async def _exchange(self, speakers: list[Speaker]) -> float:
        """Send one message and hear the answer. Returns seconds to wait before the next."""
        began = self._said_at = self._now()
        kept = self._wire is not None and not self._fresh
        said: list[_Said] = []
        try:
            async with asyncio.timeout(OUTAGE_TIMEOUT):
                wire = self._wire or await self._open()
                said += self._compose(speakers, wire.run)
                commands = [command for _, spoken in said for command in spoken]
                replies = await wire.exchange(commands or [mark(self._mark_key)])
            if not commands:
                self._recognize(wire.run, replies[0])
        except BaseException as error:
            await self._drop()
            for speaker, _ in said:
                speaker.on_no_reply()
            if not isinstance(error, Exception):
                raise
            if meaning(error) is Failure.REFUSAL:
                return self._refused(error)
            # A connection that was kept may have been closed meanwhile, by either side or in between: no outage yet.
            return 0.0 if kept and not isinstance(error, TimeoutError) else self._failed(error, began)
        finally:
            self._said_at = None
        outage = self._hand_out(said, replies)
        if outage is not None:
            await self._drop()
            return self._failed(outage, began)
        self._answered()
        return 0.0

    def _compose(self, speakers: list[Speaker], run: str) -> list[_Said]:
        said = []
        for speaker in speakers:
            try:
                said.append(_Said(speaker, speaker.compose(run)))
            except Exception as error:  # noqa: BLE001 - a fault of this package must not pass for an outage
                self._faulty(speaker, error)
        return said

    def _faulty(self, speaker: Speaker, error: Exception) -> None:
        self._awake.pop(speaker, None)
        speaker.fail(error)
        self._loop.call_exception_handler({"message": "a fault in the shared quota", "exception": error})

    def _hand_out(self, said: list[_Said], replies: Sequence[Any]) -> Exception | None:
        """Give each lane its replies. Returns an error that belongs to the server, if there is one."""
        outage, place = None, 0
        for speaker, commands in said:
            heard, place = replies[place : place + len(commands)], place + len(commands)
            errors = [reply for reply in heard if isinstance(reply, Exception)]
            failure = next((error for error in errors if meaning(error) is Failure.OUTAGE), None)
            if failure is not None:
                outage = failure
                self._begin_outage(failure)
                speaker.on_no_reply()
            else:
                try:
                    speaker.on_reply(heard)
                except Exception as error:  # noqa: BLE001 - a fault of this package, which must not stop other lanes
                    self._faulty(speaker, error)
                    continue
            # Turn about, so that each is heard of those who always have something to say.
            self._awake[speaker] = self._awake.pop(speaker, None)
        return outage

    async def _open(self) -> Wire:
        task = asyncio.current_task()
        if self._client is None:
            self._client = self._connect()
        wire = await self._open_wire(self._client)
        try:
            if self._task is not task:
                raise asyncio.CancelledError  # the link was closed meanwhile, and redis-py has kept that to itself
            (life,) = await wire.exchange([mark(self._mark_key)])
            self._recognize(wire.run, life)
        except BaseException:
            await wire.drop()
            raise
        if wire.policy not in ("noeviction", "") and not self._warned:
            self._warned = True
            logger.warning(
                "Redis evicts keys when its memory is full (maxmemory-policy is %s): a quota that is evicted can be "
                "overrun. Set maxmemory-policy noeviction, or keep the quota on a server of its own",
                wire.policy,
            )
        self._wire, self._fresh = wire, True
        return wire

    def _recognize(self, run: str, life: Any) -> None:
        """See to it that a server that has lost its data hears of it."""
        if isinstance(life, Exception):
            if meaning(life) is Failure.OUTAGE:
                raise life
            life = b""  # it may not keep the mark: then only another server process is noticed
        server = f"{run}/{life if isinstance(life, str) else bytes(life).decode()}"
        if self._memory.server not in ("", server) and self.greeter is not None:
            self.greeter.greet()
            self.wake(self.greeter)
        self._memory.server = server

    async def _doze(self, wire: Wire) -> None:
        """Wait until a lane wakes up, the connection breaks, or it is time to look again."""
        self._nap = nap = self._loop.create_future()
        watch = self._loop.create_task(wire.watch(), name="recall_async quota store: connection")
        try:
            await asyncio.wait({nap, watch}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
            broken = watch.done()
        finally:
            self._nap = None
            nap.cancel()
            await _end(watch)
        if broken:
            await self._drop()

    def _look_later(self) -> None:
        if self._beat is None:
            self._beat = self._loop.call_later(BEAT, self._look)

    def _look(self) -> None:
        self._beat = None
        self._start()

    def _refused(self, error: Exception) -> float:
        text = advice(error)
        if text != self._refusal:
            self._refusal = text
            logger.warning("Redis refuses the connection, so calls fail: %s", text)
        for speaker in list(self._awake):
            speaker.refused(error)
        return RETRY_REFUSED

    def _begin_outage(self, error: Exception, began: float | None = None) -> None:
        begins = not self.trouble
        if isinstance(error, TimeoutError) and not str(error):
            self.trouble = f"no answer within {OUTAGE_TIMEOUT:g} s"
        else:
            self.trouble = advice(error)
        if begins:
            self._silent_since = self._now() if began is None else began
            logger.warning("Redis does not answer, so calls wait for their quota: %s", self.trouble)

    def _failed(self, error: Exception, began: float) -> float:
        self._begin_outage(error, began)
        for speaker in list(self._awake):
            speaker.on_no_reply()  # it may go on without Redis
        most = RETRY_HELD_AT_MOST if self._keeps_vigil else RETRY_AT_MOST
        return min(most, max(0.05, self.silence() / 2)) * random.uniform(0.5, 1.0)

    def _answered(self) -> None:
        self._spoke_at = self._now()
        self._fresh = False
        self._refusal = ""
        if self.trouble:
            logger.info("Redis answers again after %.1f s", self.silence())
            self.trouble, self._silent_since = "", None

    def join(self) -> None:
        """A lane is used."""
        self.users += 1
        if self._unused is not None:
            self._unused.cancel()
            self._unused = None
        self._start()

    def leave(self) -> None:
        """A lane is not used any more. The last one should close the connection; if it does not, this does."""
        self.users -= 1
        if not self.users and self._unused is None:
            self._unused = self._loop.call_later(UNUSED_AT_MOST, self._abandoned)

    def _abandoned(self) -> None:
        self._unused = None
        if self._wire is not None or self._task is not None:
            self._closing = self._loop.create_task(self._close_abandoned(), name="recall_async quota store: closing")

    async def _close_abandoned(self) -> None:
        """Say what there is to say, in a second at most, and close."""
        self.join()
        try:
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=1.0)
        finally:
            self.users -= 1
            await self.aclose_unused()

    async def aclose_unused(self) -> None:
        """Close, unless a lane is used."""
        await asyncio.sleep(0)  # lanes of the same session may be about to say their last words
        if not self.users:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, unless it is the caller's. Lanes that are still used make a new one.

        A cancellation does not leave a connection behind.
        """
        # All of it is let go of before the first wait: who has something to say meanwhile begins anew.
        task, self._task = self._task, None
        wire, self._wire = self._wire, None
        client, self._client = self._client, None
        for timer in (self._beat, self._unused):
            if timer is not None:
                timer.cancel()
        self._beat = self._unused = None
        try:
            if task is not None:
                await _end(task)
        finally:
            if wire is not None:
                await (wire.aclose() if self._owned else wire.give_back())
        if client is not None and self._owned:
            await client.aclose()
        if self.users:
            self._start()
        else:
            self._awake.clear()  # slots whose end nobody reports come back when their leases are over

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.drop()


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, also if it takes a cancellation for something else, and goes on."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled():
        task.exception()
