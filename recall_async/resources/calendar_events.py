"""Calendar events, and the bots on them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from yarl import URL

from ..caller import Account, Caller
from ..limits.quota import Priority
from ..models import CalendarEvent, Page
from ..operations import LIST_EVENTS, REMOVE_BOT, RETRIEVE_EVENT, SCHEDULE_BOT
from .fields import check_deduplication_key, check_id, encode_bot_config, encode_query, parse_time
from .pages import follow

_encode_text = msgspec.json.Encoder().encode


class CalendarEvents:
    """The events of a workspace's calendars: https://docs.recall.ai/reference/calendar_events_list

    Every method takes `priority` (who goes first when the quota is short) and `deadline` (seconds for the whole call,
    waiting included), and raises `ConfigurationError` for input that the API could not take, before anything is sent,
    or any other `RecallError`.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def schedule_bot(
        self,
        event_id: str | UUID,
        *,
        deduplication_key: str,
        bot_config: Mapping[str, Any] | None = None,
        start_time: datetime | str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        account: Account | None = None,
    ) -> CalendarEvent:
        """The event with a bot on it, put there or replaced: the whole `bot_config` is, so it must be complete.

        Bots are shared by events with one `deduplication_key` (1 to 2,000 characters). `start_time`, the event's, is not
        sent: among calls that wait, the soonest meeting goes first. `account` is filled with what the call cost.

        Raises `EventEndedError` for a meeting that is over and `BotPoolExhaustedError` for one too near.
        https://docs.recall.ai/reference/calendar_events_bot_create
        """
        path = SCHEDULE_BOT.path.replace("{id}", check_id(event_id, "event_id"))
        key = check_deduplication_key(deduplication_key)
        config = encode_bot_config({} if bot_config is None else bot_config)
        event: CalendarEvent = await self._caller.call(
            SCHEDULE_BOT,
            self._caller.transport.url(path),
            body=b'{"deduplication_key":%b,"bot_config":%b}' % (_encode_text(key), config),
            priority=priority,
            deadline=deadline,
            start=_start(start_time),
            deduplication_key=key,
            account=account,
        )
        return event

    async def remove_bot(
        self,
        event_id: str | UUID,
        *,
        start_time: datetime | str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        account: Account | None = None,
    ) -> CalendarEvent:
        """The event without its bots, however often it is asked for. A bot shared with other events stays with them.

        `start_time` and `account` are as in `schedule_bot`. Raises `BotAlreadyDispatchedError` for a bot on its way.
        https://docs.recall.ai/reference/calendar_events_bot_destroy
        """
        path = REMOVE_BOT.path.replace("{id}", check_id(event_id, "event_id"))
        event: CalendarEvent = await self._caller.call(
            REMOVE_BOT,
            self._caller.transport.url(path),
            priority=priority,
            deadline=deadline,
            start=_start(start_time),
            account=account,
        )
        return event

    async def retrieve(
        self,
        event_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> CalendarEvent:
        """One event. Raises `NotFoundError`. https://docs.recall.ai/reference/calendar_events_retrieve"""
        path = RETRIEVE_EVENT.path.replace("{id}", check_id(event_id, "event_id"))
        event: CalendarEvent = await self._caller.call(
            RETRIEVE_EVENT, self._caller.transport.url(path), priority=priority, deadline=deadline
        )
        return event

    def list(
        self,
        *,
        calendar_id: str | UUID | None = None,
        ical_uid: str | None = None,
        is_deleted: bool | None = None,
        start_time: datetime | str | None = None,
        start_time__gte: datetime | str | None = None,
        start_time__lte: datetime | str | None = None,
        updated_at__gte: datetime | str | None = None,
        cursor: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> AsyncIterator[CalendarEvent]:
        """Every event that passes the filters, page after page; `deadline` is for all of them.

        `ical_uid` is a prefix. Deleted events are included unless `is_deleted=False`: they are never removed, only marked.
        Raises `ResponseDecodeError` where the pages lead to another origin or round in a circle.
        https://docs.recall.ai/reference/calendar_events_list
        """
        url = self._list_url(
            calendar_id=calendar_id,
            ical_uid=ical_uid,
            is_deleted=is_deleted,
            start_time=start_time,
            start_time__gte=start_time__gte,
            start_time__lte=start_time__lte,
            updated_at__gte=updated_at__gte,
            cursor=cursor,
        )
        return follow(self._caller, LIST_EVENTS, url, priority=priority, deadline=deadline)

    async def list_page(
        self,
        *,
        calendar_id: str | UUID | None = None,
        ical_uid: str | None = None,
        is_deleted: bool | None = None,
        start_time: datetime | str | None = None,
        start_time__gte: datetime | str | None = None,
        start_time__lte: datetime | str | None = None,
        updated_at__gte: datetime | str | None = None,
        cursor: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Page[CalendarEvent]:
        """One page of at most 100 events; the filters are those of `list`, `cursor` is from a page's `next` URL."""
        url = self._list_url(
            calendar_id=calendar_id,
            ical_uid=ical_uid,
            is_deleted=is_deleted,
            start_time=start_time,
            start_time__gte=start_time__gte,
            start_time__lte=start_time__lte,
            updated_at__gte=updated_at__gte,
            cursor=cursor,
        )
        page: Page[CalendarEvent] = await self._caller.call(LIST_EVENTS, url, priority=priority, deadline=deadline)
        return page

    def _list_url(self, **filters: str | UUID | datetime | bool | None) -> URL:
        return self._caller.transport.url(LIST_EVENTS.path, encode_query(filters))


def _start(start_time: datetime | str | None) -> float:
    return math.inf if start_time is None else parse_time(start_time, "start_time").timestamp()
