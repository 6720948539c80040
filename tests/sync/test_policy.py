"""RecordingPolicy: each rule, on what Google and Outlook really send; and the TOML file it is read from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recall_async import BotSpec, ConfigurationError, Deduplication, RecordingPolicy
from tests.sync.invitations import HOME, ZOOM, calendar, event, google, outlook, uuid

COLLEAGUE, GUEST, OWN = f"bo@{HOME}", "chen@fabrikam.example", f"ada@{HOME}"


def wants(
    raw: Any = None, *, home: dict[str, Any] | None = None, fields: dict[str, Any] | None = None, **rules: Any
) -> bool:
    return RecordingPolicy(**rules)(event(raw=raw, **(fields or {})), calendar(**(home or {}))) is not None


def on_outlook(raw: dict[str, Any], **rules: Any) -> bool:
    return wants(raw, fields={"platform": "microsoft_outlook"}, **rules)


def test_without_rules_every_meeting_is_recorded():
    """A policy without rules leaves events out, or gives another key or configuration than it was told."""
    config = {"bot_name": "Notes"}
    policy = RecordingPolicy(bot_config=config, deduplication=Deduplication.EVENT)
    one = event()
    assert policy(one, calendar()) == BotSpec(Deduplication.EVENT(one, calendar()), config)


@pytest.mark.parametrize(
    "fields",
    [
        {"meeting_url": None},
        {"is_deleted": True},
        {"raw": google(status="cancelled")},
        {"raw": outlook(isCancelled=True), "platform": "microsoft_outlook"},
    ],
)
def test_what_can_not_take_place_is_never_recorded(fields):
    """A bot waits alone in a meeting that was called off, or nowhere."""
    assert RecordingPolicy()(event(**fields), calendar()) is None


def test_keys_of_ones_own():
    """A deduplication scheme that is a function is not used."""
    policy = RecordingPolicy(deduplication=lambda event, calendar: f"{calendar.id}/{event.id}")
    assert policy(event(), calendar()).deduplication_key == f"{uuid(1000)}/{uuid(1)}"


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        (True, google(OWN, GUEST)),
        (False, google(OWN, COLLEAGUE)),
        (False, google(OWN.upper(), COLLEAGUE.title())),
        (False, google()),
        (False, None),
        (False, google(OWN, {"email": "room@other.example", "resource": True})),
        (False, google(OWN, "c_1@resource.calendar.google.com", "c_2@group.calendar.google.com")),
        (False, google(OWN, {"displayName": "No address"}, "no address", "@", "x@")),
        (True, google(OWN, f"chen@eu.{HOME}")),
        (True, google(OWN, organizer={"email": GUEST})),
        (False, google(organizer={"email": GUEST})),
        (True, google({"email": GUEST, "responseStatus": "declined"})),
    ],
)
def test_external_only(expected, raw):
    """Internal meetings are recorded, or customer calls are not."""
    assert wants(raw, external_only=True) is expected


def test_external_only_on_outlook():
    """Outlook's attendees are not understood."""
    room = {"type": "resource", "emailAddress": {"address": "room@other.example"}}
    assert on_outlook(outlook(OWN, GUEST), external_only=True)
    assert not on_outlook(outlook(OWN, COLLEAGUE, room), external_only=True)
    group = {"type": "required", "emailAddress": {"address": "/o=ExchangeLabs/ou=Group/cn=Recipients/cn=sales"}}
    assert not on_outlook(outlook(OWN, group), external_only=True)


@pytest.mark.parametrize(
    ("expected", "home"),
    [
        (False, {"platform_email": OWN, "oauth_email": None}),
        (False, {"platform_email": None, "oauth_email": OWN}),
        (False, {"platform_email": f"ada@alias.{HOME}", "oauth_email": OWN}),
        (True, {"platform_email": "ada@alias.example", "oauth_email": None}),
        (False, {"platform_email": None, "oauth_email": None}),
    ],
)
def test_home_is_what_the_calendar_says(expected, home):
    """The calendar's second address, or a calendar without any, makes colleagues strangers."""
    assert wants(google(OWN, COLLEAGUE), home=home, external_only=True) is expected


def own(response: str, **fields: Any) -> dict[str, Any]:
    return {"email": OWN, "responseStatus": response, "self": True, **fields}


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        (True, google(own("accepted"))),
        (False, google(own("declined"), GUEST)),
        (False, google(own("tentative"))),
        (False, google(own("needsAction"))),
        (False, google(GUEST)),
        (False, google()),
        (True, google(own("accepted", email=f"alias@{HOME}"))),
        (True, google({"email": OWN.upper(), "responseStatus": "accepted"})),
        (True, google(organizer={"email": OWN})),
        (True, google(own("needsAction"), organizer={"email": OWN})),
        (False, google(own("declined"), organizer={"email": OWN})),
    ],
)
def test_accepted_only(expected, raw):
    """A meeting that the calendar's owner declined is recorded, or one that they hold is not."""
    assert wants(raw, accepted_only=True) is expected


