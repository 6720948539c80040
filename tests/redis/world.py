"""Processes that share a quota in a world that follows from a seed: the real lanes and the real scripts on a real Redis,
whose clock, network and mishaps are made up. Everything happens in virtual time.

    report = run(seed)

A run is a few processes with random calls and a random course of mishaps: connections that break with a message or an
answer on its way, messages that arrive after their repetition, outages, partitions, flushes, restarts with the data, without
them or with an old copy, clocks that are set back, processes that are killed, sessions that are closed and opened again with
another quota, calls that are cancelled. What the API counts is judged at the worst moment at which it could.
"""

from __future__ import annotations

import asyncio
import math
import random as global_random
import re
from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Any, NamedTuple, NoReturn

import pytest
from redis import Redis
from redis.exceptions import ConnectionError, ResponseError

from recall_async import Priority, Quota, RecallError
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.link import Link
from recall_async.limits.redis.scripts import (
    ACQUIRE,
    GRANT_MAX_AGE,
    MARK,
    OVERTAKEN,
    Command,
    Keys,
    decode_usage,
    usage,
)
from tests.redis.words import asked
from tests.virtual_time import VirtualTimeLoop

OPERATION = "calendar_events.schedule_bot"
KEYS = Keys("recall", "w", OPERATION)

_PRELUDE = """
local us_now, s_now = table.remove(ARGV), table.remove(ARGV)
local ms_now = s_now * 1000 + math.floor(us_now / 1000)
do
  local ttls = redis.call('HGETALL', 'the-ttls')
  for i = 1, #ttls, 2 do
    if redis.call('EXISTS', ttls[i]) == 0 then
      redis.call('HDEL', 'the-ttls', ttls[i])
    elseif tonumber(ttls[i + 1]) <= ms_now then
      redis.call('DEL', ttls[i])
      redis.call('HDEL', 'the-ttls', ttls[i])
    end
  end
end
local function expire(key, ms)
  redis.call('HSET', 'the-ttls', key, ms_now + ms)
end
local function left(key)
  return tonumber(redis.call('HGET', 'the-ttls', key) or '0') - ms_now
end
"""
"""What a script begins with: the clock comes as its last two arguments, and keys are removed when their time has come."""

Edit = tuple[str, str]


@cache
def _edited(text: str, edits: tuple[Edit, ...]) -> str:
    """Return a script whose clock is the world's, with these edits."""
    for before, after in edits:
        text = text.replace(before, after)
    text = re.sub(r"(redis\.)?call\('TIME'\)", "{s_now, us_now}", text)
    text = re.sub(r"(redis\.)?call\('PEXPIRE', ", "expire(", text)
    return _PRELUDE + re.sub(r"(redis\.)?call\('PTTL', ", "left(", text)


