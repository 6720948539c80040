"""What a lane says to Redis and what it takes from a reply, without a server."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from redis.exceptions import ResponseError

from recall_async import Quota
from recall_async.limits.contract import Ending
from recall_async.limits.pace import LONGEST_USUAL_PAUSE
from recall_async.limits.redis.memory import MEMORY_TTL, Known, Memory
from recall_async.limits.redis.outbox import Outbox
from recall_async.limits.redis.scripts import OVERTAKEN, PAUSE, SETTLE, Command, Keys, Pause, Terms
from tests.redis.words import End, asked, ends, reply

TERMS = Terms.of(Quota(600, 60.0), 0, 60.0)
KEYS = Keys("recall", "w", "o")
REFUSAL = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Said(NamedTuple):
    """The words of an acquire that an outbox determines."""

    seq: int
    first: int
    interactive: int
    bulk: int
    again: int
    run: str
    epoch: str
    age: int
    wanted: int
    ended: list[End]


def said(command: Command) -> Said:
    words = asked(command)
    assert words.quota == TERMS.text
    return Said(*(getattr(words, field) for field in Said._fields))


def granted(interactive: int = 0, bulk: int = 0, epoch: str = "1-a/run") -> bytes:
    """The reply to an acquire."""
    return reply(interactive, bulk, name=f"{epoch} {TERMS.text}")


class Talk:
    """An outbox, and what is known of its quota."""

    def __init__(self, known: Known | None = None) -> None:
        self.known = known or Memory("recall").known(("w", "o"))
        self.outbox = Outbox(KEYS, self.known)

    def say(self, now: float, interactive: int = 0, bulk: int = 0, run: str = "run") -> list[Command]:
        return self.outbox.compose(now, run, interactive, bulk, TERMS)


def test_nothing_to_say_is_no_message() -> None:
    """Would send a script to Redis for nothing, or keep a lane awake that has told all."""
    talk = Talk()
    assert talk.say(0.0) == []
    assert talk.outbox.on_reply([], 0.0) is None
    assert not talk.outbox.pending
    assert not talk.outbox.urgent


def test_slots_have_consecutive_numbers_and_messages_another_number_each() -> None:
    """Would give two slots one number, so that the end of one frees the other, or let an old message win."""
    talk = Talk()
    talk.outbox.wanted()
    talk.outbox.wanted()
    (first,) = talk.say(1.0, 2, 3)
    assert said(first) == Said(1, 0, 2, 3, 0, "run", "", 0, 2, [])
    assert talk.outbox.pending
    asked, grant = talk.outbox.on_reply([granted(2, 1)], 1.5) or (None, None)
    assert asked is not None
    assert grant is not None
    assert (asked.first, asked.interactive, asked.bulk, asked.at) == (0, 2, 3, 1.0)
    assert (grant.interactive, grant.bulk, grant.epoch) == (2, 1, "1-a/run")
    assert not talk.outbox.pending
    (second,) = talk.say(3.5, 1, 0)
    assert said(second) == Said(2, 5, 1, 0, 0, "run", "1-a/run", 2_000_000, 0, [])


def test_ask_for_bulk_calls_alone_is_an_ask() -> None:
    """Would let a job without interactive calls wait for ever, or an ask for interactive calls alone."""
    for wanted in ((0, 1), (1, 0)):
        (command,) = Talk().say(0.0, *wanted)
        assert said(command)[2:4] == wanted


def test_ask_without_a_reply_is_the_same_ask_again() -> None:
    """Would ask for other slots than the first time, of which Redis may have granted some already."""
    talk = Talk()
    talk.outbox.wanted()
    (first,) = talk.say(1.0, 2, 1)
    talk.outbox.on_no_reply()
    talk.outbox.wanted()
    (again,) = talk.say(2.0, 5, 5, run="other")
    assert said(again) == said(first)._replace(seq=2, again=1, run="other")
    asked, _ = talk.outbox.on_reply([granted(2, 1)], 2.5) or (None, None)
    assert asked is not None
    assert asked.at == 1.0  # by which the age of its slots is told
    (third,) = talk.say(3.0, 1, 0)
    assert (said(third).seq, said(third).first, said(third).again, said(third).wanted) == (3, 3, 0, 1)


def test_void_message_confirms_nothing() -> None:
    """Would take the ends and the pauses of a message for told that Redis ignored because a later one had come."""
    talk = Talk()
    talk.outbox.pause(Pause(5.0, 1.0, 7, 0.5))
    talk.outbox.ended(3, Ending.ANSWERED, 1.0)
    talk.say(1.0, 1, 0)
    assert talk.outbox.on_reply([1, OVERTAKEN], 1.5) is None
    assert talk.outbox.pending
    paused, ask = talk.say(2.0)
    assert paused.script is PAUSE
    assert (said(ask).again, said(ask).ended) == (1, [(3, Ending.ANSWERED, 1_000_000)])


def test_only_what_was_said_is_confirmed() -> None:
    """Would forget the slots that ended, and the pauses that came, while the message was on its way."""
    talk = Talk()
    talk.outbox.ended(1, Ending.ANSWERED, 1.0)
    (alone,) = talk.say(1.5)
    assert alone.script is SETTLE
    assert ends(alone) == [(1, Ending.ANSWERED, 500_000)]
    talk.outbox.ended(2, Ending.REJECTED, 1.6)
    talk.outbox.pause(Pause(5.0, 1.6, 7, 0.5))
    assert talk.outbox.on_reply([1], 1.7) is None
    assert talk.outbox.urgent
    paused, left = talk.say(2.6)
    assert paused.arguments[:3] == (5_000_000, 1_000_000, 7)
    assert ends(left) == [(2, Ending.REJECTED, 1_000_000)]
    talk.outbox.on_reply([1, 1], 2.7)
    assert not talk.outbox.pending
    assert not talk.outbox.urgent
    assert talk.say(2.8) == []


def test_refused_ask_is_forgotten() -> None:
    """Would repeat an ask for ever that Redis refuses, or use its slots' numbers again."""
    talk = Talk()
    talk.outbox.ended(9, Ending.ANSWERED, 0.5)
    talk.say(1.0, 2, 2)
    assert talk.outbox.on_reply([REFUSAL], 1.1) is None
    assert not talk.outbox.pending
    assert talk.known.terms is None
    (after,) = talk.say(2.0, 1, 0)
    assert (said(after).first, said(after).again, said(after).ended) == (4, 0, [])


