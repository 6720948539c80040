"""Calendars: the connected accounts whose events the API reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar, Unpack
from uuid import UUID

import msgspec

from .. import checks
from ..caller import Client
from ..errors import ConfigurationError
from ..limits.quota import Priority
from ..models import SECRET_FIELDS, Calendar, CalendarAccessToken, Page
from ..operations import (
    CREATE_ACCESS_TOKEN,
    CREATE_CALENDAR,
    DELETE_CALENDAR,
    LIST_CALENDARS,
    RETRIEVE_CALENDAR,
    UPDATE_CALENDAR,
)
from ..retry import RetryPolicy
from ..secrecy import Secret, SecretBytes
from .fields import encode_object, merged
from .filters import CALENDAR_FILTERS, CalendarFilters, encode_query
from .pages import follow

T = TypeVar("T")


class Calendars:
    """The calendars of a workspace: https://docs.recall.ai/reference/calendars_list

    Every method accepts `priority` (which waiting calls go first), `deadline` (seconds for the whole call, including
    waits) and `retry` (a `RetryPolicy` instead of the session's). It raises `ConfigurationError` for input that the
    API would reject, before it sends a request, or any other `RecallError`. No message contains OAuth secrets.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(
        self,
        *,
        platform: str,
        oauth_client_id: str,
        oauth_refresh_token: str,
        oauth_client_secret: str | None = None,
        oauth_client_certificate: str | None = None,
        oauth_client_private_key: str | None = None,
        oauth_email: str | None = None,
        webhook_url: str | None = None,
        metadata: Mapping[str, str | None] | None = None,
        extra: Mapping[str, Any] | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> Calendar:
        """Connect a calendar and return it. `platform` is `google_calendar` or `microsoft_outlook`.

        Pass `oauth_client_secret` or, for Microsoft, `oauth_client_certificate` with `oauth_client_private_key`. The
        API stores `metadata` with the calendar. `extra` contains further fields of the request's body. By default the
        client generates an `idempotency_key`: a repeated call with the same key creates no second calendar within an
        hour.
        https://docs.recall.ai/reference/calendars_create
        """
        oauth_client_secret, oauth_refresh_token = _sealed(oauth_client_secret), _sealed(oauth_refresh_token)
        oauth_client_certificate = _sealed(oauth_client_certificate)
        oauth_client_private_key = _sealed(oauth_client_private_key)
        if oauth_client_secret is None and (oauth_client_certificate is None or oauth_client_private_key is None):
            raise ConfigurationError(
                "oauth_client_secret must be given, or oauth_client_certificate with oauth_client_private_key"
            )
        body = _encode(
            metadata,
            extra,
            platform=platform,
            oauth_client_id=oauth_client_id,
            oauth_client_secret=oauth_client_secret,
            oauth_client_certificate=oauth_client_certificate,
            oauth_client_private_key=oauth_client_private_key,
            oauth_refresh_token=oauth_refresh_token,
            oauth_email=oauth_email,
            webhook_url=webhook_url,
        )
        request = CREATE_CALENDAR.request(body=body)
        return await self._client.call(
            request, priority=priority, deadline=deadline, retry=retry, idempotency_key=idempotency_key
        )

    async def retrieve(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Calendar:
        """Return one calendar. Raises `NotFoundError`. https://docs.recall.ai/reference/calendars_retrieve"""
        request = RETRIEVE_CALENDAR.request(checks.uuid("calendar_id", calendar_id))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    def list(
        self,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[CalendarFilters],
    ) -> AsyncIterator[Calendar]:
        """Iterate over all calendars that pass the filters, page by page. `deadline` covers all pages.

        https://docs.recall.ai/reference/calendars_list
        """
        request = LIST_CALENDARS.request(query=encode_query(CALENDAR_FILTERS, filters))
        return follow(self._client, request, priority=priority, deadline=deadline, retry=retry)

    async def list_page(
        self,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[CalendarFilters],
    ) -> Page[Calendar]:
        """Return one page of at most 100 calendars, with the filters of `list`; `cursor` is a `Page.next_cursor`."""
        request = LIST_CALENDARS.request(query=encode_query(CALENDAR_FILTERS, filters))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    async def update(
        self,
        calendar_id: str | UUID,
        *,
        platform: str | None = None,
        oauth_client_id: str | None = None,
        oauth_client_secret: str | None = None,
        oauth_client_certificate: str | None = None,
        oauth_client_private_key: str | None = None,
        oauth_refresh_token: str | None = None,
        oauth_email: str | None = None,
        webhook_url: str | None = None,
        metadata: Mapping[str, str | None] | None = None,
        extra: Mapping[str, Any] | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> Calendar:
        """Change a calendar and return it. The parameters are those of `create`; `None` leaves a field unchanged.

        A new client secret or refresh token reconnects a disconnected calendar.
        https://docs.recall.ai/reference/calendars_partial_update
        """
        oauth_client_secret, oauth_refresh_token = _sealed(oauth_client_secret), _sealed(oauth_refresh_token)
        oauth_client_certificate = _sealed(oauth_client_certificate)
        oauth_client_private_key = _sealed(oauth_client_private_key)
        id = checks.uuid("calendar_id", calendar_id)
        body = _encode(
            metadata,
            extra,
            platform=platform,
            oauth_client_id=oauth_client_id,
            oauth_client_secret=oauth_client_secret,
            oauth_client_certificate=oauth_client_certificate,
            oauth_client_private_key=oauth_client_private_key,
            oauth_refresh_token=oauth_refresh_token,
            oauth_email=oauth_email,
            webhook_url=webhook_url,
        )
        request = UPDATE_CALENDAR.request(id, body=body)
        return await self._client.call(
            request, priority=priority, deadline=deadline, retry=retry, idempotency_key=idempotency_key
        )

    async def delete(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Disconnect and delete a calendar. Raises `NotFoundError`.

        If a response is lost, the retry raises `NotFoundError` although the calendar was deleted.
        https://docs.recall.ai/reference/calendars_destroy
        """
        request = DELETE_CALENDAR.request(checks.uuid("calendar_id", calendar_id))
        await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    async def create_access_token(
        self,
        calendar_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> CalendarAccessToken:
        """Create a token for the calendar platform's own API, and return it with its expiry.

        Raises `BadRequestError` with `code` `no_oauth_credentials`, `bad_refresh_token` or `error`.
        https://docs.recall.ai/reference/calendars_access_token_create
        """
        request = CREATE_ACCESS_TOKEN.request(checks.uuid("calendar_id", calendar_id))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)


def _sealed(value: T) -> T:
    """Wrap text or bytes so that no traceback shows it."""
    if isinstance(value, str):
        return Secret(value)  # type: ignore[return-value]
    return SecretBytes(value) if isinstance(value, bytes) else value  # type: ignore[return-value]


def _encode(
    metadata: Mapping[str, str | None] | None, extra: Mapping[str, Any] | None, **fields: str | None
) -> SecretBytes:
    for name, value in fields.items():
        if value is not None:
            checks.text(name, value, secret=name in SECRET_FIELDS)
    named: dict[str, Any] = {name: checks.plain(value) for name, value in fields.items() if value is not None}
    if metadata is not None:
        named["metadata"] = msgspec.Raw(encode_object("metadata", metadata))
    return SecretBytes(merged(msgspec.json.encode(named), extra))
