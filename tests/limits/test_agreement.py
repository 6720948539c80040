"""Which quota a lane has while sessions come and go, and the callbacks that do not keep it alive."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from recall_async import ConfigurationError, Quota
from recall_async.limits.agreement import Agreement
from recall_async.limits.quota import base_quota
from recall_async.limits.weakly import weakly

OPERATION = "calendars.list"
BASE, OTHER, THIRD = base_quota(OPERATION), Quota(7, 60.0), Quota(9, 30.0)


class Lane:
    """Notes which quotas are applied."""

    def __init__(self) -> None:
        self.applied: list[Quota] = []

    def apply(self, quota: Quota) -> None:
        if quota == THIRD:
            raise ConfigurationError("too small")
        self.applied.append(quota)

    def sum(self, first: int, *, second: int) -> int:
        return first + second


def agreed(lane: Lane, quota: Quota = BASE) -> Agreement:
    return Agreement(OPERATION, quota, lane.apply)


def test_named_quota_applies_until_the_last_that_named_it_leaves() -> None:
    """Would send by another quota than the sessions named, or keep a named one for those that named none."""
    lane = Lane()
    agreement = agreed(lane)
    agreement.join(None)
    assert (agreement.quota, agreement.sessions, lane.applied) == (BASE, 1, [])
    agreement.join(OTHER)
    agreement.join(OTHER)
    agreement.join(None)
    assert (agreement.quota, agreement.sessions, lane.applied) == (OTHER, 4, [OTHER])
    agreement.leave(None)
    agreement.leave(OTHER)
    assert (agreement.quota, lane.applied) == (OTHER, [OTHER])
    agreement.leave(OTHER)
    assert (agreement.quota, agreement.sessions, lane.applied) == (BASE, 1, [OTHER, BASE])
    agreement.leave(None)
    assert (agreement.quota, agreement.sessions) == (BASE, 0)


def test_another_quota_is_refused_while_one_is_named() -> None:
    """Would let two sessions send by two quotas, or count the session that was refused."""
    lane = Lane()
    agreement = agreed(lane)
    agreement.join(OTHER)
    with pytest.raises(ConfigurationError, match=f"quota of {OPERATION} must be .*another open session"):
        agreement.join(BASE)
    assert (agreement.quota, agreement.sessions, lane.applied) == (OTHER, 1, [OTHER])
    agreement.leave(OTHER)
    agreement.join(BASE)  # nobody names another one any more
    assert (agreement.quota, agreement.sessions, lane.applied) == (BASE, 1, [OTHER, BASE])


def test_quota_of_the_last_session_stays_until_the_next_one() -> None:
    """Would report the requests of closed sessions under a quota that they did not have, or keep it for the next ones."""
    lane = Lane()
    agreement = agreed(lane)
    agreement.join(OTHER)
    agreement.leave(OTHER)
    assert (agreement.quota, agreement.sessions, lane.applied) == (OTHER, 0, [OTHER])
    agreement.join(None)
    assert (agreement.quota, lane.applied) == (BASE, [OTHER, BASE])


def test_session_that_leaves_without_a_name_changes_nothing() -> None:
    """Would take the quota from the sessions that stay, because one that named none has left."""
    lane = Lane()
    agreement = agreed(lane, OTHER)
    agreement.sessions = 2  # of a time before: both without a name
    agreement.leave(None)
    assert (agreement.quota, lane.applied) == (OTHER, [])


def test_quota_that_cannot_be_applied_is_not_in_force() -> None:
    """Would name a quota that the lane does not have, or count a session that could not begin."""
    lane = Lane()
    agreement = agreed(lane)
    with pytest.raises(ConfigurationError, match="too small"):
        agreement.join(THIRD)
    assert (agreement.quota, agreement.sessions, lane.applied) == (BASE, 0, [])


def test_base_value_that_cannot_be_applied_leaves_the_quota() -> None:
    """Would fail the closing of a session, because the base value is too small for the local reserve."""
    applied: list[Quota] = []

    def apply(quota: Quota) -> None:
        if quota == BASE:
            raise ConfigurationError("too small")
        applied.append(quota)

    agreement = Agreement(OPERATION, THIRD, apply)
    agreement.join(OTHER)
    agreement.join(None)
    agreement.leave(OTHER)
    assert (agreement.quota, agreement.sessions, applied) == (OTHER, 1, [OTHER])


def test_callback_calls_the_method_and_does_not_keep_its_object() -> None:
    """Would keep each lane that a program has used until the garbage collector comes, or lose the result of a callback."""
    lane = Lane()
    call, kept = weakly(lane.sum), ref(lane)
    assert call(1, second=2) == 3
    gc.disable()
    try:
        del lane
        assert kept() is None
    finally:
        gc.enable()