def test_terms_are_known_of_granted_slots_only() -> None:
    """Would hold a quota after a loss for slots that were never granted, or not for those that were."""
    for interactive, bulk in ((0, 0), (1, 0), (0, 1)):
        talk = Talk()
        talk.say(1.0, 1, 1)
        talk.outbox.on_reply([granted(interactive, bulk)], 2.0)
        assert talk.known.terms == (TERMS if interactive or bulk else None)
        assert talk.known.epoch(2.0)[0] == "1-a/run"


def test_epoch_is_stored_for_a_shorter_time_than_in_redis() -> None:
    """Would take a state of Redis that expired for one that was lost, and hold the quota."""
    talk = Talk()
    talk.say(1.0, 1, 0)
    talk.outbox.on_reply([granted()], 1.0)
    assert talk.known.epoch(MEMORY_TTL) == ("1-a/run", MEMORY_TTL - 1.0)
    assert talk.known.epoch(1.0 + MEMORY_TTL) == ("", 0.0)
    assert talk.known.run == "run"


PAUSED = Pause(30.0, 1.0, 7, 0.5)


def told(talk: Talk, now: float = 1.0, run: str = "run") -> None:
    """Tell Redis of the pause; it takes it."""
    talk.outbox.pause(PAUSED)
    (command,) = talk.say(now, run=run)
    assert command.script is PAUSE
    talk.outbox.on_reply([1], now)


def test_pause_is_unknown_to_redis_until_it_confirms_it() -> None:
    """Would send in a pause that the API asked for, because Redis, which was not told, says that there is none."""
    talk = Talk()
    assert talk.outbox.unknown_pause(0.0) == -math.inf
    talk.outbox.pause(PAUSED)
    assert talk.outbox.unknown_pause(1.0) == 31.0
    talk.say(1.0)
    assert talk.outbox.unknown_pause(1.0) == 31.0
    talk.outbox.on_reply([1], 1.5)
    assert talk.outbox.unknown_pause(1.5) == -math.inf
    talk.outbox.pause(Pause(1.0, 2.0, 8, 0.5))  # the longer one counts
    assert talk.outbox.unknown_pause(2.0) == 31.0
    talk.outbox.clear()
    assert talk.outbox.unknown_pause(2.0) == -math.inf


@pytest.mark.parametrize("reply", ["none", "error"])
def test_pause_that_redis_did_not_take_is_said_again(reply: str) -> None:
    """Would lose a pause because the connection broke, or because Redis could not write at that moment."""
    talk = Talk()
    talk.outbox.pause(PAUSED)
    talk.say(1.0)
    if reply == "none":
        talk.outbox.on_no_reply()
    else:
        talk.outbox.on_reply([REFUSAL], 1.1)
    assert talk.outbox.unknown_pause(2.0) == 31.0
    (again,) = talk.say(2.0)
    assert again.arguments[:3] == (30_000_000, 1_000_000, 7)
    talk.outbox.on_reply([1], 2.1)
    assert talk.say(3.0) == []
    assert talk.outbox.unknown_pause(3.0) == -math.inf


def test_refused_ask_does_not_make_the_pause_unknown() -> None:
    """Would repeat a pause that Redis has taken, with every message, because the ask beside it was refused."""
    talk = Talk()
    talk.outbox.pause(PAUSED)
    talk.say(1.0, 1, 0)
    talk.outbox.on_reply([1, REFUSAL], 1.1)
    assert talk.say(2.0) == []


