"""Who owns a calendar, what they answered, who else is a person, and what kind an event is, on both platforms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from recall_async import ConfigurationError, RecordingPolicy
from recall_async.sync.wording import readable_domain
from tests.sync.invitations import HOME, calendar, event, google, outlook

OWN, COLLEAGUE, GUEST = f"ada@{HOME}", f"bo@{HOME}", "chen@fabrikam.example"
ALIAS = "ada@alias.example"
MASKED = "outlook_1A2B3C4D@outlook.com"
NOBODY = "unknownorganizer@calendar.google.com"
GROUP = "c_1@group.calendar.google.com"


def wants(raw: Any, *, fields: dict[str, Any] | None = None, home: dict[str, Any] | None = None, **rules: Any) -> bool:
    platform = "microsoft_outlook" if isinstance(raw, dict) and "subject" in raw else "google_calendar"
    one = event(raw=raw, **{"platform": platform, **(fields or {})})
    return RecordingPolicy(**rules)(one, calendar(**(home or {}))) is not None


def me(response: str | None = "accepted", email: str | None = ALIAS, **more: Any) -> dict[str, Any]:
    answer = {} if response is None else {"responseStatus": response}
    return {**({} if email is None else {"email": email}), "self": True, **answer, **more}


def them(response: str, email: str = OWN, **more: Any) -> dict[str, Any]:
    return {"type": "required", "status": {"response": response}, "emailAddress": {"address": email}, **more}


def top(response: str, **more: Any) -> dict[str, Any]:
    return {"responseStatus": {"response": response}, **more}


def held_by(email: str) -> dict[str, Any]:
    return {"organizer": {"emailAddress": {"address": email}}}


ANSWERS = {
    # The owner is who Google says, under whatever address
    "self under an alias": ("accepted", google(me())),
    "self without an address": ("accepted", google(me(email=None))),
    "self declined, own address accepted": ("declined", google(OWN, me("declined"))),
    "self accepted, own address declined": ("accepted", google({"email": OWN, "responseStatus": "declined"}, me())),
    "self has not answered, own address accepted": ("needs_action", google(OWN, me("needsAction"))),
    "self tentative": ("tentative", google(me("tentative"))),
    "organizes as self, no own attendee": ("accepted", google(GUEST, organizer={"email": ALIAS, "self": True})),
    "organizes as self, no attendees": ("accepted", google(organizer={"email": ALIAS, "self": True})),
    "organizes as self, without an address": ("accepted", google(organizer={"self": True})),
    "organizes as self, not answered": ("accepted", google(me("needsAction"), organizer={"self": True})),
    "organizes as self, no answer": ("accepted", google(me(None), organizer={"self": True})),
    "organizes as self, declined": ("declined", google(me("declined"), organizer={"self": True})),
    "organizes as self, tentative": ("tentative", google(me("tentative"), organizer={"self": True})),
    "marked as the organizer among attendees": ("accepted", google(me("needsAction", organizer=True))),
    "the organizer is somebody else by name of the owner": (
        None,
        google(GUEST, organizer={"email": OWN, "self": False}),
    ),
    "a delegate created it": (None, google(GUEST, organizer={"email": GUEST}, creator={"email": OWN, "self": True})),
    "organizer is null": (None, google(GUEST, organizer=None)),
    "organizer is a placeholder": (None, google(GUEST, organizer={"email": NOBODY})),
    "optional": ("accepted", google(me(optional=True))),
    "no attendees": (None, google()),
    "attendees are null": (None, {**google(), "attendees": None}),
    "an odd attendee": ("accepted", {**google(), "attendees": [None, 7, "x", me()]}),
    "own address in another case, with blanks": ("accepted", google(f" {OWN.upper()} ")),
    # Outlook says it at the top
    "accepted at the top, not in the list": ("accepted", outlook(GUEST, **top("accepted", isOrganizer=False))),
    "accepted at the top, none in the list": ("accepted", outlook(them("none"), GUEST, **top("accepted"))),
    "accepted at the top, no list": ("accepted", outlook(**top("accepted"))),
    "declined at the top, accepted in the list": ("declined", outlook(them("accepted"), **top("declined"))),
    "declined in the list, accepted at the top": ("declined", outlook(them("declined"), **top("accepted"))),
    "tentative at the top, accepted in the list": (
        "tentative",
        outlook(them("accepted"), **top("tentativelyAccepted")),
    ),
    "tentative at the top, not in the list": ("tentative", outlook(GUEST, **top("tentativelyAccepted"))),
    "not answered at the top, not in the list": ("needs_action", outlook(GUEST, **top("notResponded"))),
    "none at the top, accepted in the list": ("accepted", outlook(them("accepted"), **top("none"))),
    "organizer at the top, under an alias": ("accepted", outlook(GUEST, **held_by(ALIAS), **top("organizer"))),
    "isOrganizer, under an alias": ("accepted", outlook(GUEST, **held_by(ALIAS), isOrganizer=True)),
    "isOrganizer, none at the top": ("accepted", outlook(GUEST, **held_by(MASKED), **top("none", isOrganizer=True))),
    "isOrganizer, declined at the top": ("declined", outlook(GUEST, **top("declined", isOrganizer=True))),
    "isOrganizer is false, the address is the owner's": (None, outlook(GUEST, **held_by(OWN), isOrganizer=False)),
    "isOrganizer is null": (None, outlook(GUEST, organizer=None, isOrganizer=None)),
    "a masked own entry": ("accepted", outlook(them("accepted", MASKED), GUEST, **top("accepted"))),
    # The same in another spelling
    "self accepted, in capitals": ("accepted", google(me("ACCEPTED"))),
    "self declined, with a capital": ("declined", google(me("Declined"))),
    "self declined, as iCalendar writes it": ("declined", google(me(" DECLINED "))),
    "self has not answered, as iCalendar writes it": ("needs_action", google(me("NEEDS-ACTION"))),
    "declined at the top, with a capital": ("declined", outlook(them("Accepted"), **top("Declined"))),
    "tentative in the list, with a capital": ("tentative", outlook(them("TentativelyAccepted"))),
    "organizer at the top, with a capital": ("accepted", outlook(GUEST, **top("Organizer"))),
    "declined in the list, with a capital": ("declined", outlook(them("Declined"))),
    "a plus-address": ("accepted", google("ada+calls@northwind.example")),
    "a plus-address, declined": (
        "declined",
        google({"email": "ada+calls@northwind.example", "responseStatus": "declined"}),
    ),
    "organizes under a plus-address": ("accepted", google(GUEST, organizer={"email": "Ada+1@northwind.example"})),
    "organizes under the address of self": ("accepted", google(me("needsAction"), organizer={"email": ALIAS.upper()})),
    "a name around the own address": ("accepted", google(f"Ada <{OWN}>")),
    "quotes around the own address": ("accepted", outlook(them("accepted", f"'{OWN}'"))),
}
ODD: tuple[Any, ...] = (None, True, 0, 1.5, "", "x", [], [None], [[]], {}, {"email": None}, {"x": {"y": []}})


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_value_anywhere(odd: Any) -> None:
    """A value that nobody expected in one field of a payload hides the owner's answer, or fails the whole plan."""
    rules: dict[str, Any] = {
        "accepted_only": True, "skip_declined": True, "external_only": True, "min_attendees": 2,
        "title_excludes": ["private"], "skip_kinds": list(KINDS), "organizers": ["x"], "series": ["y"],
    }  # fmt: skip
    for whole in (google(me(), GUEST), outlook(them("accepted"), GUEST, **held_by(COLLEAGUE), **top("accepted"))):
        fields = [*whole, "organizer", "eventType", "start", "showAs", "responseStatus", "isOrganizer", "locations"]
        for name in {*fields} - {"attendees", "isCancelled"}:
            assert wants({**whole, name: odd}, accepted_only=True)
            wants({**whole, name: odd}, **rules)
        for name in ("email", "emailAddress", "status", "responseStatus", "self", "type", "resource", "organizer"):
            wants({**whole, "attendees": [{**whole["attendees"][0], name: odd}, odd]}, **rules)
        assert wants({**whole, "attendees": [*whole["attendees"], odd]}, accepted_only=True, external_only=True)
        wants({**whole, "attendees": odd}, **rules)
    wants(odd, **rules)