def _packed(words: tuple[Any, ...]) -> bytes:
    """Return a command as the protocol of Redis writes it, which takes redis-py a tenth of a run."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])


class World:
    """One Redis, the network to it, and their clocks."""

    def __init__(self, client: Redis, random: Random, edits: tuple[Edit, ...] = ()) -> None:
        self._client = client
        self._edits = edits
        self._shas: dict[str, str] = {}
        self._connection = client.connection_pool.get_connection()
        self._life = ""  # the mark of this life of the data
        self.random = random
        self.loop: VirtualTimeLoop
        self.offset = 1.7e9
        self.run = "run0"
        self.down_until = -math.inf
        self.fault = 0.0
        """The share of messages that something happens to."""
        self.wires: dict[FakeWire, None] = {}
        self.cut: dict[int, float] = {}
        """Until when each process is cut off."""
        self._copies: list[tuple[str, dict[str, bytes]]] = []
        self._seqs: dict[str, int] = {}  # the last message of each client
        self.problems: list[str] = []
        client.flushall()

    def close(self) -> None:
        """Give the connection back."""
        self._client.connection_pool.release(self._connection)

    def mishaps(self, per: float, processes: Callable[[], int]) -> dict[str, Callable[[], object]]:
        """What may happen to Redis and to the network of so many processes, by name."""
        random, now = self.random, self.loop.time
        return {
            "outage": lambda: setattr(self, "down_until", now() + random.choice((0.1, 3.0, per))),
            "partition": lambda: self.cut.update({random.randrange(processes()): now() + random.choice((1.0, per))}),
            "reset": self.reset,
            "copy": self.copy,
            "flush": self.flush,
            "restart": lambda: self.restart("kept"),
            "empty restart": lambda: self.restart("empty"),
            "failover": lambda: self.restart("old"),
            "set back": lambda: setattr(self, "offset", self.offset - random.choice((0.5, 3.0, 100.0, 1e6))),
        }

    def now(self) -> float:
        """The time by Redis' clock."""
        return self.loop.time() + self.offset

    def execute(self, commands: list[Command]) -> list[Any]:
        """Run scripts now, in one round trip."""
        micros = int(self.now() * 1e6)
        scripts = [command for command in commands if command.script is not MARK]
        if scripts:
            self._connection.send_packed_command([_packed(self._words(command, micros)) for command in scripts])
        replies = [self._reply() for _ in scripts]
        for command, reply in zip(scripts, replies, strict=True):
            self._check(command, reply)
        found = iter(replies)
        return [self._mark(command) if command.script is MARK else next(found) for command in commands]

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            self.problems.append(f"refused: {error}")
            return error

    def _check(self, command: Command, reply: Any) -> None:
        """Notice slots that nobody frees."""
        if isinstance(reply, Exception):
            return
        if command.script is ACQUIRE:
            client, seq = asked(command)[:2]
            if seq < self._seqs.get(client, 0) and (reply != OVERTAKEN and not reply.startswith(b"0 0 ")):
                self.problems.append("void: a message was granted slots after its repetition")
            self._seqs[client] = max(seq, self._seqs.get(client, 0))

    def _mark(self, command: Command) -> str:
        """Do what mark.lua does; half of all messages are this one."""
        self._life = self._life or str(command.arguments[0])
        return self._life

    def _words(self, command: Command, micros: int) -> tuple[Any, ...]:
        script, keys, arguments = command
        sha = self._shas.get(script.sha)
        if sha is None:
            sha = self._shas[script.sha] = str(self._client.script_load(_edited(script.text, self._edits)))
        return "EVALSHA", sha, len(keys), *keys, *arguments, micros // 10**6, micros % 10**6

    def taken(self) -> int:
        """Slots that somebody holds at this moment."""
        (reply,) = self.execute([usage(KEYS)])
        return decode_usage(reply).taken

    def kept_for_ever(self) -> list[str]:
        """Keys that do not expire."""
        keys = {key.decode() for key in self._client.scan_iter("recall:*")}
        return sorted(keys - {key.decode() for key in self._client.hkeys("the-ttls")})

    def flush(self) -> None:
        """All data are gone, and nobody's connection."""
        self._seqs.clear()
        self._client.flushall()
        self._life = ""

    def copy(self) -> None:
        """Keep a copy of the data, as a replica or a file on disk would have it."""
        self._copies.append((self._life, {key: self._client.dump(key) for key in self._client.scan_iter()}))

    def restart(self, data: str) -> None:
        """Another server process: with its data, `empty`, or with an `old` copy of them."""
        if data != "kept":
            self._seqs.clear()  # of which the server knows nothing any more
            self._client.flushall()
            self._life = ""
        if data == "old" and self._copies:
            self._life, copy = self.random.choice(self._copies)
            for key, value in copy.items():
                self._client.restore(key, 0, value)
        self.run = f"run{self.random.random()}"
        for wire in list(self.wires):
            wire.break_off()

    def reset(self) -> None:
        """All connections break."""
        for wire in list(self.wires):
            wire.break_off()

    async def open(self, process: int, client: Any) -> FakeWire:
        """Connect a process."""
        await asyncio.sleep(self.random.random() * 0.002)
        if self.unreachable(process):
            raise ConnectionError("connection refused")
        wire = FakeWire(self, process)
        self.wires[wire] = None
        return wire

    def unreachable(self, process: int) -> bool:
        return self.loop.time() < max(self.down_until, self.cut.get(process, -math.inf))


class FakeWire:
    """A `Wire` of this world."""

    policy = "noeviction"

    def __init__(self, world: World, process: int) -> None:
        self._world = world
        self._process = process
        self._broken: asyncio.Future[None] = world.loop.create_future()
        self.run = world.run

    def break_off(self) -> None:
        """The connection breaks."""
        if not self._broken.done():
            self._broken.set_result(None)
        self._world.wires.pop(self, None)

    async def exchange(self, commands: list[Command]) -> list[Any]:
        world, random = self._world, self._world.random
        await asyncio.sleep(random.choice([0.0002, 0.001, 0.01, 0.3]))
        self._check()
        luck = random.random()
        if luck < world.fault:
            what = random.choice(["message lost", "answer lost", "late"])
            run = self.run
            if what == "answer lost":
                world.execute(commands)
            elif what == "late":
                world.loop.call_later(random.choice([0.1, 1, 3, 8]), self._arrive, run, commands)
            await asyncio.sleep(random.choice([0.001, 10]))
            raise ConnectionError("connection reset")
        replies = world.execute(commands)
        await asyncio.sleep(random.choice([0.0002, 0.001, 0.01, 0.3]))
        self._check()
        return replies

    def _check(self) -> None:
        if self._broken.done() or self._world.unreachable(self._process):
            raise ConnectionError("connection reset")

    def _arrive(self, run: str, commands: list[Command]) -> None:
        if self._world.run == run and self._world.loop.time() >= self._world.down_until:
            self._world.execute(commands)

    async def watch(self) -> NoReturn:
        await asyncio.shield(self._broken)
        raise ConnectionError("connection reset")

    async def drop(self) -> None:
        self.break_off()

    async def give_back(self) -> None:
        self.break_off()

    async def aclose(self) -> None:
        self.break_off()


