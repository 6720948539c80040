"""Calendar events and their bots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Unpack
from uuid import UUID

import msgspec

from .. import checks
from ..caller import Client
from ..limits.quota import Priority
from ..models import CalendarEvent, Page
from ..operations import LIST_EVENTS, REMOVE_BOT, RETRIEVE_EVENT, SCHEDULE_BOT, Request
from ..retry import RetryPolicy
from .fields import check_deduplication_key, encode_bot_config, merged, start_of
from .filters import EVENT_FILTERS, EventFilters, encode_query
from .pages import follow

_encode_text = msgspec.json.Encoder().encode


def schedule_request(
    event_id: str | UUID,
    deduplication_key: str,
    bot_config: Mapping[str, Any] | None = None,
    start_time: datetime | str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Request[CalendarEvent]:
    """Build the request of `CalendarEvents.schedule_bot`. Raises `ConfigurationError`."""
    id = checks.uuid("event_id", event_id)
    key = check_deduplication_key(deduplication_key)
    config = b"{}" if bot_config is None else encode_bot_config(bot_config)
    body = b'{"deduplication_key":%b,"bot_config":%b}' % (_encode_text(key), config)
    return SCHEDULE_BOT.request(id, body=merged(body, extra), deduplication_key=key, start=start_of(start_time))


def remove_request(event_id: str | UUID, start_time: datetime | str | None = None) -> Request[CalendarEvent]:
    """Build the request of `CalendarEvents.remove_bot`. Raises `ConfigurationError`."""
    return REMOVE_BOT.request(checks.uuid("event_id", event_id), start=start_of(start_time))


class CalendarEvents:
    """The events of a workspace's calendars: https://docs.recall.ai/reference/calendar_events_list

    Every method accepts `priority` (which waiting calls go first), `deadline` (seconds for the whole call, including
    waits) and `retry` (a `RetryPolicy` instead of the session's). It raises `ConfigurationError` for input that the
    API would reject, before it sends a request, or any other `RecallError`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def schedule_bot(
        self,
        event_id: str | UUID,
        *,
        deduplication_key: str,
        bot_config: Mapping[str, Any] | None = None,
        start_time: datetime | str | None = None,
        extra: Mapping[str, Any] | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> CalendarEvent:
        """Schedule a bot on a calendar event, replacing any existing one, and return the event.

        Pass the complete `bot_config`: it is not merged. Events with the same `deduplication_key` (1 to 2,000
        characters) share a bot. Pass the event's `start_time` to order waiting calls, soonest meeting first; it is
        not sent. `extra` contains further fields of the request's body. By default the client generates an
        `idempotency_key`; the API honours it for an hour.

        Raises `EventEndedError` if the meeting has ended, `BotPoolExhaustedError` if it starts too soon to get a bot.
        https://docs.recall.ai/reference/calendar_events_bot_create
        """
        request = schedule_request(event_id, deduplication_key, bot_config, start_time, extra)
        return await self._client.call(
            request, priority=priority, deadline=deadline, retry=retry, idempotency_key=idempotency_key
        )

    async def remove_bot(
        self,
        event_id: str | UUID,
        *,
        start_time: datetime | str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> CalendarEvent:
        """Remove the bots of a calendar event and return the event. Without bots, the call does nothing.

        A bot that other events share stays scheduled for them. `start_time` is as in `schedule_bot`. Raises
        `BotAlreadyDispatchedError` for a dispatched bot. https://docs.recall.ai/reference/calendar_events_bot_destroy
        """
        request = remove_request(event_id, start_time)
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    async def retrieve(
        self,
        event_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> CalendarEvent:
        """Return one event. Raises `NotFoundError`. https://docs.recall.ai/reference/calendar_events_retrieve"""
        request = RETRIEVE_EVENT.request(checks.uuid("event_id", event_id))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    def list(
        self,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[EventFilters],
    ) -> AsyncIterator[CalendarEvent]:
        """Iterate over all events that pass the filters, page by page. `deadline` covers all pages.

        `ical_uid` is a prefix. Deleted events are included unless `is_deleted=False`: the API only marks them. Raises
        `ResponseDecodeError` if a `next` link leads to another origin or to an earlier page.
        https://docs.recall.ai/reference/calendar_events_list
        """
        request = LIST_EVENTS.request(query=encode_query(EVENT_FILTERS, filters))
        return follow(self._client, request, priority=priority, deadline=deadline, retry=retry)

    async def list_page(
        self,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[EventFilters],
    ) -> Page[CalendarEvent]:
        """Return one page of at most 100 events, with the filters of `list`; `cursor` is a `Page.next_cursor`."""
        request = LIST_EVENTS.request(query=encode_query(EVENT_FILTERS, filters))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)
