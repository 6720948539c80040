"""Meetings that are one although the API writes them otherwise, and those that only look alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recall_async import MeetingURL
from recall_async.sync.meetings import is_same_meeting, is_same_start

ZOOM = "https://us02web.zoom.us/j/83123456789?pwd=aBcD"
TEAMS = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_ABC%40thread.v2/0?context=%7b%22Tid%22%3a%22t%22%7d"
START = datetime(2025, 6, 10, 12, 30, 18, 951000, UTC)


def webex(**fields: str) -> MeetingURL:
    return MeetingURL(platform="webex", meeting_subdomain="acme", **fields)


SAME: list[tuple[Any, Any]] = [
    (ZOOM, ZOOM + "#success"),
    (ZOOM, "HTTPS://US02Web.Zoom.US/j/83123456789?pwd=aBcD"),
    (ZOOM, "https://us02web.zoom.us:443/j/83123456789/?pwd=aBcD"),
    (ZOOM, f" {ZOOM} "),
    (ZOOM, ZOOM.removeprefix("https://")),
    ("https://meet.google.com/abc-defg-hij", "https://meet.google.com/abc-defg-hij/?"),
    ("https://meet.google.com/abc-defg-hij", "https://meet.google.com./abc-defg-hij#x"),
    (TEAMS, TEAMS.replace("%3a", ":").replace("%40", "@")),
    ("https://x.example/j/1?a=1&b=2", "https://x.example/j/1?b=2&a=1"),
    ("ZoomMTG://Zoom.us/join?confno=1", "zoommtg://zoom.us/join/?confno=1#x"),
    ("sip:ada@Rooms.example", "sip:ada@rooms.example"),
    ("https://m\u00fcnchen.example/j/1", "https://xn--mnchen-3ya.example/j/1"),
    (MeetingURL(platform="google_meet", meeting_id="abcdefghij"), "https://meet.google.com/abc-defg-hij"),
    (MeetingURL(platform="zoom", meeting_id="83123456789"), ZOOM),
    (MeetingURL(platform="zoom", meeting_id="831 2345 6789", meeting_password="other"), ZOOM),
    (MeetingURL(platform="google_meet", meeting_id="abc-defg-hij"), "https://meet.google.com/ABC-defg-hij?authuser=0"),
    (MeetingURL(platform="microsoft_teams", thread_id="19:meeting_ABC@thread.v2", tenant_id="u"), TEAMS),
    (webex(meeting_path="meet/ada"), "https://acme.webex.com/meet/ada"),
    (webex(meeting_personal_room_id="ada"), "https://ACME.webex.com/meet/Ada"),
    (webex(meeting_mtid="m0a1"), "https://acme.webex.com/acme/j.php?MTID=m0a1"),
    ({"platform": "zoom", "meeting_id": "831"}, MeetingURL(platform="zoom", meeting_id="831")),
    ({"platform": "zoom", "meeting_id": "831", "meeting_password": "x"}, {"platform": "zoom", "meeting_id": "831"}),
    (MeetingURL(platform="goto_meeting"), "https://meet.goto.com/123"),
    (None, None),
]
OTHER: list[tuple[Any, Any]] = [
    (ZOOM, "https://us02web.zoom.us/j/83123456789?pwd=abcd"),
    (ZOOM, "https://us02web.zoom.us/j/83123456780?pwd=aBcD"),
    (ZOOM, "http://us02web.zoom.us/j/83123456789?pwd=aBcD"),
    (ZOOM, "https://us02web.zoom.us/j/83123456789"),
    (ZOOM, "https://us02web.zoom.us:8443/j/83123456789?pwd=aBcD"),
    ("https://acme.webex.com/meet/ada", "https://acme.webex.com/meet/adam"),
    ("https://x.example/a%2Fb", "https://x.example/a/b"),
    ("tel:1", "tel:2"),
    ("sip:ada@rooms.example", "sip:bo@rooms.example"),
    ("zoommtg://zoom.us/join?confno=1", "zoommtg://zoom.us/join?confno=12"),
    ("https://[broken", "https://[other"),
    (MeetingURL(platform="zoom", meeting_id="8123456789"), "https://zoom.us/j/81234567890"),
    (MeetingURL(platform="zoom", meeting_id="812"), "https://zoom.us/j/900?x=812345"),
    (webex(meeting_path="meet/ada"), "https://acme.webex.com/meet/adam"),
    (webex(meeting_path="meet/ada"), "https://acme.webex.com/ada"),
    (webex(meeting_personal_room_id="ada"), "https://acme.webex.com/meet/adam"),
    (webex(meeting_personal_room_id="ada"), "https://other.webex.com/meet/ada"),
    (MeetingURL(platform="zoom", meeting_id="abc"), "https://meet.google.com/abc"),
    (MeetingURL(platform="goto_meeting"), "https://anything.example/x"),
    (MeetingURL(platform="zoom", meeting_id="831"), MeetingURL(platform="zoom", meeting_id="832")),
    ({"meeting_id": "831", "meeting_password": "x"}, {"meeting_id": "831", "meeting_password": "y"}),
    (webex(meeting_mtid="m0a1"), webex(meeting_path="meet/ada")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_meeting(one: Any, other: Any) -> None:
    """A bot is scheduled again and again because the API writes its address otherwise."""
    assert is_same_meeting(one, other)
    assert is_same_meeting(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_meetings(one: Any, other: Any) -> None:
    """A bot stays in somebody else's meeting because its address looks alike."""
    assert not is_same_meeting(one, other)
    assert not is_same_meeting(other, one)


@pytest.mark.parametrize(
    ("same", "bot"),
    [
        (True, START),
        (True, START.replace(microsecond=0)),
        (True, START.replace(second=0, microsecond=0)),
        (True, START + timedelta(milliseconds=1)),
        (True, START.replace(minute=31, second=0, microsecond=0)),
        (False, START.replace(second=20, microsecond=0)),
        (False, START + timedelta(seconds=30)),
        (False, START.replace(minute=29, second=0, microsecond=0)),
        (False, START - timedelta(minutes=1)),
    ],
)
def test_starts(same: bool, bot: datetime) -> None:
    """A bot follows its meeting for ever because the API cuts the seconds off, or stays where a meeting was."""
    assert is_same_start(bot, START) is same