class Process:
    """A store with connections of its own, and the session that uses it."""

    def __init__(self, world: World, number: int, quota: Quota, **options: Any) -> None:
        self.number = number
        self.quota = quota
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recall_async.limits.redis.store.Link", partial(Link, open_wire=partial(world.open, number)))
            self.store = RedisQuotaStore.from_url("redis://nowhere", **options)
            self.lane: RedisLane = self.store.open("w", OPERATION, quota)
        self.alive = True
        self.paused_until = -math.inf
        """When the last pause that the API asked of this process is over."""
        self.calls: list[asyncio.Task[None]] = []

    async def reopen(self, quota: Quota) -> None:
        """Close the session, and open another one with another quota."""
        lane, old = self.lane, self.quota
        lane.leave(old)
        self.quota = quota
        self.lane = self.store.open("w", OPERATION, quota)
        await lane.flush()


class Report(NamedTuple):
    """How a run went."""

    problems: list[str]
    counted: int


def run(client: Redis, seed: int, edits: tuple[Edit, ...] = ()) -> Report:
    """One run."""
    return _Run(client, seed, edits).report()


class _Run:
    def __init__(self, client: Redis, seed: int, edits: tuple[Edit, ...]) -> None:
        self._random = random = Random(seed)
        self._loop = VirtualTimeLoop(1000.0)
        self._world = World(client, random, edits)
        self._world.loop = self._loop
        self._limit = random.choice([2, 3, 5, 10])
        self._per = random.choice([1.0, 6.0, 60.0])
        self._longest = random.choice([1.0, 10.0])
        self._lease = self._longest + GRANT_MAX_AGE + self._per
        # With certainty that costs a lease, newcomers may be the first to speak after a loss.
        self._hold_new = random.random() < 0.4
        self._reserve = random.choice([0, 0, 1]) if self._limit >= 5 and not self._hold_new else 0
        self._fault = random.choice([0.0, 0.1, 0.4])
        self._counted: list[float] = []
        self._problems: list[str] = []
        self._processes: list[Process] = []
        self._happened: set[str] = set()
        self._lost = 0

    def report(self) -> Report:
        global_random.seed(self._random.random())  # of which lanes and links draw
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        finally:
            self._world.close()
        self._problems += self._world.problems[:1]
        self._problems += [f"callback: {failure!r}" for failure in self._loop.failures]
        counted = sorted(self._counted)
        for earlier, later in zip(counted, counted[self._limit :], strict=False):
            if later - earlier < self._per * (1 - 1e-6):
                self._problems.append(f"overrun: more than {self._limit} in {later - earlier:.3f} s of {self._per}")
                break
        return Report(self._problems, len(counted))

    def _quota(self) -> Quota:
        random = self._random
        limit = random.choice([self._limit, self._limit, max(1 + 2 * self._reserve, self._limit // 2)])
        return Quota(limit, self._per, random.choice([None, limit, 1]), random.choice([None, 0, min(1, limit - 1)]))

    def _spawn(self) -> Process:
        options = {"longest_request": self._longest, "hold_new": self._hold_new}
        reserve = {"local_reserve": self._reserve, "processes": 2}
        process = Process(self._world, len(self._processes), self._quota(), **options, **reserve)
        self._processes.append(process)
        return process

    async def _main(self) -> None:
        random = self._random
        for process in (self._spawn(), self._spawn()):
            # All have been there before anything goes wrong; a newcomer who is not is another matter.
            (await process.lane.admit()).unused()
        await asyncio.sleep(1)
        self._world.fault = self._fault
        self._world.copy()
        for _ in range(random.randrange(10, 50)):
            process = random.choice(self._processes)
            process.calls.append(asyncio.create_task(self._call(process)))
        mishaps = asyncio.create_task(self._mishaps())
        await asyncio.wait({mishaps})
        mishaps.result()
        calls = [call for process in self._processes for call in process.calls]
        _, pending = await asyncio.wait(calls, timeout=200 * self._lease + 3000)
        for call in calls:
            if call in pending:
                self._problems.append("stuck: a call never ended")
                call.cancel()
            elif not call.cancelled() and call.exception() is not None:
                self._problems.append(f"raised: {call.exception()!r}")
        await asyncio.gather(*calls, return_exceptions=True)
        self._world.fault = 0.0
        if not self._happened & {"kill", "reopen", "set back", "partition"}:
            # All that was not lost has been reported, and is back after a window.
            await asyncio.sleep(max(0.0, self._world.down_until - self._loop.time()) + self._per * 1.001 + 12)
            if self._world.taken() > self._lost:
                self._problems.append(f"held: {self._world.taken()} slots are taken, {self._lost} requests were lost")
        await asyncio.sleep(4 * self._lease)
        last = self._spawn()
        try:
            async with asyncio.timeout(3 * self._lease):
                (await last.lane.admit()).unused()
        except TimeoutError:
            self._problems.append("stuck: the quota gives no slots any more")
        await asyncio.sleep(1)
        for process in self._processes:
            seen = process.lane.statistics()
            if process.alive and (seen.in_flight or seen.waiting_bulk or seen.waiting_interactive):
                self._problems.append(f"left: {seen}")
            process.lane.leave(process.quota)
        await asyncio.gather(*(process.lane.flush() for process in self._processes))
        await asyncio.sleep(0)
        if left := [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            self._problems.append(f"tasks left: {left}")
        if self._world.wires:
            self._problems.append("connections left")
        if keys := self._world.kept_for_ever():
            self._problems.append(f"leaked: {keys} do not expire")
        if taken := self._world.taken():
            self._problems.append(f"leaked: {taken} slots are taken for ever")

    async def _call(self, process: Process, soon: float = 1.0) -> None:
        random, loop = self._random, self._loop
        await asyncio.sleep(soon * random.random() * self._per * random.choice([0.2, 1, 3]))
        until = random.choice([math.inf, loop.time() + random.random() * 3 * self._per])
        lane, timeout = process.lane, self._longest * random.choice([0.3, 1.0])
        try:
            slot = await lane.admit(random.choice(list(Priority)), random.choice([math.inf, 1.0]), until)
        except RecallError:
            return
        if loop.time() < process.paused_until - 1e-3:
            self._problems.append(f"pause: a request {process.paused_until - loop.time():.3f} s before its end")
        admitted, took = loop.time(), timeout * random.choice([0, 0.01, 0.01, 0.5, 0.999])
        fate = random.choice([*["early", "late"] * 3, "lost", "429", "unused"])
        counted = admitted if fate == "early" else admitted + took

        def latest() -> float:
            """When a request that is given up now can be counted at the latest: slots of a local reserve tell the lane."""
            return (admitted + self._longest if slot.granted_at else loop.time() + timeout) * (1 - 1e-9)

        try:
            await asyncio.sleep(took)
        except asyncio.CancelledError:
            self._counted.append(counted if loop.time() >= counted else latest())
            self._lost += 1
            if process.alive:
                slot.lost(timeout)
            raise
        if fate == "unused":
            slot.unused()
            return
        if fate == "lost":
            self._counted.append(latest())
            self._lost += 1
            slot.lost(timeout)
            return
        self._counted.append(counted)
        if fate == "429":
            pause = random.choice([0.0, self._per * random.random(), 2 * self._lease])
            process.paused_until = max(process.paused_until, loop.time() + pause)
            slot.rejected(pause)
        else:
            slot.answered()

    async def _mishaps(self) -> None:
        random = self._random
        happen = self._world.mishaps(self._per, lambda: len(self._processes))
        happen |= {"cancel": self._cancel, "kill": self._kill}
        kinds = random.sample([*happen, "reopen"], random.choice([1, 2, 3, 12]))
        if self._hold_new:
            happen |= {"newcomer": self._newcomer, "loss and newcomer": self._loss_and_newcomer}
            kinds += ["newcomer", "loss and newcomer"] * (1 + len(kinds) // 4)
        for _ in range(random.randrange(7)):
            await asyncio.sleep(random.random() * self._per * random.choice([0.02, 0.3, 1.0]))
            name = random.choice(kinds)
            self._happened.add(name)
            if name == "reopen":
                process = random.choice(self._processes)
                if process.alive:
                    await process.reopen(self._quota())
            else:
                happen[name]()

    def _cancel(self) -> None:
        calls = [call for process in self._processes for call in process.calls if not call.done()]
        if calls:
            self._random.choice(calls).cancel()

    def _kill(self) -> None:
        """A process dies with all that it had not said; the requests that it sent are on their way still."""
        process = self._random.choice(self._processes)
        process.alive = False
        self._world.cut[process.number] = math.inf
        for wire in list(self._world.wires):
            if wire._process == process.number:
                wire.break_off()
        for call in process.calls:
            call.cancel()

    def _newcomer(self, soon: float = 1.0) -> None:
        process = self._spawn()
        for _ in range(self._random.randrange(1, 10)):
            process.calls.append(asyncio.create_task(self._call(process, soon)))

    def _loss_and_newcomer(self) -> None:
        """Whoever speaks first after the loss does not know of it."""
        self._random.choice([self._world.flush, partial(self._world.restart, "old")])()
        self._newcomer(soon=0.001)
