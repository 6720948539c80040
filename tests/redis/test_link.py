"""The connection of an event loop to Redis: whose commands it sends when, and what it does when nobody answers. Scripted."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from recall_async import Quota
from recall_async.limits.redis import link as module
from recall_async.limits.redis.link import (
    OUTAGE_TIMEOUT,
    RETRY_AT_MOST,
    RETRY_REFUSED,
    Link,
)
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.scripts import USAGE, Command, Keys, Terms
from tests.redis.scripted import ScriptedLane, ScriptedRedis
from tests.virtual_time import VirtualTimeLoop, run

TERMS = Terms.of(Quota(10, 60.0), 0, 30.0)
KEY = "w", "o"


def now() -> float:
    return asyncio.get_running_loop().time()


def gaps(times: list[float]) -> list[float]:
    """The seconds between successive times."""
    return [later - earlier for earlier, later in pairwise(times)]


class Client:
    """A client of redis-py that is closed with the link, if the link made it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.clients += 1

    async def aclose(self) -> None:
        self.world.clients -= 1


class Speaker(ScriptedLane):
    """A lane of which a test knows the name."""

    def __init__(self, name: str, messages: int = 1) -> None:
        super().__init__(Command(USAGE, (name,), ()), messages)


class World:
    """A link, its server, and what the process remembers."""

    def __init__(self, *, owned: bool = True) -> None:
        self.clients = 0
        self.redis = ScriptedRedis()
        self.redis.answer = lambda command: f"for {command.keys[0]}"
        self.memory = Memory("recall")
        clock = asyncio.get_running_loop().time
        self.link = Link(
            lambda: Client(self),  # type: ignore[arg-type, return-value]
            self.memory,
            "recall:life",
            owned=owned,
            clock=clock,
            open_wire=self.redis.open,  # type: ignore[arg-type]
        )

    def holds_slots(self) -> None:
        """Slots count for a minute or so."""
        self.memory.known(KEY).heard("1-a/run", now(), TERMS)

    def begin(self, lane: Speaker) -> None:
        """A session begins whose lane has something to say."""
        self.link.join()
        self.link.wake(lane)

    async def close(self) -> None:
        """Leave nothing behind."""
        while self.link.users:
            self.link.leave()
        await self.link.aclose_unused()
        await asyncio.sleep(0)
        assert (self.redis.wires, self.clients) == ([], 0)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        assert loop.timers() == 0


def test_messages_are_sent_one_after_the_other_to_lanes_in_use() -> None:
    """Would send without a lane in use, one message for each lane, or a second one before the reply to the first."""

    async def main() -> None:
        world = World()
        one, two = Speaker("one", 2), Speaker("two")
        world.redis.delay = 0.1
        world.link.wake(one)
        await asyncio.sleep(1.0)
        assert world.redis.opened == []  # no lane is in use
        world.link.join()
        world.link.wake(two)
        await asyncio.sleep(1.0)
        assert [[command.keys[0] for command in said] for _, said in world.redis.messages] == [
            ["recall:life"],
            ["one", "two"],
            ["one"],
        ]
        assert (one.heard, two.heard) == (["for one"] * 2, ["for two"])
        assert (one.runs, one.silent, len(world.redis.opened)) == (["run"] * 2, 0, 1)
        times = [at for at, _ in world.redis.messages]
        assert gaps(times) == pytest.approx([0.1] * 2, abs=1e-3)
        assert (world.link.trouble, world.link.silence()) == ("", 0.0)
        one.messages = 1
        world.link.wake(one)
        await asyncio.sleep(0.05)
        two.messages = 1
        world.link.wake(two)  # while a message is in flight
        await asyncio.sleep(1.0)
        assert gaps([at for at, _ in world.redis.messages[-2:]]) == pytest.approx([0.1], abs=1e-3)
        assert (len(one.heard), len(two.heard), one.silent) == (3, 2, 0)
        assert world.link.of(Keys("recall", "w", "o")) is world.link  # there is one server
        await world.close()
        assert world.redis.ended == ["aclose"]

    run(main())


def test_times_and_sizes_spare_callers_and_redis() -> None:
    """Would take a slow Redis for a dead one, find a live one late, or block it with one message of a thousand lanes."""
    assert 1.0 < OUTAGE_TIMEOUT <= 2.0
    assert RETRY_AT_MOST <= 1.0
    assert RETRY_REFUSED <= 0.1
    assert module.MAX_BATCH <= 256


