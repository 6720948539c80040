"""Plan: a value that can be counted, read, stored and read back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async import ConfigurationError, Decision, Plan, RecordingPolicy, RemoveBot, ScheduleBot
from recall_async.sync.decide import CHANGES, KINDS
from tests.sync.invitations import NOW, calendar, uuid
from tests.sync.invitations import event as invitation

OFFSETS = st.integers(-720, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=OFFSETS)


def decision(kind: str, number: int = 1, **fields: object) -> Decision:
    key = "key" if kind in ("schedule", "reschedule", "keep") else None
    start = NOW + timedelta(hours=number)
    document = {
        "kind": kind,
        "event_id": uuid(number),
        "calendar_id": uuid(1000),
        "start_time": start,
        "end_time": start + timedelta(minutes=30),
        "updated_at": NOW,
        "deduplication_key": key,
    }
    return Decision(**{**document, **fields})


def plan(*decisions: Decision, **fields: object) -> Plan:
    return Plan(**{"decisions": decisions, "made_at": NOW, "watermark": NOW, **fields})


MIXED = plan(
    decision("schedule", 1, title="Weekly sync", bot_config={"bot_name": "Notes"}),
    decision("keep", 2),
    decision("reschedule", 3, reason="moved", title="Demo\x1b[31m\nof everything " + "x" * 80),
    decision("skip", 4, reason="ended"),
    decision("remove", 5, reason="policy"),
    decision("skip", 6, reason="ended"),
    decision("skip", 7, reason="deleted"),
    seconds=61.4,
    disconnected=(uuid(1001),),
)


def test_iterating_gives_what_takes_a_request():
    """Applying or counting a plan includes events that need nothing."""
    assert [change.kind for change in MIXED] == ["schedule", "reschedule", "remove"]
    assert len(MIXED) == MIXED.requests == 3
    assert MIXED.counts == {"schedule": 1, "reschedule": 1, "remove": 1, "keep": 1, "skip": 3}
    assert MIXED.skipped == {"ended": 2, "deleted": 1}


def test_a_plan_without_changes_is_empty():
    """`if plan:` and `not plan` say the wrong thing."""
    assert not plan()
    assert not plan(decision("keep"), decision("skip", 2, reason="ended"))
    assert MIXED


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_decision_takes(kind):
    """A decision becomes another request, or loses what orders it in a bulk job."""
    one = decision(kind, bot_config={"bot_name": "Notes"})
    times = (one.start_time, one.end_time)
    expected = {
        "schedule": ScheduleBot(uuid(1), "key", {"bot_name": "Notes"}, *times),
        "reschedule": ScheduleBot(uuid(1), "key", {"bot_name": "Notes"}, *times),
        "remove": RemoveBot(uuid(1), *times),
    }
    assert one.action == expected.get(kind)
    assert (one.action is not None) == (kind in CHANGES)


def test_as_a_table():
    """A person cannot read a plan, or its titles can give a terminal orders."""
    assert str(MIXED).splitlines() == [
        "start (UTC)       action      because  event                                 title",
        f"2025-06-10 13:00  schedule    no bot   {uuid(1)}  Weekly sync",
        f"2025-06-10 15:00  reschedule  moved    {uuid(3)}  Demo [31m of everything {'x' * 35}…",
        f"2025-06-10 17:00  remove      policy   {uuid(5)}",
        "1 to schedule, 1 to reschedule, 1 to remove; 1 as they should be, 3 skipped (2 ended, 1 deleted).",
        "3 requests, 61 s at the quota.",
        "1 calendar is disconnected.",
    ]


def test_an_empty_plan_as_a_table():
    """A plan without changes prints an empty table."""
    assert str(plan()) == "0 to schedule, 0 to reschedule, 0 to remove; 0 as they should be, 0 skipped."


def test_json_both_ways():
    """A plan that was stored is another one."""
    assert Plan.from_json(MIXED.to_json()) == MIXED
    assert Plan.from_json(MIXED.to_json().encode()) == MIXED


@given(
    st.lists(
        st.builds(
            decision,
            st.sampled_from(KINDS),
            st.integers(0, 99),
            start_time=TIMES,
            end_time=TIMES,
            updated_at=TIMES,
            title=st.none() | st.text(),
            bot_config=st.dictionaries(
                st.text(), st.none() | st.booleans() | st.text() | st.integers(0, 9), max_size=2
            ),
        ),
        max_size=4,
    ),
    st.none() | TIMES,
    st.none() | st.lists(st.text(), max_size=2).map(tuple),
)
def test_json_both_ways_for_every_plan(decisions, newest, calendars):
    """Some plan cannot be stored, read back or printed."""
    one = plan(*decisions, watermark=newest, calendars=calendars)
    assert Plan.from_json(one.to_json()) == one
    assert str(one).count("\n") <= len(one) + 2


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{}",
        "[]",
        b"\xff",
        MIXED.to_json()[:-1],
        MIXED.to_json().replace("schedule", "sabotage"),
        MIXED.to_json().replace('"deduplication_key":"key"', '"deduplication_key":""'),
        MIXED.to_json().replace("+00:00", "").replace("Z", ""),
        "[" * 100_000,
    ],
    ids=lambda document: str(document)[:30],
)
def test_what_is_no_plan(document):
    """A wrong file is taken for a plan, or ends in an error that says nothing."""
    with pytest.raises(ConfigurationError, match="not a plan"):
        Plan.from_json(document)


def test_a_plan_does_not_change():
    """Something that holds a plan can change it for everybody else."""
    with pytest.raises(AttributeError):
        MIXED.decisions = ()
    with pytest.raises(AttributeError):
        MIXED.decisions[0].kind = "skip"
    assert isinstance(msgspec.to_builtins(MIXED)["decisions"], tuple | list)


NEVER = [
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
]


@pytest.mark.parametrize("start", NEVER, ids=str)
def test_an_event_that_never_starts(start):
    """One event at the end of the calendar makes a plan that can neither be printed nor read again."""
    event = invitation(start_time=start, end_time=start, updated_at=start)
    assert RecordingPolicy()(event, calendar()) is not None
    assert RecordingPolicy(deduplication="{start_time:%Y%m%d%H%M%S}-{meeting_url}")(event, calendar()) is not None
    fields = {"start_time": start, "end_time": start, "updated_at": start}
    skipped = decision("skip", 1, reason="ended", **fields)
    plan = Plan(decisions=(skipped,), made_at=NOW, watermark=NOW)
    assert Plan.from_json(plan.to_json()) == plan
    assert "T00" not in str(Plan(decisions=(decision("remove", 1, **fields),), made_at=NOW, watermark=NOW))
