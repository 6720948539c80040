"""What is decided about an event: the table, line by line."""

from __future__ import annotations

import pytest

from recall_async import BotSpec, MeetingURL
from recall_async.sync.decide import Decision, decide, is_right
from recall_async.sync.meetings import is_same_meeting
from tests.sync.invitations import NOW, ZOOM, bot, event

KEY, CONFIG = "key", {"bot_name": "Notes"}
SPEC = BotSpec(KEY, CONFIG)
RIGHT = bot(KEY)
OTHER_URL = "https://us02web.zoom.us/j/99999999999"


def decided(one, spec=SPEC, **options):
    return decide(one, spec, now=NOW, **options)


BOTS = {
    "no bot": ((), "schedule", None),
    "right": ((RIGHT,), "keep", None),
    "moved later": ((bot(KEY, starts_in=30),), "reschedule", "moved"),
    "moved earlier": ((bot(KEY, starts_in=90),), "reschedule", "moved"),
    "new link": ((bot(KEY, meeting_url=OTHER_URL),), "reschedule", "new meeting URL"),
    "another scheme": ((bot("other"),), "reschedule", "new key"),
    "right, and a wrong one": ((bot("other", starts_in=90), RIGHT), "keep", None),
    "one that is out": ((bot(KEY, starts_in=-90),), "schedule", None),
    "perpetual": ((bot("a", starts_in=-9000), bot("b", starts_in=-90), RIGHT), "keep", None),
    "perpetual, moved on": ((bot("a", starts_in=-9000), bot(KEY, starts_in=-90)), "schedule", None),
    "perpetual, moved before its time": ((bot("a", starts_in=-90), bot("b", starts_in=30)), "reschedule", "moved"),
    "start written less precisely": ((bot(KEY, starts_in=60.001),), "keep", None),
}


@pytest.mark.parametrize(("bots", "kind", "reason"), BOTS.values(), ids=BOTS)
def test_bots_of_an_event_that_should_have_one(bots, kind, reason):
    """A bot stays behind, or a request is made for nothing."""
    assert decided(event(bots=bots)) == (kind, reason)


@pytest.mark.parametrize(("bots", "kind", "reason"), BOTS.values(), ids=BOTS)
def test_bots_of_an_event_that_should_have_none(bots, kind, reason):
    """A bot joins a meeting that the policy leaves out, or a request is made for nothing."""
    expected = "remove" if any(bot.start_time > NOW for bot in bots) else "skip"
    assert decided(event(bots=bots), None) == (expected, "policy")
    assert decided(event(bots=bots, meeting_url=None)) == (expected, "no meeting URL")
    assert decided(event(bots=bots, meeting_url=None), None) == (expected, "no meeting URL")


@pytest.mark.parametrize("spec", [SPEC, None])
@pytest.mark.parametrize(("bots", "kind", "reason"), BOTS.values(), ids=BOTS)
def test_events_that_are_left_alone(bots, kind, reason, spec):
    """Requests are made that the server refuses or does itself."""
    assert decided(event(bots=bots, is_deleted=True), spec) == ("skip", "deleted")
    assert decided(event(bots=bots, starts_in=-60), spec) == ("skip", "ended")
    assert decided(event(bots=bots, starts_in=-30, minutes=30), spec) == ("skip", "ended")
    assert decided(event(bots=bots), spec, connected=False) == ("skip", "calendar disconnected")


@pytest.mark.parametrize(
    ("starts_in", "bots", "expected"),
    [
        (9.9, (), ("skip", "lead time")),
        (10, (), ("schedule", None)),
        (9.9, (bot(KEY, starts_in=9.9),), ("keep", None)),
        (9.9, (bot(KEY, starts_in=60),), ("reschedule", "moved")),
        (0, (), ("skip", "started")),
        (-5, (), ("skip", "started")),
        (-5, (bot(KEY, starts_in=-5),), ("keep", None)),
        (-5, (bot(KEY, starts_in=60),), ("reschedule", "moved")),
        (-5, (bot("other", starts_in=-5),), ("skip", "started")),
    ],
)
def test_shortly_before_and_after_the_start(starts_in, bots, expected):
    """A new bot is sent too late, or one that is there does not follow its meeting any more."""
    assert decided(event(starts_in=starts_in, bots=bots), lead_time=600) == expected


def test_without_a_lead_time_every_event_to_come_gets_its_bot():
    """An event that begins in half a second has no bot, although nobody asked for a lead time."""
    assert decided(event(starts_in=0.5 / 60)) == ("schedule", None)


def test_a_bot_that_starts_now_is_out():
    """A request is made about a bot that the server no longer changes."""
    assert decided(event(starts_in=0, bots=(bot("other", starts_in=0),))) == ("skip", "started")
    assert decided(event(starts_in=0, bots=(bot("other", starts_in=0),)), None) == ("skip", "policy")


def test_the_right_bot_of_an_event():
    """A bot with an old link, start or key is taken for the right one, or the right one for a wrong one."""
    assert is_right(RIGHT, event(), SPEC)
    assert not is_right(bot("other"), event(), SPEC)
    assert not is_right(bot(KEY, starts_in=61), event(), SPEC)
    own = BotSpec(KEY, {"meeting_url": OTHER_URL})
    assert is_right(bot(KEY, meeting_url=OTHER_URL), event(), own)
    assert is_right(bot(KEY, meeting_url=OTHER_URL), event(meeting_url=None), own)
    assert not is_right(bot(KEY, meeting_url=OTHER_URL), event(), SPEC)


def decision(kind, **options):
    one = event()
    times = {"start_time": one.start_time, "end_time": one.end_time, "updated_at": one.updated_at}
    return Decision(kind=kind, event_id=one.id, calendar_id=one.calendar_id, **times, **options)


