"""What a process reports to a Redis that may have lost its data: on replies from a script, without Redis."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from recall_async import Quota
from recall_async.limits.expiring import Key
from recall_async.limits.redis import greeter as module
from recall_async.limits.redis.greeter import StateGreeter
from recall_async.limits.redis.memory import Known, Memory
from recall_async.limits.redis.scripts import ACQUIRE, OVERTAKEN, Command, Terms
from tests.redis.words import asked, reply

TERMS = Terms.of(Quota(60, 60.0), 0, 60.0)
ONE, TWO = ("w1", "o"), ("w2", "o")
HEARD = 100.0


class World:
    """A process that has slots of two quotas, which the server process `a` granted."""

    def __init__(self) -> None:
        self.now = HEARD
        self.memory = Memory("recall")
        for key in (ONE, TWO):
            self.memory.known(key).heard("1-e/a", HEARD, TERMS)
        self.greeter = StateGreeter(self.memory, lambda: self.now)

    def known(self, key: Key = ONE) -> Known:
        return self.memory.known(key)

    def due(self) -> list[Key]:
        return list(self.greeter._due)


def granted(epoch: str) -> bytes:
    """The reply to a report: the epoch is what matters here."""
    return reply(name=f"{epoch} 60/60")


def test_server_that_lost_nothing_is_told_nothing() -> None:
    """Would have all processes wait, or send a report with each connection, though Redis has its data."""
    world = World()
    assert not world.greeter.meet("a", "life")
    assert not world.greeter.speaks
    assert not world.greeter.meet("a", "life")
    assert world.greeter.compose("a") == []


@pytest.mark.parametrize("met", [[("b", "life")], [("a", "life"), ("a", "another")]])
def test_slots_are_reported_to_a_new_server_and_to_new_data(met: list[tuple[str, str]]) -> None:
    """Would keep silent about slots that a restart or a flush has lost, and let others send as much again."""
    world = World()
    found = [world.greeter.meet(*one) for one in met]
    assert found == [False] * (len(met) - 1) + [True]
    assert world.greeter.speaks
    assert world.due() == [ONE, TWO]
    assert world.greeter.meet(*met[-1])  # until it has answered
    world.now += 3.0
    commands = world.greeter.compose(met[-1][0])
    assert [(command.script, command.keys[0]) for command in commands] == [
        (ACQUIRE, world.known(key).keys.slots) for key in (ONE, TWO)
    ]
    said, other = map(asked, commands)
    assert (said.seq, said.first, said.interactive, said.bulk, said.again) == (0, 0, 0, 0, 0)  # asks for no slot
    assert (said.run, said.epoch, said.age) == (met[-1][0], "1-e/a", 3_000_000)
    assert said.client == other.client
    assert len(said.client) >= 12  # two processes never have the same
    world.greeter.on_reply([granted("2-f/b"), granted("3-g/b")])
    assert not world.greeter.speaks
    assert (world.known(ONE).epoch(world.now), world.known(TWO).epoch(world.now)) == (("2-f/b", 0.0), ("3-g/b", 0.0))
    assert not world.greeter.meet(*met[-1])


def test_another_server_is_another_meeting() -> None:
    """Would take the first meeting for the last one, and report nothing after a second failover."""
    world = World()
    assert world.greeter.meet("b", "life")
    world.greeter.on_reply([granted("2-f/b")] * len(world.greeter.compose("b")))
    assert world.greeter.meet("c", "life")
    assert world.due() == [ONE, TWO]


def test_report_without_a_reply_is_repeated() -> None:
    """Would lose the report with the connection on which it was sent, or take a later reply for its reply."""
    world = World()
    world.greeter.meet("b", "life")
    before: list[Command] = world.greeter.compose("b")
    world.greeter.on_no_reply()
    world.greeter.on_reply([])
    assert world.due() == [ONE, TWO]
    assert world.greeter.compose("b") == before


@pytest.mark.parametrize("refusal", [ResponseError("WRONGTYPE Operation"), OVERTAKEN])
def test_report_that_redis_does_not_take_is_not_repeated(refusal: Any) -> None:
    """Would report the same for ever, and nothing else, or name an epoch that Redis never said."""
    world = World()
    world.greeter.meet("b", "life")
    world.greeter.compose("b")
    world.greeter.on_reply([refusal, granted("3-g/b")])
    assert not world.greeter.speaks
    assert (world.known(ONE).run, world.known(TWO).run) == ("a", "b")


@pytest.mark.parametrize("ended", ["refused", "fail"])
def test_reports_end_with_a_refusal_or_a_bug(ended: str) -> None:
    """Would send on to a Redis that refuses the connection."""
    world = World()
    world.greeter.meet("b", "life")
    getattr(world.greeter, ended)(ResponseError("no"))
    assert not world.greeter.speaks


def test_slots_that_are_over_are_not_reported() -> None:
    """Would have others wait for slots that count no more."""
    world = World()
    world.now = HEARD + TERMS.lease / 1e6
    assert not world.greeter.meet("b", "life")


def test_many_reports_are_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would block Redis with the reports of a thousand workspaces in one message, or leave some out."""
    monkeypatch.setattr(module, "MAX_BATCH", 1)
    world = World()
    world.greeter.meet("b", "life")
    said = []
    while world.greeter.speaks:
        (command,) = world.greeter.compose("b")
        said.append(command.keys[0])
        world.greeter.on_reply([granted("2-f/b")])
    assert said == [world.known(key).keys.slots for key in (ONE, TWO)]
