"""The slots that a process may use on its own while Redis is away: its books, without Redis and without waiting."""

from __future__ import annotations

import math
import os
import signal
import tempfile
from pathlib import Path
from random import Random
from threading import Thread

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from recall_async import Quota
from recall_async.limits.redis.reserve import LOOK_AT_MOST, REMEMBERED, LocalReserve
from recall_async.limits.redis.scripts import GRANT_MAX_AGE, Terms

LONGEST = 10.0
TERMS = Terms.of(Quota(20, 60.0), 0, LONGEST)
PER, LEASE = TERMS.per / 1e6, TERMS.lease / 1e6


def test_slots_are_used_once_and_named() -> None:
    """Would send more in an outage than was set aside, or give two slots one name."""
    reserve = LocalReserve(3)
    taken = [reserve.take("q", 5.0, TERMS) for _ in range(3)]
    assert all(len(name) >= 12 for name, _ in taken)  # another process never has the same
    assert len(set(taken)) == 3
    assert {when for _, when in taken} == {5.0}
    assert reserve.take("q", 5.0, TERMS)[0] == ""
    assert reserve.take("another", 5.0, TERMS)[0] != ""


def test_slot_is_free_one_window_after_its_response() -> None:
    """Would send a request while the API still counts the one before it, or leave the reserve unused."""
    reserve = LocalReserve(1)
    name, _ = reserve.take("q", 0.0, TERMS)
    reserve.give_back("q", name, 2.0)
    assert reserve.take("q", 2.0, TERMS) == ("", 2.0 + LOOK_AT_MOST) == ("", 3.0)
    assert reserve.take("q", 2.0 + PER - 0.25, TERMS) == ("", 2.0 + PER)
    again, when = reserve.take("q", 2.0 + PER, TERMS)
    assert again not in ("", name)
    assert when == 2.0 + PER


def test_slot_that_was_not_used_is_free_at_once() -> None:
    """Would lose a slot of the reserve to each call that was cancelled before it sent anything."""
    reserve = LocalReserve(1)
    name, _ = reserve.take("q", 0.0, TERMS)
    reserve.give_back("q", name, -math.inf)
    assert reserve.take("q", 0.0, TERMS)[0] != ""


def test_slot_of_a_process_that_died_comes_back_with_its_lease() -> None:
    """Would lose a slot for ever with each worker that dies, or free it while its request may still be counted."""
    reserve = LocalReserve(1)
    reserve.take("q", 0.0, TERMS)
    assert pytest.approx(LONGEST + GRANT_MAX_AGE + PER) == LEASE
    assert reserve.take("q", LEASE - 1e-5, TERMS)[0] == ""
    assert reserve.take("q", LEASE + 1e-6, TERMS)[0] != ""


def test_slot_is_kept_until_the_api_can_no_longer_count_its_request() -> None:
    """Would free a slot with its lease, although its request was answered, or may be counted, after that."""
    reserve, late = LocalReserve(2), LEASE + REMEMBERED
    name, _ = reserve.take("q", 0.0, TERMS)
    reserve.take("q", late, TERMS)  # by now, the books have forgotten the first one
    reserve.give_back("q", name, late)
    assert reserve.take("q", late + PER - 0.01, TERMS)[0] == ""


@pytest.mark.parametrize("seed", range(8))
def test_no_course_of_endings_overruns_the_reserve(seed: int) -> None:
    """Would send a request while the API may still count as many as the reserve has, however they ended."""
    random, reserve, now = Random(seed), LocalReserve(3), 0.0
    counted, ends = list[float](), list[tuple[float, str, float]]()
    for _ in range(1000):
        now += random.expovariate(random.choice([0.2, 2.0]))
        for end in sorted(end for end in ends if end[0] <= now):
            reserve.give_back("q", end[1], end[2])
            ends.remove(end)
        name, _ = reserve.take("q", now, TERMS)
        if not name:
            continue
        ended = now + random.uniform(0.0, GRANT_MAX_AGE) + LONGEST * random.choice([0.0, 0.5, 1.0])
        fate = random.choice(["early", "late", "lost", "unused", "process died"])
        last = {"lost": ended + LONGEST, "unused": -math.inf}.get(fate, ended)
        if fate != "process died":
            ends.append((ended, name, last))
        if fate != "unused":
            counted.append(now if fate == "early" else last)
    counted.sort()
    assert all(later - earlier >= 60.0 for earlier, later in zip(counted, counted[3:], strict=False))
    assert len(counted) > 50


