"""The connection of one event loop to Redis. It sends the commands of all lanes, one message at a time.

**The invariant.** While any lane is in use, the link asks a lane for commands before every message, from its call of
`wake` until it has no more commands. Nothing else ends this: no error, outage, cancellation, closed connection or
sent message. So no command of a lane can be lost, and no lane waits for the reply to a message that is never sent.

While a message is in flight, new commands collect for the next one, so a busy process sends few large messages. A
message without a reply is an outage, whatever the exception, and may or may not have taken effect. The link repeats
it until Redis replies; the scripts recognize repetitions.

**The vigil.** While slots of this process may still count and there is nothing to send, the link waits for the
connection to break, and checks twice a second whether Redis still has its data. If not, all processes that may have
slots report them at once (greeter.py), before Redis grants these slots again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from ...stopping import end_tasks
from .failures import advice, refuses
from .memory import Memory
from .scripts import Command, Keys, mark
from .silence import Silence
from .speaker import Greeter, Speaker
from .wire import Wire

logger: logging.Logger = logging.getLogger("recall_async")

OUTAGE_TIMEOUT = 2.0
"""Seconds to wait for a reply."""
RETRY_AT_MOST = 1.0
"""The most seconds between attempts in a long outage."""
RETRY_HELD_AT_MOST = 0.2
"""The same, while slots of this process may still count: it should be the first to connect after a restart of Redis."""
RETRY_REFUSED = 0.1
"""Seconds until the next attempt after a refused connection, if a lane has something to send."""
MAX_BATCH = 256
"""The most lanes in one message: Redis needs at most about ten milliseconds for it."""
UNUSED_AT_MOST = 0.2
"""The most seconds that an unused connection stays open after the closing of a session was cancelled."""
BEAT = 0.5
"""Seconds between two checks whether Redis still has its data."""


class _Said(NamedTuple):
    speaker: Speaker
    commands: list[Command]


class Link:
    """Connects the lanes of one event loop with Redis."""

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
        self.mark_key: str = mark_key
        self._owned = owned
        self._now = clock
        self._open_wire = open_wire
        self._loop = asyncio.get_running_loop()
        self._client: Redis | None = None
        self._wire: Wire | None = None
        self._awake: dict[Speaker, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._unused: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._said_at: float | None = None
        self._silence = Silence("Redis", clock)
        self._spoke_at = -math.inf
        self._warned = False
        self.greeter: Greeter | None = None
        self.users: int = 0
        """The number of lanes in use: `join` and `leave` count them."""

    def of(self, keys: Keys) -> Link:
        """Return the link of a quota: there is one server."""
        return self

    def wake(self, speaker: Speaker) -> None:
        """Ask this lane for commands before every message, until it has none."""
        self._awake[speaker] = None
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)
        self._start()

    def forget(self, speaker: Speaker) -> None:
        """Do not ask this lane again. It has no message in flight."""
        self._awake.pop(speaker, None)

    def _start(self) -> None:
        if self._task is None and self.users and (self._awake or self._keeps_vigil):
            self._task = self._loop.create_task(self._talk(), name="recall_async quota store")

    @property
    def trouble(self) -> str:
        """Why Redis does not reply; empty while it does."""
        return self._silence.trouble

    def silence(self) -> float:
        """Return the seconds for which a reply of Redis has been missing."""
        if self._silence.since is None and self._said_at is not None:
            return self._now() - self._said_at
        return self._silence.seconds

    @property
    def _keeps_vigil(self) -> bool:
        return self._memory.slots_until > self._now()

    async def _talk(self) -> None:
        """Send messages while there are commands. Only this task waits for Redis."""
        task, vigil = asyncio.current_task(), False
        try:
            while self._task is task and self.users:
                await asyncio.sleep(0)  # tasks that are ready to run may add commands
                if speakers := self._speakers():
                    vigil, delay = False, await self._exchange(speakers)
                elif not self._keeps_vigil:
                    return
                elif self._wire is None or self._now() - self._spoke_at >= BEAT:
                    vigil, delay = True, await self._exchange([])
                elif vigil:
                    await self._doze(self._wire)
                    continue
                else:
                    self._look_later()
                    return
                if delay:
                    await asyncio.sleep(delay)
        finally:
            if self._task is task:
                self._task = None

    def _speakers(self) -> list[Speaker]:
        """Return the lanes to ask next: those awake that still have something to send."""
        for speaker in [speaker for speaker in self._awake if not speaker.speaks]:
            del self._awake[speaker]
        return list(self._awake)[:MAX_BATCH]

    async def _exchange(self, speakers: list[Speaker]) -> float:
        """Send one message and read the reply. Return the seconds to wait before the next message."""
        began = self._said_at = self._now()
        kept = self._wire is not None
        said: list[_Said] = []
        try:
            async with asyncio.timeout(OUTAGE_TIMEOUT):
                wire = self._wire or await self._open()
                said += self._compose(speakers, wire.run)
                commands = [command for _, spoken in said for command in spoken]
                replies = await wire.exchange(commands or [mark(self.mark_key)])
            if not commands:
                (life,) = replies
                self._recognize(wire.run, life)
        except BaseException as error:
            await self._drop()
            for speaker, _ in said:
                speaker.on_no_reply()
            if not isinstance(error, Exception):
                raise
            if refuses(error):
                return self._refused(error)
            # A kept connection may have been closed in the meantime, by either side or the network: not an outage yet.
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
            except Exception as error:  # noqa: BLE001 - a bug of this package must not count as an outage
                self._faulty(speaker, error)
        return said

    def _faulty(self, speaker: Speaker, error: Exception) -> None:
        self._awake.pop(speaker, None)
        speaker.fail(error)
        self._loop.call_exception_handler({"message": "a fault in the shared quota", "exception": error})

    def _hand_out(self, said: list[_Said], replies: Sequence[Any]) -> Exception | None:
        """Pass each lane its replies. Return an error of the server, if there is one."""
        outage, place = None, 0
        for speaker, commands in said:
            heard, place = replies[place : place + len(commands)], place + len(commands)
            errors = [reply for reply in heard if isinstance(reply, Exception)]
            failure = next((error for error in errors if self._is_outage(error)), None)
            if failure is not None:
                outage = failure
                speaker.on_no_reply()
            else:
                try:
                    speaker.on_reply(heard)
                except Exception as error:  # noqa: BLE001 - a bug of this package must not stop other lanes
                    self._faulty(speaker, error)
                    continue
            if speaker in self._awake:
                # Move the lane to the end, so that lanes with constant traffic take turns.
                self._awake[speaker] = self._awake.pop(speaker)
        return outage

    def _is_outage(self, error: Exception) -> bool:
        """True if this reply to a command means that the server is unavailable."""
        return not refuses(error)

    async def _open(self) -> Wire:
        task = asyncio.current_task()
        if self._client is None:
            self._client = self._connect()
        wire = await self._open_wire(self._client)
        try:
            if self._task is not task:
                raise asyncio.CancelledError  # the link was closed, and redis-py swallowed the cancellation
            (life,) = await wire.exchange([mark(self.mark_key)])
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
        self._wire = wire
        return wire

    def _recognize(self, run: str, life: Any) -> None:
        """Start the greeter if the server may have lost its data."""
        if isinstance(life, Exception):
            if self._is_outage(life):
                raise life
            life = ""  # Redis may not keep the mark: then only another server process is noticed
        if self.greeter is not None and self.greeter.meet(run, life if isinstance(life, str) else bytes(life).decode()):
            self.wake(self.greeter)

    async def _doze(self, wire: Wire) -> None:
        """Wait until a lane calls `wake`, the connection breaks, or the next check is due."""
        self._nap = nap = self._loop.create_future()
        watch = self._loop.create_task(wire.watch(), name="recall_async quota store: connection")
        try:
            await asyncio.wait({nap, watch}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
            broken = watch.done()
        finally:
            await end_tasks({watch})
        if broken:
            await self._drop()

    def _look_later(self) -> None:
        if self._beat is None:
            self._beat = self._loop.call_later(BEAT, self._look)

    def _look(self) -> None:
        self._beat = None
        self._start()

    def _refused(self, error: Exception) -> float:
        self._silence.refused(advice(error))
        for speaker in list(self._awake):
            speaker.refused(error)
        return RETRY_REFUSED

    def _begin_outage(self, error: Exception, began: float) -> None:
        timed_out = isinstance(error, TimeoutError) and not str(error)
        why = f"no answer within {OUTAGE_TIMEOUT:g} s" if timed_out else advice(error)
        self._silence.begin(why, began)

    def _failed(self, error: Exception, began: float) -> float:
        self._begin_outage(error, began)
        for speaker in list(self._awake):
            speaker.on_no_reply()  # the lane may continue without Redis
        most = RETRY_HELD_AT_MOST if self._keeps_vigil else RETRY_AT_MOST
        return min(most, max(0.05, self.silence() / 2)) * random.uniform(0.5, 1.0)

    def _answered(self) -> None:
        self._spoke_at = self._now()
        self._silence.end()

    def join(self) -> None:
        """Record that a lane is in use."""
        self.users += 1
        if self._unused is not None:
            self._unused.cancel()
            self._unused = None
        self._start()

    def leave(self) -> None:
        """Record that a lane is no longer in use. The last lane should close the connection; if not, the link does."""
        self.users -= 1
        if not self.users and self._unused is None and not self._loop.is_closed():
            self._unused = self._loop.call_later(UNUSED_AT_MOST, self._abandoned)

    def _abandoned(self) -> None:
        if self._wire is not None or self._task is not None:
            self._closing = self._loop.create_task(self._close_abandoned(), name="recall_async quota store: closing")

    async def _close_abandoned(self) -> None:
        """Send the remaining commands, in at most a second, and close."""
        self.join()
        try:
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=1.0)
        finally:
            self.users -= 1
            await self.aclose_unused()

    async def aclose_unused(self) -> None:
        """Close the connection, unless a lane is in use."""
        await asyncio.sleep(0)  # other lanes of the same session may still have commands
        if not self.users:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, unless it is the caller's. Lanes in use will open a new one.

        A cancellation does not leave a connection open.
        """
        # Clear all references before the first wait: lanes with new commands begin with a new connection.
        task, self._task = self._task, None
        wire, self._wire = self._wire, None
        client, self._client = self._client, None
        for timer in (self._beat, self._unused):
            if timer is not None:
                timer.cancel()
        self._beat = self._unused = None
        try:
            if task is not None:
                await end_tasks({task})
        finally:
            if wire is not None:
                await (wire.aclose() if self._owned else wire.give_back())
        if client is not None and self._owned:
            await client.aclose()
        if self.users:
            self._start()
        else:
            self._awake.clear()  # unreported slots are freed when their leases expire

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.drop()