def test_what_a_program_says_at_one_moment_is_one_message() -> None:
    """Would send a message for each of the calls that begin together."""

    async def main() -> None:
        world, lanes = World(), [Speaker("warm"), Speaker("one"), Speaker("two")]
        world.link.join()
        world.link.wake(lanes[0])
        await asyncio.sleep(1.0)

        async def call(lane: Speaker, turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            world.link.wake(lane)

        await asyncio.gather(call(lanes[1], 0), call(lanes[2], 1))
        await asyncio.sleep(1.0)
        assert [command.keys[0] for command in world.redis.messages[-1][1]] == ["one", "two"]
        await world.close()

    run(main())


def test_each_lane_gets_the_replies_to_all_its_commands() -> None:
    """Would give a lane the reply to another one's command, when a pause and an ask go in one message."""

    class Two(Speaker):
        def compose(self, run: str) -> list[Command]:
            return [*super().compose(run), Command(USAGE, ("again",), ())]

    async def main() -> None:
        world, lanes = World(), [Two("one"), Speaker("two"), Two("three")]
        world.link.join()
        for lane in lanes:
            world.link.wake(lane)
        await asyncio.sleep(1.0)
        assert [lane.heard for lane in lanes] == [["for one", "for again"], ["for two"], ["for three", "for again"]]
        await world.close()

    run(main())


def test_silence_is_as_long_as_the_first_reply_is_missing() -> None:
    """Would say that Redis answers while a message has waited for seconds, or that it is silent when it has answered."""

    async def main() -> None:
        world = World()
        world.redis.delay = 0.5
        world.begin(Speaker("one"))
        await asyncio.sleep(0.75)
        assert world.link.silence() == pytest.approx(0.75, abs=1e-3)  # since the message began
        await asyncio.sleep(0.5)
        assert world.link.silence() == 0.0
        await world.close()

    run(main())


def test_redis_that_is_silent_is_asked_again_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Would wait for a dead server for ever, ask it in a busy loop, or lose what a lane has to say."""

    async def main() -> None:
        caplog.set_level(logging.INFO, "recall_async")
        world, lane = World(), Speaker("one")
        world.redis.refuses = ConnectionError("refused")
        world.begin(lane)
        await asyncio.sleep(30.0)
        assert (world.link.trouble, world.link.silence()) == ("refused", pytest.approx(30.0, abs=0.01))
        waits = gaps(world.redis.opened)
        assert 0.02 <= waits[0] <= 0.051
        first = world.redis.opened[0]
        for at, wait in zip(world.redis.opened, waits, strict=False):
            assert wait <= max(0.05, (at - first) / 2) + 0.01  # the longer it is silent, the less often
        assert all(gap <= RETRY_AT_MOST + 0.01 for gap in waits)
        assert all(gap >= RETRY_AT_MOST / 2 for gap in waits[-5:])
        assert lane.silent == len(world.redis.opened)
        world.redis.refuses = None
        await asyncio.sleep(RETRY_AT_MOST)
        assert (lane.heard, world.link.trouble) == (["for one"], "")
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        await world.close()

    run(main())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionError(), "ConnectionError"),
        (TimeoutError(), f"no answer within {OUTAGE_TIMEOUT:g} s"),
        (TimeoutError("no route"), "no route"),
    ],
)
def test_outage_has_a_cause(error: Exception, why: str) -> None:
    """Would tell of an outage without its cause, or take what the network says for the limit of two seconds."""

    async def main() -> None:
        world = World()
        world.redis.refuses = error
        world.begin(Speaker("one"))
        await asyncio.sleep(0.01)
        assert world.link.trouble == why
        world.redis.refuses = None
        await asyncio.sleep(1.0)
        await world.close()

    run(main())


def test_message_without_a_reply_is_an_outage_after_two_seconds() -> None:
    """Would wait for ever, keep the connection on which a late reply may come, or not tell the lane."""

    async def main() -> None:
        world, lane = World(), Speaker("one", 2)
        world.begin(lane)
        await asyncio.sleep(0.1)
        world.redis.delay, lane.messages = 1000.0, 1
        began = now()
        world.link.wake(lane)
        await asyncio.sleep(OUTAGE_TIMEOUT - 0.01)
        assert (lane.silent, world.link.trouble) == (0, "")
        assert world.link.silence() == pytest.approx(now() - began, abs=0.01)
        await asyncio.sleep(0.02)
        assert lane.silent >= 1
        assert (world.link.trouble, world.redis.ended) == (f"no answer within {OUTAGE_TIMEOUT:g} s", ["drop"])
        assert world.link.silence() == pytest.approx(now() - began, abs=0.01)
        world.redis.delay = 0.0
        await asyncio.sleep(5.0)
        assert (lane.heard[2:], lane.speaks, world.link.trouble) == (["for one"], False, "")
        await world.close()

    run(main())


def test_connection_that_was_closed_meanwhile_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """Would have calls use the reserve, or fill the log, each time that a firewall closes an unused connection."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.begin(lane)
        await asyncio.sleep(1.0)
        world.redis.break_off()
        lane.messages = 1
        began = now()
        world.link.wake(lane)
        await asyncio.sleep(0.01)
        assert (lane.heard, lane.silent, world.link.trouble) == (["for one"] * 2, 1, "")
        assert world.redis.messages[-1][0] - began < 0.001
        assert not caplog.records
        await world.close()

    run(main())


def test_new_connection_that_breaks_is_an_outage() -> None:
    """Would connect to a server that resets each message again and again without a pause."""

    async def main() -> None:
        world, lane = World(), Speaker("one")

        def reset(command: Command) -> Any:
            raise ConnectionError("reset")

        world.redis.answer = reset
        world.begin(lane)
        await asyncio.sleep(0.01)
        assert (world.link.trouble, len(world.redis.opened), lane.silent) == ("reset", 1, 2)
        world.redis.answer = lambda command: 1
        await asyncio.sleep(1.0)
        assert (lane.heard, world.link.trouble) == ([1], "")
        await world.close()

    run(main())


def test_refused_client_fails_the_calls_of_all_lanes(caplog: pytest.LogCaptureFixture) -> None:
    """Would let calls wait for a password that will not change, or take it for an outage."""

    async def main() -> None:
        world = World()
        lanes = [Speaker("one"), Speaker("two")]
        world.redis.refuses = AuthenticationError("WRONGPASS")
        world.link.join()
        for lane in lanes:
            world.link.wake(lane)
        await asyncio.sleep(1.0)
        assert [[str(error) for error in lane.failed] for lane in lanes] == [["WRONGPASS"]] * 2
        assert (world.link.trouble, world.link.silence(), len(world.redis.opened)) == ("", 0.0, 1)
        assert [record.getMessage() for record in caplog.records] == [
            "Redis refuses the connection, so calls fail: WRONGPASS"
        ]
        world.redis.refuses = None
        lanes[0].messages = 1
        world.link.wake(lanes[0])
        await asyncio.sleep(1.0)
        assert lanes[0].heard == ["for one"]
        await world.close()

    run(main())


def test_lane_that_has_more_to_say_to_a_redis_that_refuses_it_says_it_later() -> None:
    """Would connect to a Redis that refuses the client again and again without a pause."""

    class Stubborn(Speaker):
        def refused(self, error: Exception) -> None:
            self.failed.append(error)

    async def main() -> None:
        world, lane = World(), Stubborn("one")
        world.redis.refuses = AuthenticationError("WRONGPASS")
        world.begin(lane)
        await asyncio.sleep(1.0)
        assert gaps(world.redis.opened) == pytest.approx([RETRY_REFUSED] * 9, abs=0.001)
        lane.messages = 0
        await asyncio.sleep(1.0)
        await world.close()

    run(main())


def test_error_of_the_server_is_an_outage_for_the_lane_that_got_it() -> None:
    """Would give a lane an error of a server that is loading as the reply, or another lane's reply to nobody."""

    async def main() -> None:
        world, one, two = World(), Speaker("one"), Speaker("two")
        loading = ResponseError("LOADING Redis is loading the dataset in memory")
        world.redis.answer = lambda command: loading if command.keys[0] == "one" else "fine"
        world.link.join()
        for lane in (one, two):
            world.link.wake(lane)
        await asyncio.sleep(0.01)
        assert (one.heard, two.heard) == ([], ["fine"])
        assert one.silent >= 1
        assert ("LOADING" in world.link.trouble, world.redis.ended) == (True, ["drop"])
        refusal = ResponseError("WRONGTYPE Operation")
        world.redis.answer = lambda command: refusal
        await asyncio.sleep(2.0)
        assert (one.heard, world.link.trouble) == ([refusal], "")
        await world.close()

    run(main())


def test_lanes_with_much_to_say_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave out the lane behind those that always have something to say."""
    monkeypatch.setattr(module, "MAX_BATCH", 2)

    async def main() -> None:
        world = World()
        lanes = [Speaker(name, 2) for name in "abc"]
        world.link.join()
        for lane in lanes:
            world.link.wake(lane)
        await asyncio.sleep(1.0)
        said = [[command.keys[0] for command in commands] for _, commands in world.redis.messages[1:]]
        assert said == [["a", "b"], ["c", "a"], ["b", "c"]]
        await world.close()

    run(main())


def test_lane_that_is_forgotten_is_not_asked() -> None:
    """Would ask a lane whose slot has moved to another node."""

    async def main() -> None:
        world, gone, stays = World(), Speaker("gone"), Speaker("stays")
        world.link.join()
        world.link.wake(gone)
        world.link.wake(stays)
        world.link.forget(gone)
        world.link.forget(Speaker("unknown"))
        await asyncio.sleep(1.0)
        assert (gone.runs, stays.heard) == ([], ["for stays"])
        await world.close()

    run(main())


@pytest.mark.parametrize("bug", ["compose", "on_reply"])
def test_bug_in_one_lane_is_told_and_stops_no_other(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Would stop all lanes, or take the bug for an outage and repeat it for ever."""

    async def main() -> None:
        world, faulty, good = World(), Speaker("faulty"), Speaker("good")
        told: list[Any] = []
        monkeypatch.setattr(
            asyncio.get_running_loop(), "call_exception_handler", lambda context: told.append(context["exception"])
        )

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("oops")

        monkeypatch.setattr(faulty, bug, broken)
        monkeypatch.setattr(faulty, "fail", faulty.failed.append)  # it would go on
        world.link.join()
        world.link.wake(faulty)
        world.link.wake(good)
        await asyncio.sleep(1.0)
        assert (good.heard, good.silent, world.link.trouble) == (["for good"], 0, "")
        assert (len(good.runs), len(world.redis.messages)) == (1, 2)  # one, and the mark before it
        assert [type(error) for error in (*faulty.failed, *told)] == [ZeroDivisionError] * 2
        await world.close()

    run(main())