def answer(response: str, address: str = OWN) -> dict[str, Any]:
    return {"type": "required", "status": {"response": response}, "emailAddress": {"address": address}}


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        (True, outlook(answer("accepted"))),
        (False, outlook(answer("declined"))),
        (False, outlook(answer("tentativelyAccepted"))),
        (False, outlook(answer("none"))),
        (True, outlook(answer("organizer"))),
        (True, outlook(answer("none"), organizer={"emailAddress": {"address": OWN}})),
        (True, outlook(GUEST, organizer={"emailAddress": {"address": OWN}})),
        (True, outlook(answer("accepted", "all@northwind.example"), responseStatus={"response": "accepted"})),
        (False, outlook(answer("accepted", "all@northwind.example"), responseStatus={"response": "none"})),
        (False, outlook(answer("declined"), responseStatus={"response": "accepted"})),
        (False, outlook(responseStatus=7)),
    ],
)
def test_accepted_only_on_outlook(expected, raw):
    """Outlook's answers, also to an invitation of a group, are not understood."""
    assert on_outlook(raw, accepted_only=True) is expected


@pytest.mark.parametrize(
    ("expected", "rules"),
    [
        (True, {"title_includes": ["sync"]}),
        (True, {"title_includes": ["nothing", "WEEKLY"]}),
        (False, {"title_includes": ["daily"]}),
        (False, {"title_excludes": ["Sync", "x"]}),
        (True, {"title_excludes": ["private"]}),
        (False, {"title_includes": ["weekly"], "title_excludes": ["sync"]}),
        (True, {"organizers": [GUEST]}),
        (True, {"organizers": ["CHEN@Fabrikam.example"]}),
        (True, {"organizers": ["fabrikam.example"]}),
        (True, {"organizers": ["@fabrikam.example", "x"]}),
        (False, {"organizers": [OWN]}),
        (False, {"organizers": ["abrikam.example"]}),
        (True, {"series": ["series1"]}),
        (True, {"series": {"ical1"}}),
        (False, {"series": ["series"]}),
        (True, {"platforms": ["webex", "zoom"]}),
        (False, {"platforms": ["google_meet"]}),
        (True, {"calendars": [uuid(1000)]}),
        (True, {"calendars": [uuid(1000).upper()]}),
        (True, {"calendars": ["Ada@northwind.example"]}),
        (False, {"calendars": [uuid(1001), "bo@northwind.example"]}),
        (True, {"min_attendees": 2}),
        (False, {"min_attendees": 3}),
        (True, {"platforms": ["zoom"], "series": ["series1"], "min_attendees": 1, "accepted_only": True}),
    ],
)
def test_rules(expected, rules):
    """A rule lets the wrong meetings through."""
    room = {"email": "room@northwind.example", "resource": True}
    raw = google(own("accepted"), GUEST, room, organizer={"email": GUEST}, recurringEventId="series1")
    assert wants(raw, fields={"ical_uid": "ical1"}, **rules) is expected


@pytest.mark.parametrize(
    "rules",
    [
        {"title_includes": ["a"]},
        {"organizers": ["a"]},
        {"series": ["a"]},
        {"min_attendees": 1},
        {"platforms": ["zoom"]},
    ],
)
def test_what_is_not_known_is_not_wanted(rules):
    """An event of which the platform says nothing passes a rule about it."""
    assert not wants(None, fields={"meeting_platform": None}, **rules)


