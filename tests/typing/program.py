"""What a user's program sees of the types. It is checked by mypy, and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import assert_type
from uuid import UUID

import aiohttp
import msgspec

from recall_async import (
    APIError,
    Calendar,
    CalendarAccessToken,
    CalendarEvent,
    CalendarEventBot,
    DeadlineExceededError,
    EventEndedError,
    LaneStatistics,
    MeetingURL,
    Outcome,
    Page,
    Plan,
    Priority,
    Quota,
    RateLimitedError,
    RecallError,
    RecallSession,
    RecordingPolicy,
    Region,
    RemoveBot,
    RetryPolicy,
    ScheduleBot,
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