def test_pause_that_another_server_does_not_have_is_told_once_more() -> None:
    """Would send in a pause after Redis restarted empty, or reduce the pace a second time for the same 429."""
    talk = Talk()
    told(talk)
    assert talk.say(2.0, run="run") == []
    (again,) = talk.say(2.0, run="restarted")
    assert again.arguments[:3] == (30_000_000, 1_000_000, -1)
    talk.outbox.on_reply([1], 2.0)
    assert talk.say(3.0, run="restarted") == []
    assert talk.say(31.0, run="another") == []  # it is over


def test_pause_is_told_again_when_the_state_was_lost() -> None:
    """Would send in a pause after the data of Redis were flushed, because the server is the same."""
    talk = Talk()
    told(talk)
    talk.say(2.0, 1, 0)
    talk.outbox.on_reply([granted(1, epoch="2-b/run")], 2.0)
    (again,) = talk.say(3.0)
    assert again.script is PAUSE
    talk.outbox.on_reply([1], 3.0)
    assert talk.say(4.0) == []


@pytest.mark.parametrize(("seconds", "again"), [(LONGEST_USUAL_PAUSE, 1), (LONGEST_USUAL_PAUSE + 1, 0)])
def test_absurd_pause_is_not_told_again(seconds: float, again: int) -> None:
    """Would bring a pause of years back that an operator has ended, with every restart of Redis."""
    talk = Talk()
    talk.outbox.pause(Pause(seconds, 1.0, 7, 0.5))
    talk.say(1.0)
    talk.outbox.on_reply([1], 1.0)
    assert len(talk.say(2.0, run="restarted")) == again


def test_other_lanes_of_the_process_tell_the_pause_that_one_could_not() -> None:
    """Would let a session that is opened after an outage send in a pause that only a closed one had heard of."""
    first = Talk()
    first.outbox.pause(PAUSED)
    second = Talk(first.known)
    assert second.outbox.unknown_pause(1.0) == 31.0
    (command,) = second.say(1.0)
    assert command.arguments[2] == 7
    second.outbox.on_reply([1], 1.0)
    assert second.outbox.unknown_pause(1.0) == -math.inf


def test_cleared_outbox_says_nothing_but_a_lasting_pause() -> None:
    """Would send messages to a Redis that refuses the client, or forget what the API asked for."""
    talk = Talk()
    talk.outbox.ended(1, Ending.ANSWERED, 1.0)
    talk.outbox.pause(PAUSED)
    talk.say(1.0, 1, 1)
    talk.outbox.clear()
    assert not talk.outbox.pending
    assert not talk.outbox.urgent
    (again,) = talk.say(2.0)
    assert again.script is PAUSE
    talk.outbox.on_reply([1], 2.0)
    assert talk.say(3.0) == []
    talk.outbox.ended(2, Ending.UNUSED, 3.0)
    talk.outbox.clear()
    talk.outbox.on_reply([], 3.5)
    assert talk.say(4.0) == []


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("before", ["nothing", "reply", "no reply", "refusal", "clear"])
def test_reply_to_no_message_confirms_nothing(before: str, twice: bool) -> None:
    """Would take what was recorded since for told, when the reply to a message comes that was given up."""
    talk = Talk()
    talk.outbox.pause(PAUSED)
    talk.outbox.ended(1, Ending.ANSWERED, 1.0)
    if before != "nothing":
        talk.say(1.0)
    match before:
        case "reply":
            talk.outbox.on_reply([1, 1], 1.1)
        case "refusal":
            talk.outbox.on_reply([REFUSAL, 1], 1.1)
        case "no reply":
            talk.outbox.on_no_reply()
        case "clear":
            talk.outbox.clear()
    unknown = talk.outbox.unknown_pause(1.2)
    if twice:
        assert talk.outbox.on_reply([], 1.2) is None
        assert talk.outbox.unknown_pause(1.2) == unknown
    for number in (2, 3):
        talk.outbox.ended(number, Ending.ANSWERED, 1.3)
        talk.outbox.pause(Pause(1.0, 1.3, number, 0.5))
    assert talk.outbox.on_reply([], 1.4) is None
    *paused, settled = talk.say(2.0)
    assert [number for number, *_ in ends(settled)] == ([1, 2, 3] if before in ("nothing", "no reply") else [2, 3])
    assert len(paused) == (2 if before == "reply" else 3)


def test_message_without_the_reply_to_its_ask_is_repeated() -> None:
    """Would fail, or forget the ask, at a reply that is cut off."""
    talk = Talk()
    talk.say(1.0, 1, 0)
    assert talk.outbox.on_reply([], 1.1) is None
    assert talk.outbox.pending
    (again,) = talk.say(2.0)
    assert said(again).again == 1
