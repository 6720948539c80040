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


def test_reminder_is_due_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Would remind somebody at another time than once a minute, or tell a time for which Redis has not been silent."""
    caplog.set_level(logging.INFO, "recall_async")
    now = 100.0
    silence = Silence("Redis", lambda: now)
    assert (silence.seconds, silence.trouble) == (0.0, "")
    silence.begin("one", 98.0)
    now = 159.9
    silence.begin("two", 150.0)
    assert [record.getMessage() for record in caplog.records] == [
        "Redis does not answer, so calls wait for their quota: one"
    ]
    assert (silence.trouble, silence.since) == ("two", 98.0)
    for now in (160.0, 219.9, 220.0):
        silence.begin("three", now)
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "Redis has not answered for 62 s, and calls still wait: three",
        "Redis has not answered for 122 s, and calls still wait: three",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    silence.forget()
    assert (silence.since, silence.trouble, silence.seconds) == (None, "", 0.0)
    now = 300.0
    silence.begin("four", 299.0)
    assert (silence.since, len(caplog.records)) == (299.0, 4)


def test_outage_that_began_before_its_first_error_is_as_long(caplog: pytest.LogCaptureFixture) -> None:
    """Would forget the seconds for which a message was under way when it turned out that nobody answers."""
    silence = Silence("Redis", lambda: 110.0)
    silence.since = 95.0
    silence.begin("one", 108.0)
    assert (silence.since, silence.seconds) == (95.0, 15.0)


def test_refusal_is_told_once_until_a_reply(caplog: pytest.LogCaptureFixture) -> None:
    """Would repeat a refusal with each attempt, keep silent about another one, or about the same one on another day."""
    caplog.set_level(logging.INFO, "recall_async")
    silence = Silence("Redis", lambda: 100.0)
    silence.refused("no")
    silence.refused("no")
    silence.refused("never")
    silence.end()
    silence.refused("never")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"Redis refuses the connection, so calls fail: {why}") for why in ("no", "never", "never")
    ]
