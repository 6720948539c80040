"""Calendars: the accounts whose events are read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import msgspec
from yarl import URL

from .. import checks
from ..caller import Caller
from ..limits.quota import Priority
from ..models import SECRET_FIELDS, Calendar, CalendarAccessToken, Page
from ..operations import (
    CREATE_ACCESS_TOKEN,
    CREATE_CALENDAR,
    DELETE_CALENDAR,
    LIST_CALENDARS,
    RETRIEVE_CALENDAR,
    UPDATE_CALENDAR,
    Operation,
)
from .fields import check_id, encode_query
from .pages import follow


class Calendars:
    """The calendars of a workspace: https://docs.recall.ai/reference/calendars_list

    Every method takes `priority` (who goes first when the quota is short) and `deadline` (seconds for the whole call,
    waiting included), and raises `ConfigurationError` for input that the API could not take, before anything is sent,
    or any other `RecallError`.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        *,
        platform: str,
        oauth_client_id: str,
        oauth_client_secret: str,
        oauth_refresh_token: str,
        oauth_email: str | None = None,
        webhook_url: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Calendar:
        """The calendar that was connected. `platform` is `google_calendar` or `microsoft_outlook`.

        https://docs.recall.ai/reference/calendars_create
        """
        body = _encode(
            platform=platform,
            oauth_client_id=oauth_client_id,
            oauth_client_secret=oauth_client_secret,
            oauth_refresh_token=oauth_refresh_token,
            oauth_email=oauth_email,
            webhook_url=webhook_url,
        )
        url = self._caller.transport.url(CREATE_CALENDAR.path)
        calendar: Calendar = await self._caller.call(
            CREATE_CALENDAR, url, body=body, priority=priority, deadline=deadline
        )
        return calendar

    async def retrieve(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Calendar:
        """One calendar. Raises `NotFoundError`. https://docs.recall.ai/reference/calendars_retrieve"""
        url = self._url(RETRIEVE_CALENDAR, calendar_id)
        calendar: Calendar = await self._caller.call(RETRIEVE_CALENDAR, url, priority=priority, deadline=deadline)
        return calendar

    def list(
        self,
        *,
        created_at__gte: datetime | str | None = None,
        email: str | None = None,
        platform: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> AsyncIterator[Calendar]:
        """Every calendar that passes the filters, page after page; `deadline` is for all of them.

        https://docs.recall.ai/reference/calendars_list
        """
        filters = encode_query(
            dict(created_at__gte=created_at__gte, email=email, platform=platform, status=status, cursor=cursor)
        )
        url = self._caller.transport.url(LIST_CALENDARS.path, filters)
        return follow(self._caller, LIST_CALENDARS, url, priority=priority, deadline=deadline)

    async def list_page(
        self,
        *,
        created_at__gte: datetime | str | None = None,
        email: str | None = None,
        platform: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Page[Calendar]:
        """One page of at most 100 calendars; the filters are those of `list`."""
        filters = encode_query(
            dict(created_at__gte=created_at__gte, email=email, platform=platform, status=status, cursor=cursor)
        )
        url = self._caller.transport.url(LIST_CALENDARS.path, filters)
        page: Page[Calendar] = await self._caller.call(LIST_CALENDARS, url, priority=priority, deadline=deadline)
        return page

    async def update(
        self,
        calendar_id: str | UUID,
        *,
        platform: str | None = None,
        oauth_client_id: str | None = None,
        oauth_client_secret: str | None = None,
        oauth_refresh_token: str | None = None,
        oauth_email: str | None = None,
        webhook_url: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Calendar:
        """The calendar after the change; what is `None` stays as it is.

        https://docs.recall.ai/reference/calendars_partial_update
        """
        body = _encode(
            platform=platform,
            oauth_client_id=oauth_client_id,
            oauth_client_secret=oauth_client_secret,
            oauth_refresh_token=oauth_refresh_token,
            oauth_email=oauth_email,
            webhook_url=webhook_url,
        )
        url = self._url(UPDATE_CALENDAR, calendar_id)
        calendar: Calendar = await self._caller.call(
            UPDATE_CALENDAR, url, body=body, priority=priority, deadline=deadline
        )
        return calendar

    async def delete(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> None:
        """Disconnect a calendar. Raises `NotFoundError`. https://docs.recall.ai/reference/calendars_destroy"""
        url = self._url(DELETE_CALENDAR, calendar_id)
        await self._caller.call(DELETE_CALENDAR, url, priority=priority, deadline=deadline)

    async def create_access_token(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> CalendarAccessToken:
        """A token for the platform's own API, and when it expires.

        Raises `BadRequestError` with `code` `no_oauth_credentials`, `bad_refresh_token` or `error`.
        https://docs.recall.ai/reference/calendars_access_token_create
        """
        url = self._url(CREATE_ACCESS_TOKEN, calendar_id)
        token: CalendarAccessToken = await self._caller.call(
            CREATE_ACCESS_TOKEN, url, priority=priority, deadline=deadline
        )
        return token

    def _url(self, operation: Operation, calendar_id: str | UUID) -> URL:
        return self._caller.transport.url(operation.path.replace("{id}", check_id(calendar_id, "calendar_id")))


def _encode(**fields: str | None) -> bytes:
    for name, value in fields.items():
        if value is not None:
            checks.text(name, value, secret=name in SECRET_FIELDS)
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