RULES: dict[str, Any] = {
    "accepted_only": True, "skip_declined": True, "external_only": True, "min_attendees": 1, "skip_kinds": ["focus_time"],
    "title_includes": ["sync"], "title_excludes": ["private"], "organizers": [GUEST],
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("platform", ["google_calendar", "microsoft_outlook", "apple_calendar"])
@pytest.mark.parametrize("raw", [None, b"null", b"{}", b"[]", b'"x"', b'{"summary": "pri', b"\xff", b'{"id": 7}'])
def test_an_event_of_which_nothing_is_known(rule: str, platform: str, raw: bytes | None) -> None:
    """A private meeting is recorded because the payload that says so is missing or cannot be read."""
    fields = {"platform": platform} | ({} if raw is None else {"raw": msgspec.Raw(raw)})
    known = event(**fields)
    assert not known.has_payload
    assert RecordingPolicy(**{rule: RULES[rule]})(known, calendar()) is None
    assert RecordingPolicy(platforms=["zoom"])(known, calendar()) is not None


def test_an_event_without_a_title() -> None:
    """Nobody gets a bot for a meeting that has no title."""
    assert wants(google(me()), title_excludes=["private"], skip_kinds=["free"])
    assert wants(outlook(them("accepted"), subject=None), title_excludes=["private"], skip_kinds=["free"])


@pytest.mark.parametrize(("answer", "raw"), ANSWERS.values(), ids=ANSWERS)
def test_the_owners_answer(answer: str | None, raw: Any) -> None:
    """A meeting that the owner declined is recorded, or one that they accepted under another address is not."""
    assert wants(raw, accepted_only=True) is (answer == "accepted")
    assert wants(raw, skip_declined=True) is (answer != "declined")


OUTSIDERS = {
    "owner under an alias domain": (False, google(me(), COLLEAGUE)),
    "owner under an alias, colleague there": (False, google(me(), "bo@alias.example")),
    "owner under an alias, and a guest": (True, google(me(), GUEST)),
    "owner at a public mail host, another there": (True, google(me(email="ada@gmail.com"), "eve@gmail.com")),
    "owner organizes under an alias": (False, google(COLLEAGUE, organizer={"email": ALIAS, "self": True})),
    "alias entry without a mark, of the organizer": (
        False,
        google({"email": ALIAS.upper()}, COLLEAGUE, organizer={"email": ALIAS, "self": True}),
    ),
    "placeholder for an organizer": (False, google(me(), COLLEAGUE, organizer={"email": NOBODY})),
    "placeholder among attendees": (False, google(me(), COLLEAGUE, NOBODY)),
    "a group calendar holds it": (False, google(me(), COLLEAGUE, organizer={"email": GROUP})),
    "holidays and imports": (False, google(me(), "x@group.v.calendar.google.com", "y@import.calendar.google.com")),
    "a room of elsewhere": (False, google(me(), {"email": "room@other.example", "resource": True})),
    "organizer is null": (False, google(me(), COLLEAGUE, organizer=None)),
    "a guest who declined": (True, google(me(), {"email": GUEST, "responseStatus": "declined"})),
    "an optional guest": (True, google(me(), {"email": GUEST, "optional": True})),
    "a guest without an address": (False, google(me(), {"displayName": "Chen"})),
    "no attendees": (False, google(organizer={"email": GUEST})),
    "the guest holds it": (True, google(me(), organizer={"email": GUEST})),
    "a look-alike of a placeholder": (True, google(me(), "x@evilcalendar.google.com.example")),
    "Outlook, masked owner organizes": (False, outlook(COLLEAGUE, **held_by(MASKED), isOrganizer=True)),
    "Outlook, masked owner organizes and is listed": (
        False,
        outlook(them("none", MASKED), COLLEAGUE, **held_by(MASKED.lower()), isOrganizer=True),
    ),
    "Outlook, masked owner is invited": (
        False,
        outlook(them("accepted", MASKED), COLLEAGUE, **held_by(COLLEAGUE), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, a masked guest organizes": (
        True,
        outlook(them("accepted"), COLLEAGUE, **held_by(MASKED), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, two of outlook.com": (True, outlook(COLLEAGUE, "eve@outlook.com", **held_by(MASKED), isOrganizer=True)),
    "Outlook, owner under an alias domain": (False, outlook(COLLEAGUE, **held_by(ALIAS), isOrganizer=True)),
    "Outlook, a guest": (True, outlook(GUEST, **held_by(ALIAS), isOrganizer=True)),
    "Outlook, invited by a guest, no list": (True, outlook(**held_by(GUEST), **top("accepted", isOrganizer=False))),
    "Outlook, invited by a colleague, no list": (False, outlook(**held_by(COLLEAGUE), **top("accepted"))),
    "Outlook, alone": (False, outlook(**held_by(OWN), **top("organizer", isOrganizer=True))),
    "Outlook, a room of elsewhere": (
        False,
        outlook(them("accepted"), COLLEAGUE, them("none", "room@other.example", type="Resource")),
    ),
    "Outlook, organizer is null": (False, outlook(them("accepted"), COLLEAGUE, organizer=None)),
    "Outlook, organizer without an address": (
        False,
        outlook(them("accepted"), COLLEAGUE, organizer={"emailAddress": {"name": "Unknown", "address": ""}}),
    ),
    "Outlook, an address of Exchange": (
        False,
        outlook(them("accepted"), them("none", "/o=ExchangeLabs/ou=Group/cn=Recipients/cn=sales")),
    ),
    "Outlook, owner is invited under an alias": (
        False,
        outlook(them("accepted", ALIAS), **held_by(COLLEAGUE), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, owner is invited under an alias, no answer in the list": (
        False,
        outlook(them("none", ALIAS), **held_by(COLLEAGUE), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, owner is invited under an alias, with a colleague": (
        False,
        outlook(them("accepted", ALIAS), "bo2@northwind.example", **held_by(COLLEAGUE), **top("accepted")),
    ),
    "Outlook, owner is invited under an alias, with a guest": (
        True,
        outlook(them("accepted", ALIAS), GUEST, **held_by(COLLEAGUE), **top("accepted")),
    ),
    "Outlook, a guest under the owner's name, owner is listed": (
        True,
        outlook(them("accepted"), "ada@fabrikam.example", **held_by(COLLEAGUE), **top("accepted")),
    ),
    "Outlook, a guest under the owner's name with another answer": (
        True,
        outlook(them("declined", "ada@fabrikam.example"), **held_by(COLLEAGUE), **top("accepted")),
    ),
    "Outlook, a lone guest, the owner is not listed": (
        True,
        outlook(GUEST, **held_by(COLLEAGUE), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, a lone guest, the owner organizes": (True, outlook(GUEST, **held_by(OWN), isOrganizer=True)),
    "Outlook, the room holds it": (
        False,
        outlook(them("accepted"), COLLEAGUE, them("none", "r@x.example", type="Resource"), **held_by("R@x.example")),
    ),
    "Outlook, a room that is a place": (
        False,
        outlook(
            them("accepted"),
            COLLEAGUE,
            "room@other.example",
            locations=[{"locationType": "conferenceRoom", "locationEmailAddress": "Room@other.example"}],
        ),
    ),
    "a room that is listed twice": (
        False,
        google(me(), {"email": "r@x.example", "resource": True}, {"email": "r@x.example"}),
    ),
    "a colleague with a name around": (False, google(me(), f"Bo <{COLLEAGUE}>", f"'{COLLEAGUE}'")),
    "a guest with a name around": (True, google(me(), f"Chen <{GUEST}>")),
    "a domain with a dot at its end": (False, google(me(email=OWN), f"{COLLEAGUE}.")),
    "Outlook, an address with its protocol": (False, outlook(them("accepted"), them("none", f"SMTP:{COLLEAGUE}"))),
}


@pytest.mark.parametrize(("expected", "raw"), OUTSIDERS.values(), ids=OUTSIDERS)
def test_people_from_elsewhere(expected: bool, raw: Any) -> None:
    """An internal meeting is recorded because the owner, a room or nobody at all counts as a guest."""
    assert wants(raw, external_only=True) is expected


@pytest.mark.parametrize(
    ("expected", "domains", "guests"),
    [
        (False, ["northwind.de", "northwind.fr"], [f"bo@{HOME}", "chen@northwind.de", "dina@northwind.fr"]),
        (False, ["@Northwind.DE "], ["chen@NORTHWIND.de"]),
        (True, ["northwind.de"], ["chen@eu.northwind.de"]),
        (True, ["northwind.de"], [GUEST]),
        (True, [], ["chen@northwind.de"]),
        (False, ["b\u00fccher.example"], ["chen@xn--bcher-kva.example"]),
        (False, ["XN--BCHER-KVA.example"], ["chen@B\u00dcCHER.example", "dina@bu\u0308cher.example"]),
        (False, ["northwind.de."], ["chen@northwind.de"]),
        (False, ["*.northwind.de"], ["chen@eu.northwind.de"]),
        (True, ["*.northwind.de"], ["chen@evilnorthwind.de"]),
    ],
)
def test_several_domains_of_one_company(expected: bool, domains: list[str], guests: list[str]) -> None:
    """A company with more than one domain has its internal meetings recorded."""
    assert wants(google(me(email=OWN), *guests), external_only=True, internal_domains=domains) is expected


def test_domains_of_a_calendar_without_an_address() -> None:
    """A calendar that was connected a moment ago knows no colleagues although the policy names them."""
    home = {"platform_email": None, "oauth_email": None}
    rules = {"external_only": True, "internal_domains": [HOME]}
    assert not wants(google(OWN, COLLEAGUE), home=home, **rules)
    assert wants(google(OWN, GUEST), home=home, **rules)


COUNTS = {
    "Google, one to one": (2, google(me(), GUEST)),
    "Google, the organizer is not in the list": (2, google(GUEST, organizer={"email": ALIAS, "self": True})),
    "Google, alone": (1, google(organizer={"email": OWN, "self": True})),
    "Google, with a room, a group and nobody": (
        2,
        google(me(), GUEST, NOBODY, GROUP, {"email": "r@x.example", "resource": True}),
    ),
    "Google, twice": (2, google(me(), GUEST, GUEST.upper())),
    "Google, self and own address": (2, google(me(), OWN, GUEST)),
    "Google, without an address": (2, google(me(), {"displayName": "Chen"})),
    "Google, nothing known": (0, google()),
    "Google, under a plus-address": (2, google("ada+x@northwind.example", GUEST)),
    "Google, both addresses": (2, google(me(email=OWN), "ada+x@northwind.example", GUEST)),
    "Google, a guest under two spellings": (2, google(me(), "chen+x@fabrikam.example", GUEST)),
    "Google, a room holds it": (
        2,
        google(me(), GUEST, {"email": "r@x.example", "resource": True}, organizer={"email": "r@x.example"}),
    ),
    "Outlook, invited under an alias, one to one": (
        2,
        outlook(them("accepted", ALIAS), **held_by(GUEST), **top("accepted", isOrganizer=False)),
    ),
    "Outlook, one to one, the owner organizes": (2, outlook(GUEST, **held_by(OWN), isOrganizer=True)),
    "Outlook, one to one, the guest organizes": (2, outlook(them("accepted"), **held_by(GUEST), isOrganizer=False)),
    "Outlook, under an alias": (2, outlook(GUEST, **held_by(MASKED), isOrganizer=True)),
    "Outlook, under an alias and listed": (2, outlook(them("none"), GUEST, **held_by(MASKED), isOrganizer=True)),
    "Outlook, organizer in the list": (2, outlook(them("organizer"), GUEST, **held_by(OWN), isOrganizer=True)),
    "Outlook, with a room": (2, outlook(GUEST, them("none", "r@x.example", type="resource"), **held_by(OWN))),
    "Outlook, invited through a list": (
        3,
        outlook("all@northwind.example", **held_by(GUEST), **top("accepted", isOrganizer=False)),
    ),
}


@pytest.mark.parametrize(("number", "raw"), COUNTS.values(), ids=COUNTS)
def test_number_of_people(number: int, raw: Any) -> None:
    """A one-to-one has one person on one platform and two on the other."""
    assert wants(raw, min_attendees=number)
    assert not wants(raw, min_attendees=number + 1)


def test_an_organizer_under_an_alias() -> None:
    """A rule about the owner's own meetings misses those that they hold under another address."""
    raw = google(GUEST, organizer={"email": ALIAS, "self": True})
    for organizer in (OWN, HOME, ALIAS, "alias.example"):
        assert wants(raw, organizers=[organizer])
    assert not wants(raw, organizers=[GUEST])
    masked = outlook(GUEST, **held_by(MASKED), isOrganizer=True)
    assert wants(masked, organizers=[OWN])
    assert not wants(google(GUEST, organizer={"email": NOBODY}), organizers=["calendar.google.com"])


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Ku\u0308ndigung", "k\u00fcndigung"),
        ("K\u00dcNDIGUNG M\u00fcller", "ku\u0308ndigung"),
        ("k\u00fcndigung", "Ku\u0308ndigung"),
        ("Gespr\u00e4ch\u00a0privat", "gespr\u00e4ch privat"),
        ("Gespr\u00e4ch  \t privat", "gespr\u00e4ch\u202fprivat"),
        ("STRASSE", "stra\u00dfe"),
        ("Stra\u00dfe", "STRASSE"),
        ("\uff11\uff1a\uff11 Bo", "1:1"),
        ("pri\u00advate", "private"),
        ("pri\u200bvate", "private"),
        ("\u0130stanbul", "i\u0307stanbul"),
        ("o\ufb03ce", "office"),
        ("pri\u034fvate", "private"),
        ("private\ufe0f", "private"),
        ("Gespr\u00e4ch\u2028privat", "gespr\u00e4ch\u3000privat"),
    ],
)
def test_text_is_compared_as_people_read_it(title: str, text: str) -> None:
    """A private meeting is recorded because its title is written with other code points."""
    for written, ruled in ((title, text), (f"x {text}", text), (title, title)):
        assert not wants(google(me(), summary=written), title_excludes=[ruled])
        assert wants(google(me(), summary=written), title_includes=[ruled])


def test_addresses_are_compared_as_people_read_them() -> None:
    """An address with a blank or another case is somebody else's."""
    home = {"platform_email": f" {OWN.upper()}"}
    assert wants(google({"email": f"{OWN}\u00a0", "responseStatus": "accepted"}), home=home, accepted_only=True)
    assert wants(None, home=home, calendars=[OWN])


KINDS = {
    "focus_time": [google(eventType="focusTime"), google(eventType="FocusTime")],
    "out_of_office": [google(eventType="outOfOffice"), outlook(showAs="oof"), outlook(showAs="Oof")],
    "working_location": [google(eventType="workingLocation"), outlook(showAs="workingElsewhere")],
    "birthday": [google(eventType="birthday")],
    "from_gmail": [google(eventType="fromGmail")],
    "all_day": [google(start={"date": "2025-06-10"}), outlook(isAllDay=True)],
    "free": [google(transparency="transparent"), google(transparency="TRANSPARENT"), outlook(showAs="Free")],
}


@pytest.mark.parametrize(("kind", "raw"), [(kind, raw) for kind, raws in KINDS.items() for raw in raws])
def test_kinds_of_events(kind: str, raw: Any) -> None:
    """A bot is sent into somebody's focus time, or a kind that was named stands for others too."""
    assert wants(raw)
    assert not wants(raw, skip_kinds=[kind])
    assert wants(raw, skip_kinds=[other for other in KINDS if other != kind])
    assert wants(google(eventType="default", transparency="opaque"), skip_kinds=list(KINDS))
    assert wants(outlook(showAs="busy", isAllDay=False), skip_kinds=list(KINDS))


@pytest.mark.parametrize("raw", [google(eventType=7, transparency=[]), outlook(showAs={}, isAllDay="yes")])
def test_kinds_of_odd_events(raw: Any) -> None:
    """A payload that says something odd about its kind cannot be read."""
    assert wants(raw, skip_kinds=list(KINDS))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"skip_kinds": ["focus"]}, "skip_kinds must be a list of focus_time, "),
        ({"skip_kinds": "focus_time"}, "skip_kinds must be a list"),
        ({"skip_declined": "yes"}, "skip_declined must be"),
        ({"internal_domains": "northwind.de"}, "internal_domains must be a list of strings"),
        ({"internal_domains": ["bo@northwind.de"]}, "internal_domains must be"),
        ({"internal_domains": [" "]}, "internal_domains must be"),
        ({"internal_domains": ["https://northwind.de"]}, "internal_domains must be"),
        ({"internal_domains": ["north wind.de"]}, "internal_domains must be"),
        ({"internal_domains": ["*"]}, "internal_domains must be"),
        ({"internal_domains": ["a.*.de"]}, "internal_domains must be"),
    ],
)
def test_settings_that_make_no_policy(rules: dict[str, Any], said: str) -> None:
    """A mistake in a new rule is noticed only by the bots that it sends."""
    with pytest.raises(ConfigurationError, match=said):
        RecordingPolicy(**rules)


def test_domains_that_only_look_like_punycode() -> None:
    """An address with a broken domain would stop a plan."""
    for odd in ("xn--.example", "xn--\u00e9.example", "xn--a" + "a" * 70 + ".example"):
        assert readable_domain(odd) == odd
    assert readable_domain("xn--bcher-kva.example.") == "b\u00fccher.example"
