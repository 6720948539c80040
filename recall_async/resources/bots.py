"""Bots: read the status of scheduled bots, and make them leave their calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack
from uuid import UUID

from .. import checks
from ..bot_models import Bot
from ..caller import Client
from ..errors import ConfigurationError
from ..limits.quota import Priority
from ..models import Page
from ..operations import LEAVE_CALL, LIST_BOTS, RETRIEVE_BOT
from ..retry import RetryPolicy
from .filters import BOT_FILTERS, BotFilters, encode_query
from .pages import follow
from .tags import tags_of


class Bots:
    """The bots of a workspace: https://docs.recall.ai/reference/bot_list

    Every method accepts `priority` (which waiting calls go first), `deadline` (seconds for the whole call, including
    waits) and `retry` (a `RetryPolicy` instead of the session's). It raises `ConfigurationError` for input that the
    API would reject, before it sends a request, or any other `RecallError`. docs/did-the-bot-join.md
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def retrieve(
        self,
        bot_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Bot:
        """Return one bot. `bot_id` is in the entries of an event's `bots`.

        Raises `NotFoundError`. https://docs.recall.ai/reference/bot_retrieve
        """
        request = RETRIEVE_BOT.request(checks.uuid("bot_id", bot_id))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    def list(
        self,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[BotFilters],
    ) -> AsyncIterator[Bot]:
        """Iterate over all bots that pass the filters, page by page. `deadline` covers all pages.

        The quota for lists is small and shared by the whole workspace: to follow your bots, use webhooks instead of
        polling. Raises `ResponseDecodeError` if a `next` link leads to another origin or to an earlier page.
        https://docs.recall.ai/reference/bot_list
        """
        request = LIST_BOTS.request(query=encode_query(BOT_FILTERS, filters))
        return follow(self._client, request, priority=priority, deadline=deadline, retry=retry)

    async def list_page(
        self,
        *,
        page: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        **filters: Unpack[BotFilters],
    ) -> Page[Bot]:
        """Return one page of bots, numbered from 1, with the filters of `list`.

        Raises `NotFoundError` for a page after the last one.
        """
        query = encode_query(BOT_FILTERS, filters)
        if page is not None:
            query.append(("page", str(checks.whole("page", page, at_least=1))))
        request = LIST_BOTS.request(query=query)
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)

    async def find(
        self,
        *,
        event_id: str | UUID | None = None,
        deduplication_key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> tuple[Bot, ...]:
        """Find the unfinished bots that were scheduled with a `tagged` configuration: one list request.

        Use it if you do not know whether a bot was scheduled, because the program ended before it could store the
        result. `event_id` finds the bots whose last schedule request was for this event, `deduplication_key` those
        with this key; with both, a bot must match both. docs/did-the-bot-join.md
        """
        tags = tags_of(event_id, deduplication_key)
        if not tags:
            raise ConfigurationError("event_id or deduplication_key must be given, got neither")
        found = self.list(metadata=tags, priority=priority, deadline=deadline, retry=retry)
        return tuple([bot async for bot in found if not bot.is_over])

    async def leave_call(
        self,
        bot_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Bot:
        """Make a bot leave its call. This cannot be undone: the bot does not return.

        Use it for a dispatched bot, which `remove_bot` can no longer remove. Raises `NotFoundError`, and
        `BadRequestError` for a bot that has not joined yet or whose call has ended.
        https://docs.recall.ai/reference/bot_leave_call_create
        """
        request = LEAVE_CALL.request(checks.uuid("bot_id", bot_id))
        return await self._client.call(request, priority=priority, deadline=deadline, retry=retry)