@pytest.mark.parametrize("kind", ["schedule", "reschedule"])
def test_a_bot_needs_its_key(kind):
    """A bot is scheduled without a key: the next plan schedules a second one."""
    for options in ({}, {"deduplication_key": ""}):
        with pytest.raises(ValueError, match=f"a decision to {kind} a bot has no deduplication_key"):
            decision(kind, **options)


def test_requests_of_a_decision():
    """A bot that is right for another event is not taken off this one first, or its tags are lost."""
    for kind in ("keep", "skip"):
        assert decision(kind).actions == ()
        assert decision(kind).action is None
    (remove,) = decision("remove").actions
    assert decision("remove").action == remove
    (plain,) = decision("reschedule", deduplication_key=KEY, bot_config=CONFIG).actions
    assert (plain.deduplication_key, plain.bot_config) == (KEY, CONFIG)
    detached = decision("reschedule", deduplication_key=KEY, bot_config=CONFIG, detach=True)
    assert detached.actions == (remove, plain)
    assert detached.action == plain
    tagged = decision("schedule", deduplication_key=KEY, bot_config=CONFIG, tag=True).action
    assert {"metadata", *CONFIG} == set(tagged.bot_config)


def test_a_bot_on_its_way_is_not_taken_back():
    """Plans ask again and again for the removal of a bot that is in its meeting."""
    under_way = event(starts_in=-5, bots=(bot(KEY, starts_in=-5),))
    assert decided(under_way, None) == ("skip", "policy")
    assert decided(event(starts_in=5, bots=(bot(KEY, starts_in=5),)), None, lead_time=600) == ("remove", "policy")


def test_refresh():
    """A changed configuration, which the API does not show, never reaches the bots."""
    assert decided(event(bots=(RIGHT,)), refresh=True) == ("reschedule", "refresh")
    assert decided(event(), refresh=True) == ("schedule", None)
    assert decided(event(starts_in=-5, bots=(bot(KEY, starts_in=-5),)), refresh=True) == ("keep", None)


@pytest.mark.parametrize("join_at", [NOW.replace(minute=58), "2025-06-10T14:58:00+02:00"])
def test_a_bot_that_joins_at_its_own_time(join_at):
    """A bot that joins two minutes early is rescheduled for ever, whichever time the API shows for it."""
    spec = BotSpec(KEY, {"join_at": join_at})
    assert decided(event(bots=(bot(KEY, starts_in=58),)), spec) == ("keep", None)
    assert decided(event(bots=(bot(KEY, starts_in=60),)), spec) == ("keep", None)
    assert decided(event(bots=(bot(KEY, starts_in=57),)), spec) == ("reschedule", "moved")


def test_a_link_of_its_own():
    """An event of which only the policy knows the link gets no bot, or is rescheduled for ever."""
    spec = BotSpec(KEY, {"meeting_url": OTHER_URL})
    assert decided(event(meeting_url=None), spec) == ("schedule", None)
    assert decided(event(meeting_url=None, bots=(bot(KEY, meeting_url=OTHER_URL),)), spec) == ("keep", None)
    assert decided(event(bots=(bot(KEY),)), spec) == ("reschedule", "new meeting URL")


TEAMS = (
    "https://teams.microsoft.com/l/meetup-join/19%3ameeting_QHt61QTC4%40thread.v2/0"
    "?context=%7b%22Tid%22%3a%22d58dcdb4-6b44%22%2c%22Oid%22%3a%224d82feac-ab62%22%7d"
)
SAME = [
    (ZOOM, ZOOM),
    (ZOOM, MeetingURL(platform="zoom", meeting_id="83123456789", meeting_password="aBcD")),
    (ZOOM, MeetingURL(platform="zoom", meeting_id="83123456789", meeting_password="decoded")),
    ("https://meet.google.com/abc-defg-hij", MeetingURL(platform="google_meet", meeting_id="abc-defg-hij")),
    (TEAMS, MeetingURL(platform="microsoft_teams", thread_id="19:meeting_QHt61QTC4@thread.v2", message_id="0")),
    ("https://teams.live.com/meet/9312345?p=x", MeetingURL(platform="microsoft_teams_live", meeting_id="9312345")),
    (
        "https://northwind.webex.com/northwind/j.php?MTID=mABC",
        MeetingURL(platform="webex", meeting_subdomain="northwind", meeting_mtid="mabc"),
    ),
    ({"meeting_id": "1", "platform": "zoom"}, MeetingURL(platform="zoom", meeting_id="1", meeting_password=None)),
    (ZOOM, None),
    (ZOOM, MeetingURL(platform="new")),
]
DIFFERENT = [
    (ZOOM, OTHER_URL),
    (ZOOM, ZOOM + "x"),
    (ZOOM, MeetingURL(platform="zoom", meeting_id="99999999999", meeting_password="aBcD")),
    (MeetingURL(platform="zoom", meeting_id="1"), MeetingURL(platform="zoom", meeting_id="2")),
    (MeetingURL(platform="zoom", meeting_id="1"), MeetingURL(platform="webex", meeting_id="1")),
    (TEAMS, MeetingURL(platform="microsoft_teams", thread_id="19:meeting_other@thread.v2", message_id="0")),
]


@pytest.mark.parametrize(
    ("one", "other", "same"), [(*pair, True) for pair in SAME] + [(*pair, False) for pair in DIFFERENT]
)
def test_meeting_urls_in_two_forms(one, other, same):
    """A link that the API writes as an object in one place and as a URL in another never settles, or a new one is missed."""
    assert is_same_meeting(one, other) is same
    assert is_same_meeting(other, one) is same
