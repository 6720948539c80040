"""What is logged of an outage of Redis, and how long it is said to last."""

from __future__ import annotations

import logging

import pytest

from recall_async.limits.redis.silence import REMIND_EVERY, Silence


def test_an_outage_is_told_at_its_beginning_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Would say nothing more for an hour to somebody who looks at a job that waits, or fill the log."""
    caplog.set_level(logging.INFO, "recall_async")
    now = 100.0
    silence = Silence("Redis", lambda: now)
    for _ in range(1300):
        silence.begin("no answer within 2 s", 98.0)
        now += 0.1
    assert silence.seconds == pytest.approx(now - 98.0)
    assert len(caplog.records) == 1 + int(130 // REMIND_EVERY)
    silence.end()
    assert (silence.trouble, silence.seconds) == ("", 0.0)
    assert caplog.records[-1].getMessage() == "Redis answers again after 132.0 s"
