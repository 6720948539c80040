"""A stored plan: one configuration for all, and what a person or another version made of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from recall_async import CalendarEventBot, ConfigurationError, MeetingURL, Plan
from recall_async.sync.decide import Decision
from recall_async.sync.plan_file import _StoredDecision, _StoredPlan
from tests.sync.invitations import NOW, ZOOM, bot, uuid
from tests.sync.test_plan import decision, plan

CONFIG = {"bot_name": "Notes", "image": "x" * 50_000}
STORED = plan(
    decision("schedule", 1, bot_config=dict(CONFIG), meeting_url=ZOOM),
    decision("reschedule", 2, reason="moved", bot_config=dict(CONFIG), bots=(bot("old"),), detach=True),
    decision("schedule", 3, bot_config={"bot_name": "Other"}),
    decision("remove", 4, reason="policy", bots=(bot("key"),)),
    decision("keep", 5),
    lead_time=600.0,
)


def edited(**changes: Any) -> str:
    """The stored plan with other fields; `decision` changes the first decision, and `...` removes a field."""
    document = json.loads(STORED.to_json())
    for place, fields in ((document["decisions"][0], changes.pop("decision", {})), (document, changes)):
        for name, value in fields.items():
            if value is ...:
                del place[name]
            else:
                place[name] = value
    return json.dumps(document)


def test_a_configuration_is_written_once() -> None:
    """An image in the configuration makes a plan of a thousand events a gigabyte."""
    text = STORED.to_json()
    assert text.count("x" * 50_000) == 1
    read = Plan.from_json(text)
    assert read == STORED
    assert read.decisions[0].bot_config is read.decisions[1].bot_config
    assert read.decisions[0].action.bot_config is read.decisions[1].action.bot_config


@pytest.mark.parametrize("document", [STORED.to_json(), "\ufeff" + STORED.to_json()])
def test_a_byte_order_mark_is_no_matter(document: str) -> None:
    """A plan that an editor saved cannot be applied."""
    assert Plan.from_json(document) == Plan.from_json(document.encode()) == STORED


def test_what_a_person_changed_is_understood() -> None:
    """A person who takes an event out of a plan, or gives it another configuration, is not obeyed."""
    one = Plan.from_json(edited(decision={"kind": "skip", "reason": "policy"}))
    assert [each.event_id for each in one] == [uuid(number) for number in (2, 3, 4)]
    assert Plan.from_json(edited(decision={"config": 1})).decisions[0].bot_config == {"bot_name": "Other"}
    assert Plan.from_json(edited(decision={"config": ...})).decisions[0].bot_config == {}
    assert Plan.from_json(edited(seconds=0, disconnected=[])).decisions == STORED.decisions


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (edited(version=3), "version must be at most 2, got 3: use a newer recall_async"),
        (edited(version=1), "version must be 2, got 1: make the plan again"),
        (edited(version=...), "version must be 2, got None"),
        (edited(version="2"), "version must be 2"),
        (edited(version=True), "version must be 2"),
        (edited(extra=1), "unknown field `extra`"),
        (edited(decision={"bot_confg": {}}), "unknown field `bot_confg` - at `$.decisions[0]`"),
        (edited(decision={"kind": "delete"}), "$.decisions[0].kind"),
        (edited(decision={"reason": "because"}), "$.decisions[0].reason"),
        (edited(decision={"event_id": "abc"}), "$.decisions[0]: event_id must be a UUID"),
        (edited(decision={"event_id": ...}), "event_id"),
        (edited(decision={"start_time": "2025-06-10T12:00:00"}), "$.decisions[0].start_time"),
        (edited(decision={"start_time": "tomorrow"}), "$.decisions[0].start_time"),
        (edited(decision={"deduplication_key": ""}), "$.decisions[0]: deduplication_key"),
        (
            edited(decision={"deduplication_key": "x" * 2001}),
            "$.decisions[0]: deduplication_key must have at most 2000 characters",
        ),
        (edited(decision={"deduplication_key": ...}), "$.decisions[0]"),
        (edited(decision={"config": 2}), "$.decisions[0]: config must be a place in $.configs, got 2"),
        (edited(decision={"config": -1}), "$.decisions[0]: config"),
        (edited(decision={"config": "0"}), "$.decisions[0].config"),
        (edited(decision={"bots": [{"bot_id": 1}]}), "$.decisions[0].bots[0]"),
        (edited(configs=[1, 2]), "$.configs[0]"),
        (edited(configs=[{"join_at": "soon"}]), "$.configs[0]: join_at must be a time such as"),
        (edited(lead_time=-1), "$: lead_time"),
        (edited(seconds=1).replace('"seconds": 1', '"seconds": 1e999'), "$: seconds"),
        (edited(made_at=...), "made_at"),
        (edited(seconds="NaN").replace('"NaN"', "NaN"), "NaN is not JSON"),
        (STORED.to_json().replace('"kind":', '"kind":"skip","kind":', 1), "'kind' appears twice in one object"),
        (STORED.to_json()[:-1], "this is not a plan"),
        ("\ufeff", "this is not a plan"),
        (b"\xff\xfe{", "it must be UTF-8 text"),
        (edited(configs=[{"a": "\ud800"}]), "$.configs[0].a must be a string that UTF-8 can encode"),
    ],
)
def test_what_cannot_be_understood_is_refused(document: str | bytes, said: str) -> None:
    """A plan that was edited, or written by another version, does something else than it says."""
    with pytest.raises(ConfigurationError) as error:
        Plan.from_json(document)
    assert said in str(error.value)


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**400, "", "x", "\ud800", "\x00", [], {}, [None], {"x": 1}, [{}],
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2025-06-10T12:00:00Z", "é" * 3000,
)  # fmt: skip
PLACES = [
    *[(name,) for name in _StoredPlan.__struct_fields__],
    *[("decisions", place, name) for place in range(2) for name in _StoredDecision.__struct_fields__],
    *[("decisions", 1, "bots", 0, name) for name in CalendarEventBot.__struct_fields__],
    ("configs", 0), ("configs", 0, "bot_name"), ("decisions", 1), ("decisions", 1, "bots", 0),
]  # fmt: skip


@pytest.mark.parametrize("path", PLACES, ids=str)
def test_an_odd_value_in_any_field_is_refused_or_understood(path: tuple[Any, ...]) -> None:
    """A field that a person edited makes a plan that fails when it is printed, stored or applied."""
    for odd in ODD:
        document = place = json.loads(STORED.to_json())
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = odd
        try:
            read = Plan.from_json(json.dumps(document))
        except ConfigurationError:
            continue
        str(read).encode("utf-8", "replace")
        assert Plan.from_json(read.to_json()) == read
        assert sum(len(change.actions) for change in read) == read.requests


def test_what_a_plan_knows_of_its_bots_is_kept() -> None:
    """A plan that was stored forgets what it was made of, so that it cannot notice a change."""
    seen = Plan.from_json(STORED.to_json()).decisions[1].bots
    assert seen == (bot("old"),)
    assert isinstance(seen[0], CalendarEventBot)
    assert seen[0].start_time > NOW


def test_a_stored_decision_has_the_fields_of_a_decision() -> None:
    """A field that a decision gains is lost when the plan is stored, or has another default when it is read."""
    stored = {each.name: each for each in msgspec.structs.fields(_StoredDecision)}
    config = stored.pop("config")
    assert (config.type, config.default) == (int | None, None)
    decided = {each.name: each for each in msgspec.structs.fields(Decision)}
    assert decided.pop("bot_config").default_factory is dict
    assert list(stored) == list(decided)
    for name, field in decided.items():
        assert (stored[name].type, stored[name].required, stored[name].default, stored[name].encode_name) == (
            field.type, field.required, field.default, field.encode_name
        ), name  # fmt: skip
    assert set(_StoredPlan.__struct_fields__) - {"version", "configs"} == set(Plan.__struct_fields__)


def test_every_field_of_a_decision_survives() -> None:
    """A field that is not its default is dropped when a plan is stored."""
    full = decision(
        "reschedule", 1, reason="twin bot", title="T", deduplication_key="k", bot_config={"a": 1}, detach=True, tag=True,
        meeting_url=MeetingURL(platform="zoom", meeting_id="1"), bots=(bot("old"),),
    )  # fmt: skip
    default = Decision(
        kind="skip", event_id=full.event_id, calendar_id=full.calendar_id, start_time=NOW, end_time=NOW, updated_at=NOW
    )
    same = [name for name in Decision.__struct_fields__ if getattr(full, name) == getattr(default, name)]
    assert set(same) <= {"event_id", "calendar_id", "start_time", "end_time", "updated_at"}
    assert Plan.from_json(plan(full).to_json()).decisions == (full,)