def test_earliest_of_the_slots_is_waited_for() -> None:
    """Would look at an empty reserve too late, or all the time."""
    reserve = LocalReserve(2)
    for ended in (3.0, 1.0):
        name, _ = reserve.take("q", 0.0, TERMS)
        reserve.give_back("q", name, ended)
    assert reserve.take("q", 1.0 + PER - 0.5, TERMS) == ("", 1.0 + PER)
    assert reserve.take("q", 1.0 + PER - 5.0, TERMS) == ("", 1.0 + PER - 5.0 + LOOK_AT_MOST)


def test_slots_of_a_short_window_count_in_the_one_of_the_api() -> None:
    """Would forget what was sent a moment ago, when a session names a quota with a longer window."""
    reserve, short = LocalReserve(1), Terms.of(Quota(20, 1.0), 0, LONGEST)
    name, _ = reserve.take("q", 0.0, short)
    reserve.give_back("q", name, 0.0)
    window = short.per / 1e6
    assert reserve.take("q", math.nextafter(window, 0.0), short)[0] == ""
    second, _ = reserve.take("q", window, short)
    reserve.give_back("q", second, 2.0)
    assert second
    assert pytest.approx(60.06) == REMEMBERED
    assert reserve.take("q", REMEMBERED + 1.9, TERMS)[0] == ""
    assert reserve.take("q", REMEMBERED + 2.0 + 1e-6, TERMS)[0] != ""


def test_empty_reserve_has_no_file_and_no_slot() -> None:
    """Would open a file in every process that uses Redis."""
    reserve = LocalReserve(0)
    with pytest.raises(AssertionError):
        reserve.take("q", 0.0, TERMS)


def test_quota_without_slots_is_not_in_the_books() -> None:
    """Would keep a line for each quota for which nothing is used, and read all of them with each slot."""
    reserve = LocalReserve(1)
    assert reserve._file is not None
    for number in range(50):
        name, _ = reserve.take(f"q{number}", 0.0, TERMS)
        reserve.give_back(f"q{number}", name, -math.inf)
    assert os.fstat(reserve._file).st_size <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_fork_may_take_slots_while_a_thread_of_its_parent_does() -> None:
    """Would wait for ever in a child for a lock that a thread held which the child does not have."""
    reserve = LocalReserve(2)
    with reserve._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)
            os._exit(0 if reserve.take("q", 0.0, TERMS)[0] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert reserve.take("q", 0.0, TERMS)[0] != ""
    assert reserve.take("q", 0.0, TERMS)[0] == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_books_are_closed_to_other_processes_while_one_writes() -> None:
    """Would let two workers read the same books, and use one slot each, or lock all others out for ever."""
    reserve = LocalReserve(1)
    file = reserve._file
    assert file is not None

    def is_locked() -> bool:
        child = os.fork()
        if not child:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

    with reserve._books("q"):
        assert is_locked()
    assert not is_locked()
    with pytest.raises(KeyError), reserve._books("q") as slots:
        del slots["unknown"]
    assert not is_locked()


def test_books_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave a file for each worker that ever ran, or an open one for each store, or books that grow with time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reserve = LocalReserve(2)
    file = reserve._file
    assert file is not None
    assert list(tmp_path.iterdir()) == []
    sizes = []
    for minute in range(20):
        name, _ = reserve.take("q", 200.0 * minute, TERMS)
        reserve.give_back("q", name, 200.0 * minute)
        sizes.append(os.fstat(file).st_size)
    assert sizes[-1] <= sizes[1] + 10
    del reserve
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_threads_share_the_books() -> None:
    """Would let two threads write their books over each other's, and use a slot twice."""
    reserve, names = LocalReserve(40), list[str]()
    threads = [
        Thread(target=lambda: names.extend(reserve.take("q", 0.0, TERMS)[0] for _ in range(20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([name for name in names if name]) == len(set(names) - {""}) == 40
