"""What a user's program sees of the types. It is checked by mypy, and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, assert_type
from uuid import UUID

import aiohttp
import msgspec

import recall_async
from recall_async import (
    APIError,
    Bot,
    BotStatusChange,
    Calendar,
    CalendarAccessToken,
    CalendarEvent,
    CalendarEventBot,
    DeadlineExceededError,
    EventEndedError,
    FileLatest,
    LaneStatistics,
    Latest,
    MeetingURL,
    Outcome,
    Page,
    Plan,
    Priority,
    Quota,
    RateLimitedError,
    RecallError,
    RecallSession,
    Recording,
    RecordingPolicy,
    Region,
    RemoveBot,
    RetryPolicy,
    ScheduleBot,
    WebhookEvent,
    WebhookVerifier,
    tagged,
)
from recall_async.webhooks import (
    BotChange,
    BotLog,
    CalendarSyncEvents,
    CalendarUpdate,
    RecordingChange,
    Subject,
    TranscriptChange,
)


async def sessions(http: aiohttp.ClientSession) -> None:
    """Every parameter in every form that is documented."""
    RecallSession()
    RecallSession("key", region="us-west-2")
    RecallSession(api_key="key", region=Region.US_WEST_2, workspace="team", timeout=10)
    recall = RecallSession(
        base_url="http://127.0.0.1:8765",
        quotas={"calendar_events.schedule_bot": Quota(1200, per=60.0, burst=1200, reserve=0)},
        retry=RetryPolicy(attempts=3, deadline=30),
        http=http,
    )
    assert_type(recall_async.__version__, str)
    assert_type(recall.workspace, str)
    assert_type(recall.closed, bool)
    assert_type(recall.statistics(), dict[str, LaneStatistics])
    assert_type(recall.statistics()["calendar_events.list"].paused, float)
    await recall.aclose()


async def events(recall: RecallSession, event_id: UUID) -> None:
    """The operations on calendar events."""
    async with recall as entered:
        assert_type(entered, RecallSession)
        event = await entered.calendar_events.schedule_bot(
            event_id, deduplication_key="k", bot_config={"bot_name": "Notes"}, priority=Priority.BULK, deadline=5
        )
    assert_type(event, CalendarEvent)
    assert_type(await recall.calendar_events.remove_bot("id", start_time=datetime.now(UTC)), CalendarEvent)
    assert_type(await recall.calendar_events.retrieve("id"), CalendarEvent)
    assert_type(await recall.calendar_events.list_page(is_deleted=False, cursor=None), Page[CalendarEvent])
    assert_type(recall.calendar_events.list(calendar_id=event_id), AsyncIterator[CalendarEvent])
    async for found in recall.calendar_events.list(updated_at__gte="2025-06-10T12:00:00Z"):
        assert_type(found, CalendarEvent)
        assert_type(found.start_time, datetime)
        assert_type(found.meeting_url, str | MeetingURL | None)
        assert_type(found.bots, tuple[CalendarEventBot, ...])
        assert_type(found.title, str | None)


async def calendars(recall: RecallSession) -> None:
    """The operations on calendars."""
    created = await recall.calendars.create(
        platform="google_calendar", oauth_client_id="i", oauth_client_secret="s", oauth_refresh_token="t"
    )
    assert_type(created, Calendar)
    assert_type(await recall.calendars.retrieve(created.id), Calendar)
    assert_type(await recall.calendars.update(created.id, webhook_url="https://x.example/"), Calendar)
    assert_type(await recall.calendars.list_page(status="connected"), Page[Calendar])
    assert_type((await recall.calendars.list_page()).results, list[Calendar])
    assert_type(await recall.calendars.create_access_token(created.id), CalendarAccessToken)
    async for calendar in recall.calendars.list(platform="google_calendar"):
        assert_type(calendar, Calendar)
    await recall.calendars.delete(created.id)


async def many(recall: RecallSession) -> None:
    """Bulk jobs and plans."""
    schedule = ScheduleBot("id", "key", {"bot_name": "Notes"})
    async for outcome in recall.bulk([schedule, RemoveBot("id", start_time=datetime.now(UTC))], journal="journal"):
        assert_type(outcome, Outcome)
        assert_type(outcome.event, CalendarEvent | None)
        assert_type(outcome.error, RecallError | None)
    plan = await recall.plan(policy=RecordingPolicy())
    assert_type(plan, Plan)
    async for outcome in recall.apply(plan):
        assert_type(outcome.attempts, int)


async def failures(recall: RecallSession) -> None:
    """What an error carries."""
    try:
        await recall.calendar_events.retrieve("id")
    except RateLimitedError as error:
        assert_type(error.retry_after, float | None)
    except EventEndedError as error:
        assert_type(error.code, str | None)
        assert_type(error.body, bytes)
    except APIError as error:
        assert_type(error.status, int)
        assert_type(error.headers, dict[str, str])
    except DeadlineExceededError as error:
        assert_type(error.retry_after, float | None)
    except RecallError as error:
        assert_type(error.attempts, int)
        assert_type(error.operation, str | None)


def wire(body: bytes) -> None:
    """The models are usable on the wire format as it is."""
    page = msgspec.json.Decoder(Page[CalendarEvent]).decode(body)
    assert_type(page, Page[CalendarEvent])
    assert_type(page.next, str | None)


async def mistakes(recall: RecallSession, event: CalendarEvent) -> None:
    """What a type checker must refuse: an ignore that is not needed is an error too."""
    await recall.calendar_events.schedule_bot("id")  # type: ignore[call-arg]
    await recall.calendar_events.schedule_bot("id", "key")  # type: ignore[call-arg]
    await recall.calendar_events.retrieve(17)  # type: ignore[arg-type]
    await recall.calendar_events.list_page(starts_after="now")  # type: ignore[call-arg]
    await recall.calendar_events.retrieve("id", priority="bulk")  # type: ignore[arg-type]
    RecallSession(quotas={"calendars.list": 60})  # type: ignore[dict-item]
    event.title = "x"  # type: ignore[misc]
    for _ in recall.calendars.list():  # type: ignore[attr-defined]
        pass


async def bots(recall: RecallSession, bot_id: UUID, now: datetime) -> None:
    """The operations on bots, and what a bot says."""
    bot = await recall.bots.retrieve(bot_id, priority=Priority.BULK, deadline=5)
    assert_type(bot, Bot)
    assert_type(bot.status, str)
    assert_type(bot.joined_at, datetime | None)
    assert_type(bot.metadata, dict[str, Any])
    assert_type(bot.status_changes, tuple[BotStatusChange, ...])
    assert_type(bot.recordings, tuple[Recording, ...])
    assert_type(bot.recordings[0].download_urls, dict[str, str])
    async for found in recall.bots.list(join_at_after=now, status=["done", "fatal"], metadata={"team": "sales"}):
        assert_type(found, Bot)
    assert_type(await recall.bots.list_page(platform="zoom", page=2), Page[Bot])
    assert_type(await recall.bots.find(event_id=bot_id, deduplication_key="key"), tuple[Bot, ...])
    assert_type(await recall.bots.leave_call(str(bot_id)), Bot)
    assert_type(tagged({"bot_name": "Notes"}, event_id=bot_id, deduplication_key="key"), dict[str, Any])
    assert_type(await recall.plan(policy=RecordingPolicy(), tag=True), Plan)


async def webhooks(headers: dict[str, str], scope: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Headers of several frameworks, and every typed payload."""
    verifier = WebhookVerifier(["whsec_one", "whsec_two"], tolerance=60)
    assert_type(verifier.verify(scope, body), WebhookEvent)
    event = verifier.verify(headers, body)
    assert_type(await Latest(FileLatest("latest.json")).accepts(event), bool)
    match event.data:
        case CalendarSyncEvents(calendar_id, since):
            assert_type((calendar_id, since), tuple[str, datetime])
        case CalendarUpdate(calendar_id):
            assert_type(calendar_id, str)
        case BotChange(bot=bot, code=code, sub_code=reason):
            assert_type((bot, code, reason), tuple[Subject, str, str | None])
        case BotLog(message=message):
            assert_type(message, str)
        case RecordingChange(recording=recording) | TranscriptChange(recording=recording):
            assert_type(recording, Subject | None)
        case other:
            assert_type(other, dict[str, Any])