WRONG = {
    "external_only": ["yes", 1, None],
    "accepted_only": ["true"],
    "organizers": ["a@b.example", [1], [""], None, 7],
    "title_includes": ["text", [None]],
    "min_attendees": [-1, 1.5, True, "2"],
    "lead_time": [-1, float("nan"), float("inf"), True, "10m", timedelta(minutes=-1)],
    "deduplication": ["", "meetings", None, 7],
    "bot_config": [None, [], "x", {"x": object()}, {"x": float("nan")}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_values_that_make_no_policy(name, value):
    """A mistake in a policy is noticed only by the bots that it sends, or does not send."""
    with pytest.raises(ConfigurationError, match=name):
        RecordingPolicy(**{name: value})


def test_lead_time_in_either_form():
    """Seconds and timedeltas are not the same."""
    assert RecordingPolicy(lead_time=timedelta(minutes=10)) == RecordingPolicy(lead_time=600)


def test_spec_that_cannot_be():
    """A key that the API refuses is noticed only when the plan is applied."""
    for key in ("", " ", "x" * 2001, None):
        with pytest.raises(ConfigurationError, match="deduplication_key"):
            BotSpec(key)


def test_a_key_of_a_template_engine():
    """A text of another class makes a plan that cannot be stored."""

    class Text(str):
        pass

    assert type(BotSpec(Text("key")).deduplication_key) is str


TOML = """\
# Who gets a bot
external_only = true
title_excludes = [
    "private",  # and
    "lunch",
]
lead_time = 600
deduplication = "company"

[bot_config]
bot_name = "Notes"
join_at = 2025-06-10T12:00:00Z

[bot_config.recording_config]
retention = { type = "timed", hours = 24 }
"""


def read(tmp_path: Path, text: str) -> RecordingPolicy:
    path = tmp_path / "policy.toml"
    path.write_bytes(text.encode())
    return RecordingPolicy.from_toml(path)


@pytest.mark.parametrize("text", [TOML, TOML.replace("\n", "\r\n"), "\ufeff" + TOML])
def test_policy_from_a_file(tmp_path, text):
    """A policy file says something else than the same policy in Python."""
    policy = read(tmp_path, text)
    assert policy.bot_config["recording_config"] == {"retention": {"type": "timed", "hours": 24}}
    assert policy == RecordingPolicy(
        external_only=True,
        title_excludes=["private", "lunch"],
        lead_time=600,
        deduplication=Deduplication.COMPANY,
        bot_config=policy.bot_config,
    )


def test_every_rule_can_stand_in_a_file(tmp_path):
    """A parameter cannot be set from a file."""
    policy = read(
        tmp_path,
        'external_only=true\naccepted_only=true\norganizers=["a"]\ntitle_includes=["b"]\ntitle_excludes=["c"]\n'
        'internal_domains=["f"]\nskip_declined=true\nskip_kinds=["free"]\n'
        'series=["d"]\nplatforms=["zoom"]\ncalendars=["e"]\nmin_attendees=2\nlead_time=1.5\ndeduplication="event"\n'
        "bot_config={}\n",
    )
    default = RecordingPolicy()
    names = RecordingPolicy.__dataclass_fields__
    assert [name for name in names if getattr(policy, name) == getattr(default, name)] == ["bot_config"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("external_onyl = true", ["line 1", "external_onyl", "did you mean external_only?"]),
        (TOML + "\n[nonsense]\n", ["line 17", "nonsense", "the settings are external_only"]),
        (
            "lead_time = 1\n'odd key' = 2\nother.dotted = 3",
            ["line 2: unknown setting odd key", "line 3: unknown setting"],
        ),
        ("\n\nlead_time = -1\nmin_attendees = '2'", ["line 3: lead_time must be", "line 4: min_attendees"]),
        (
            'title_includes = """\nunknown = 1\n"""\n\nunknown = 2',
            ["line 1: title_includes", "line 5: unknown setting"],
        ),
        ("[bot_config]\nlead = 1\n[lead]\nx = 1", ["line 3: unknown setting lead;"]),
        ("calendars = [\n  7,\n]\nunknown = [\n]\n", ["line 1: calendars", "line 4: unknown setting"]),
        ("external_only = yes", ["not a valid TOML file", "line 1"]),
        ("external_only = true\nexternal_only = false\n", ["not a valid TOML file", "line 2"]),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_line(tmp_path, text, said):
    """A key with a typing mistake is ignored, or has to be searched for."""
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, text)
    assert [part for part in ["policy.toml", *said] if part not in str(error.value)] == []


@pytest.mark.parametrize(("text", "warned"), [("", True), ("# external_only = true\n", True), ("[bot_config]", False)])
def test_an_empty_file_warns(tmp_path, caplog, text, warned):
    """A file that lost its rules, on a full disk for example, has everybody recorded without a word."""
    assert read(tmp_path, text) == RecordingPolicy()
    assert ("policy.toml has no settings: every meeting with a URL gets a bot" in caplog.text) is warned


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "{a=" * 3000 + "1" + "}" * 3000], ids=["lists", "tables"])
def test_a_file_that_is_nested_too_deeply(tmp_path, value):
    """A hostile file ends in a RecursionError."""
    with pytest.raises(ConfigurationError, match="not a valid TOML file: it is nested too deeply"):
        read(tmp_path, f"[bot_config]\nx = {value}")


def test_a_mistake_at_the_end_of_a_long_file(tmp_path):
    """The search for its line parses the file once for each of its lines: minutes, for a list of ten thousand people."""
    people = "".join(f'  "p{number}@northwind.example",\n' for number in range(10_000))
    with pytest.raises(ConfigurationError, match="line 10003: unknown setting nonsense"):
        read(tmp_path, f"organizers = [\n{people}]\nnonsense = 1\n")


@pytest.mark.parametrize("written", ["Zoom", "google meet", " zoom", "microsoft-teams"])
def test_platform_that_no_meeting_has(written):
    """A name that is written otherwise than in events matches none, and every bot is removed."""
    with pytest.raises(
        ConfigurationError, match="platforms must be a list of values of meeting_platform, such as zoom"
    ):
        RecordingPolicy(platforms=["webex", written])


@pytest.mark.parametrize("written", ["@", "a@", " @ ", "@."])
def test_an_organizer_without_a_domain(written):
    """The rule would be met by nobody, and no meeting gets a bot."""
    with pytest.raises(ConfigurationError, match="organizers must be a list of addresses or domains"):
        RecordingPolicy(organizers=["northwind.example", written])


def test_a_file_that_is_no_text(tmp_path):
    """A file in another encoding ends in an error that nobody expects."""
    (tmp_path / "policy.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(ConfigurationError, match="not a valid TOML file"):
        RecordingPolicy.from_toml(tmp_path / "policy.toml")


def test_zoom_is_what_the_events_here_are_on():
    """The other tests of this file would say nothing."""
    assert event().meeting_url == ZOOM
