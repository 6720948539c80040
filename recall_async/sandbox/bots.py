"""The operations on bots: retrieve, list by page number, and leave a call."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from .documents import MeetingURL
from .fields import Request, identifier
from .filters import Filter, accept, choice, string, time
from .life import Bot
from .listing import PAGE_SIZE
from .replies import Reply, detail, reply
from .state import State

_PLATFORMS = (
    "chime_sdk", "google_meet", "google_meet_media_api", "goto_meeting", "microsoft_teams", "microsoft_teams_live",
    "slack_authenticator", "slack_huddle_observer", "webex", "zoom", "zoom_rtms",
)  # fmt: skip
_STATUSES = (
    "analysis_done", "analysis_failed", "call_ended", "done", "fatal", "in_call_not_recording", "in_call_recording",
    "in_waiting_room", "joining_call", "media_expired", "ready", "recording_done", "recording_permission_allowed",
    "recording_permission_denied",
)  # fmt: skip
_CONFIGURED = (
    "recording_config", "output_media", "automatic_video_output", "automatic_audio_output", "chat", "automatic_leave",
    "variant", "zoom", "google_meet", "breakout_room",
)  # fmt: skip
"""Fields of a `bot_config` that a bot contains unchanged."""
_HOSTS = {
    "zoom.us": "zoom",
    "meet.google.com": "google_meet",
    "teams.microsoft.com": "microsoft_teams",
    "teams.live.com": "microsoft_teams_live",
    "webex.com": "webex",
    "gotomeeting.com": "goto_meeting",
}


def retrieve(state: State, request: Request) -> Reply:
    return reply(200, _document(state.bot(identifier(request.id))))


def leave_call(state: State, request: Request) -> Reply:
    bot = state.bot(identifier(request.id))
    state.leave_call(bot, request.now)
    return reply(200, _document(bot))


def list_page(state: State, request: Request) -> Reply:
    """Return a page of bots, newest first."""
    accepts = accept(_filters(request), request)
    found = [bot for bot in reversed(state.bots.values()) if accepts(bot)]
    pages = max(1, -(-len(found) // PAGE_SIZE))
    number = _page_number(request.last("page") or "1", pages)

    def link(page: int) -> str | None:
        if not 1 <= page <= pages:
            return None
        query = [(name, value) for name, values in request.query.items() if name != "page" for value in values]
        return f"{request.url}?{urlencode([*query, ('page', page)])}"

    return reply(
        200,
        {
            "count": len(found),
            "next": link(number + 1),
            "previous": link(number - 1),
            "results": [_document(bot) for bot in found[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]],
        },
    )


def _page_number(text: str, pages: int) -> int:
    if text == "last":
        return pages
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= pages:
        raise detail(404, "Invalid page.")
    return int(text)


def _filters(request: Request) -> dict[str, Filter]:
    """Return the filters of the list: any entry of `metadata` is one."""
    keys = [name.removeprefix("metadata__") for name in request.query if name.startswith("metadata__")]
    return {
        "join_at_after": Filter(time, lambda bot, when: bot.start_time >= when),
        "join_at_before": Filter(time, lambda bot, when: bot.start_time <= when),
        "meeting_url": Filter(string, lambda bot, url: bot.meeting_url == url),
        "platform": Filter(choice(*_PLATFORMS), lambda bot, wanted: _platform(bot.meeting_url) in wanted, many=True),
        "status": Filter(choice(*_STATUSES), lambda bot, wanted: bot.code in wanted, many=True),
        **{f"metadata__{key}": Filter(string, partial(_has_metadata, key)) for key in keys},
    }


def _has_metadata(key: str, bot: Bot, value: str) -> bool:
    return bot.metadata.get(key) == value


def _document(bot: Bot) -> dict[str, Any]:
    """Return a bot as the API sends it."""
    config = bot.config
    return {
        "id": bot.id,
        "meeting_url": meeting_of(bot.meeting_url),
        "bot_name": config.get("bot_name") or "Meeting Notetaker",
        "join_at": bot.start_time,
        **{name: config.get(name) for name in _CONFIGURED},
        "status_changes": bot.status_changes,
        "recordings": bot.recordings,
        "calendar_meetings": [],
        "slack_team": None,
        "metadata": bot.metadata,
    }


def meeting_of(url: MeetingURL) -> MeetingURL:
    """Convert a meeting URL to the object that bots use. A URL of an unknown form stays a string."""
    if not isinstance(url, str):
        return url
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        return url
    path = parts.path.strip("/").split("/")
    match _platform(url):
        case "zoom" if len(path) == 2 and path[0] == "j":
            return {"platform": "zoom", "meeting_id": path[1], "meeting_password": query.get("pwd")}
        case "google_meet" if path[0]:
            return {"platform": "google_meet", "meeting_id": path[0]}
        case "webex" if "MTID" in query:
            return {
                "platform": "webex",
                "meeting_subdomain": (parts.hostname or "").partition(".")[0],
                "meeting_mtid": query["MTID"],
                "meeting_path": path[0],
            }
        case "microsoft_teams" | "microsoft_teams_live" as platform if "meetup-join" in path:
            place = path.index("meetup-join") + 1
            names = re.findall(r'"(Tid|Oid)":"([^"]*)"', query.get("context", ""))
            context = dict(names)
            return {
                "platform": platform,
                "meeting_id": None,
                "meeting_password": None,
                "organizer_id": context.get("Oid"),
                "tenant_id": context.get("Tid"),
                "message_id": path[place + 1] if len(path) > place + 1 else None,
                "thread_id": unquote(path[place]) if len(path) > place else None,
                "business_meeting_id": None,
                "business_meeting_password": None,
            }
    return url


def _platform(url: MeetingURL) -> str | None:
    """Return the platform of a meeting, or `None` if it is unknown."""
    if isinstance(url, dict):
        return url.get("platform")
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return None
    return next((name for domain, name in _HOSTS.items() if host == domain or host.endswith(f".{domain}")), None)
