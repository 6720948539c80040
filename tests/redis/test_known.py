"""What a process remembers of its quotas in Redis, without a server."""

from __future__ import annotations

import math

from recall_async import Quota
from recall_async.limits.redis.memory import MEMORY_TTL, Kept, Memory
from recall_async.limits.redis.scripts import STATE_TTL, Pause, Terms

KEY = "w", "o"
TERMS = Terms.of(Quota(600, 60.0), 0, 60.0)
LEASE = TERMS.lease / 1e6


def test_nothing_is_known_at_first() -> None:
    """Would tell Redis of a state that this process has never seen, and have the quota held for it."""
    memory = Memory("recall")
    known = memory.known(KEY)
    assert (known.epoch(0.0), known.run, known.terms, known.pause(0.0)) == (("", 0.0), "", None, None)
    assert (len(memory), memory.slots_until, memory.holders(0.0)) == (0, -math.inf, [])
    assert (known.keys.stem, known.key) == ("recall:{w/o}", KEY)
    assert memory.read(KEY) == (-math.inf, -math.inf, -1, b"")


def test_epoch_and_its_age() -> None:
    """Would ask Redis about a state that has expired there, or with the age of another word of it."""
    known = Memory("recall").known(KEY)
    known.heard("1-a/run", 10.0)
    assert known.epoch(10.0) == ("1-a/run", 0.0)
    assert known.epoch(9.0 + MEMORY_TTL) == ("1-a/run", MEMORY_TTL - 1.0)
    assert known.epoch(10.0 + MEMORY_TTL) == ("", 0.0)
    assert MEMORY_TTL == STATE_TTL / 2 == 12 * 3600.0
    known.heard("2-b/other", 20.0)
    assert (known.epoch(21.0), known.run) == (("2-b/other", 1.0), "other")


def test_slots_count_until_the_lease_of_the_last_has_ended() -> None:
    """Would keep silent about slots that Redis lost, or speak for those that are over long ago."""
    memory = Memory("recall")
    known, other = memory.known(KEY), memory.known(("w2", "o"))
    known.heard("1-a/run", 10.0)
    assert (memory.slots_until, known.terms, memory.holders(10.0)) == (-math.inf, None, [])
    known.heard("1-a/run", 20.0, TERMS)
    known.heard("1-a/run", 30.0)  # grants nothing
    assert (memory.slots_until, known.terms) == (20.0 + LEASE, TERMS)
    assert [one.key for one in memory.holders(19.9 + LEASE)] == [KEY]
    assert memory.holders(20.0 + LEASE) == []
    short = Terms.of(Quota(10, 1.0), 0, 1.0)
    other.heard("1-a/run", 25.0, short)
    known.heard("1-a/run", 26.0, short)  # the longer lease counts
    assert (memory.slots_until, known.terms, other.terms) == (20.0 + LEASE, short, short)
    assert memory.terms == [TERMS, short]
    assert {one.key for one in memory.holders(25.1)} == {KEY, ("w2", "o")}
    assert [one.key for one in memory.holders(25.0 + short.lease / 1e6)] == [KEY]
    assert [one.key for one in memory.holders(26.0 + short.lease / 1e6)] == [KEY]


def test_life_of_the_data_of_each_server() -> None:
    """Would miss that data were flushed, or take another server's data, or a silent server, for a loss."""
    memory = Memory("recall")
    assert not memory.lost("one", "a")
    assert not memory.lost("one", "a")
    assert not memory.lost("two", "b")
    assert not memory.lost("one", "")
    assert memory.lost("one", "c")
    assert not memory.lost("one", "c")
    assert not memory.lost("two", "b")


def test_servers_that_were_used_last_are_told_apart() -> None:
    """Would miss a loss because many servers were used before, or grow with each restart of Redis."""
    memory = Memory("recall")
    for number in range(256):
        memory.lost(f"run{number}", "a")
    memory.lost("run0", "a")
    memory.lost("new", "a")
    assert memory.lost("run0", "b")
    assert not memory.lost("run1", "b")  # the longest unused
    assert memory.lost("run3", "b")


def kept(seconds: float, at: float = 0.0, told: str = "") -> Kept:
    return Kept(Pause(seconds, at, 7, 0.5), told)


def test_longest_pause_lasts() -> None:
    """Would end a pause because a shorter one came after it, or keep one that is over."""
    memory = Memory("recall")
    known, other = memory.known(KEY), memory.known(("w2", "o"))
    known.paused(kept(30.0), 0.0)
    known.paused(kept(10.0, at=5.0), 5.0)
    assert known.pause(5.0) == kept(30.0)
    assert other.pause(5.0) is None
    known.paused(kept(25.0, at=5.0, told="run"), 5.0)  # as long, and newer
    assert known.pause(29.9) == kept(25.0, at=5.0, told="run")
    assert known.pause(30.0) is None
    assert known.pause(29.9) is None  # it was removed
    known.paused(kept(1.0, at=40.0), 40.0)
    assert known.pause(40.5) == kept(1.0, at=40.0)


def test_quotas_are_dropped_when_there_are_many_and_their_slots_are_over() -> None:
    """Would drop what a process with many workspaces has sent, or keep every workspace for ever."""
    memory = Memory("recall")
    for number in range(5000):
        memory.known((f"w{number}", "o")).heard("1-a/run", 0.0, TERMS)
    assert len(memory) == len(memory.holders(1.0)) == 5000
    for number in range(10_000):
        memory.known((f"later{number}", "o")).heard("1-a/run", 2 * LEASE)
    assert len(memory) == 4096
