"""Compare a bot's meeting URL and start with those of its event: the API may write the same value in another form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..models import MeetingURL
from .wording import readable_domain

_TOLERANCE = timedelta(seconds=1)
"""Times that differ by less are equal, so that the precision of the API's times does not matter."""
_MINUTE = timedelta(minutes=1)
_PORTS = {"http": 80, "https": 443}
MEETING_IDS = (
    "meeting_id",
    "thread_id",
    "business_meeting_id",
    "meeting_mtid",
    "meeting_path",
    "meeting_personal_room_id",
)
"""The fields of a `meeting_url` object that identify a meeting, each on its own."""
_MEET_CODE = re.compile(r"[a-z]{3}-[a-z]{4}-[a-z]{3}")
_HOSTS = {
    "zoom": ("zoom.us", "zoom.com", "zoom.com.cn", "zoomgov.com"),
    "google_meet": ("meet.google.com",),
    "microsoft_teams": ("teams.microsoft.com", "teams.microsoft.us", "teams.live.com", "teams.cloud.microsoft"),
    "webex": ("webex.com",),
    "goto_meeting": ("goto.com", "gotomeeting.com", "gotomeet.me"),
}


def is_same_start(bot: datetime, meeting: datetime) -> bool:
    """Return whether a bot that starts at `bot` was scheduled for `meeting`: the API may have cut off the seconds."""
    apart = abs(bot - meeting)
    return apart < _TOLERANCE or (apart < _MINUTE and not bot.second and not bot.microsecond)


def is_same_meeting(one: object, other: object) -> bool:
    """Return whether two values of `meeting_url` name the same meeting.

    The comparison of URLs ignores the case of scheme and host, the fragment, a trailing slash, an empty query,
    percent-encoding and Punycode. An object and a URL match if one of the object's ids is a complete part of the URL's path
    or query. Two objects match if they have an id in common and no field in which both have different values.
    """
    if isinstance(one, str) and isinstance(other, str):
        return one == other or _normal(one) == _normal(other)
    if isinstance(one, str):
        return _is_at(_fields(other), one)
    if isinstance(other, str):
        return _is_at(_fields(one), other)
    return _agree(_fields(one), _fields(other))


def _normal(address: str) -> tuple[object, ...]:
    scheme, userinfo, host, port, path, query = _split(address)
    if not scheme:
        return (address,)
    return scheme, userinfo, host, None if port == _PORTS.get(scheme) else port, path, query


def _split(
    address: str,
) -> tuple[str, str, str, int | None, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Split a URL into scheme, user, host, port, the parts of its path, and its sorted query."""
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = readable_domain((parts.hostname or "").casefold()), parts.port
    except ValueError:
        return "", "", "", None, (), ()
    path = tuple(unquote(part) for part in parts.path.rstrip("/").split("/") if part)
    query = tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))
    userinfo = parts.netloc.rpartition("@")[0]
    return parts.scheme.casefold(), userinfo, host, port, path, query


def _is_at(details: Mapping[str, str], address: str) -> bool:
    """Return whether an object names the meeting at this URL. Passwords and tenants have too many forms to compare."""
    _, _, host, _, path, query = _split(address)
    hosts = _HOSTS.get(details.get("platform", "").casefold())
    if hosts is not None and any(_is_in(host, each) for known in _HOSTS.values() for each in known):
        if not any(_is_in(host, each) for each in hosts):
            return False
        subdomain = details.get("meeting_subdomain", "").casefold()
        if subdomain and host.partition(".")[0] != subdomain:
            return False
    ids = [details[name] for name in MEETING_IDS if name in details]
    if not ids:
        return hosts is None or any(_is_in(host, each) for each in hosts)
    parts = [_plain(part) for part in (*path, *(value for _, value in query))]
    return any(_occurs([_plain(part) for part in text.strip("/").split("/")], parts) for text in ids)


def _is_in(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _plain(part: str) -> str:
    """Normalize an id for comparison: numbers and Google Meet's codes may be written in groups."""
    text = unquote(part).strip().casefold()
    joined = text.replace(" ", "").replace("-", "")
    return joined if joined.isdecimal() or _MEET_CODE.fullmatch(text) else text


def _occurs(wanted: list[str], parts: list[str]) -> bool:
    """Return whether `parts` contains `wanted` as consecutive parts."""
    return any(parts[place : place + len(wanted)] == wanted for place in range(len(parts) - len(wanted) + 1))


def _agree(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    common = one.keys() & other.keys()
    if any(
        _plain(one[name]) != _plain(other[name]) if name in MEETING_IDS else one[name] != other[name] for name in common
    ):
        return False
    has_ids = [not details.keys().isdisjoint(MEETING_IDS) for details in (one, other)]
    return not all(has_ids) or not common.isdisjoint(MEETING_IDS)


def _fields(meeting_url: object) -> dict[str, str]:
    """Return the fields that have a value. In a bot's configuration the object may be a plain mapping."""
    return dict(_pairs(meeting_url))


def _pairs(meeting_url: object) -> Iterator[tuple[str, str]]:
    if isinstance(meeting_url, MeetingURL):
        pairs: Any = ((name, getattr(meeting_url, name)) for name in meeting_url.__struct_fields__)
    else:
        pairs = meeting_url.items() if isinstance(meeting_url, Mapping) else ()
    for name, value in pairs:
        if value:
            yield str(name), str(value)
