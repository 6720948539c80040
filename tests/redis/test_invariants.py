"""The scripts under arbitrary courses of messages, lost, repeated and late ones: nothing ever overruns the quota."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from recall_async.limits.quota import Quota
from recall_async.limits.redis.scripts import (
    Ask,
    Command,
    Ending,
    Keys,
    Pause,
    Terms,
    acquire,
    decode,
    pause,
    settle,
)
from tests.redis.server import RedisProcess

LIMIT, RESERVE = 5, 2
TERMS = Terms.of(Quota(LIMIT, 3600.0, burst=LIMIT, reserve=RESERVE), 0, 60.0)

Step = tuple[str, int, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "unheard", "late", "answered", "unused", "settle again", "pause"]),
        st.integers(0, 1),  # which client
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=25,
)


class Client:
    """One client of the scripts, and what it knows to hold."""

    def __init__(self, redis: Redis, keys: Keys, name: str) -> None:
        self._redis, self._keys, self._name = redis, keys, name
        self._seq = self._number = 0
        self._lost: list[Command] = []
        self._said: list[tuple[int, Ending, float]] = []
        self.held: list[int] = []

    def run(self, command: Command) -> Any:
        script, keys, arguments = command
        return self._redis.eval(script.text, len(keys), *keys, *arguments)

    def _acquire(self, ask: Ask, *, again: bool) -> Command:
        self._seq += 1
        who = (self._keys, self._name, self._seq, ask)
        return acquire(*who, again=again, run="run", epoch="", age=0.0, terms=TERMS)

    def ask(self, interactive: int, bulk: int, *, unheard: bool) -> None:
        """Ask for slots; unheard, the answer is lost, and it is asked again."""
        ask = Ask(self._number, interactive, bulk, time.monotonic())
        self._number += interactive + bulk
        command = self._acquire(ask, again=False)
        if unheard:
            self._lost.append(command)
            if bulk % 2:
                self.run(command)  # it came; only the answer did not
            command = self._acquire(ask, again=True)
        answer = decode(self.run(command), "", TERMS)
        assert answer is not None
        self.held += range(ask.first, ask.first + answer.interactive)
        self.held += range(ask.first + interactive, ask.first + interactive + answer.bulk)

    def end(self, ending: Ending) -> None:
        """Report the end of a slot."""
        if self.held:
            self._said = [(self.held.pop(0), ending, time.monotonic())]
            self.say_again()

    def say_again(self) -> None:
        """Report the last end, maybe once more."""
        if self._said:
            self.run(settle(self._keys, self._name, self._said, time.monotonic(), TERMS))

    def late(self) -> None:
        """What was given up as lost arrives after all."""
        for command in self._lost:
            assert decode(self.run(command), "", TERMS) is None
        self._lost.clear()


@pytest.fixture(scope="module")
def redis(shared_redis: RedisProcess) -> Iterator[Redis]:
    with Redis(port=shared_redis.port, decode_responses=True) as client:
        yield client


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_no_course_of_messages_overruns_the_quota(redis: Redis, course: list[Step]) -> None:
    """Would grant a slot twice, leave one behind that nobody holds, or forget one that somebody does."""
    keys = Keys(f"invariants-{uuid4().hex}", "w", "o")
    clients = [Client(redis, keys, name) for name in ("one", "two")]
    answered = 0
    for what, who, first, second in course:
        client = clients[who]
        match what:
            case "ask" | "unheard":
                client.ask(first, second, unheard=what == "unheard")
            case "late":
                client.late()
            case "answered" | "unused":
                answered += what == "answered" and bool(client.held)
                client.end(Ending(what))
            case "settle again":
                client.say_again()
            case "pause":
                client.run(pause(keys, Pause(0.0, 0.0, 0, 0.0), 0.0, TERMS))
                redis.hdel(keys.state, "base", "since", "next")  # the pace is another test's matter
        taken = redis.zcard(keys.slots)
        assert taken == answered + sum(len(one.held) for one in clients)
        assert taken <= LIMIT
        held = {f"{name}:{number}" for name, one in zip(("one", "two"), clients, strict=True) for number in one.held}
        assert held <= set(redis.zrange(keys.slots, 0, -1))
