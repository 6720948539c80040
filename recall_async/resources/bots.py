"""Bots: what became of those that were scheduled, and how to end their calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from yarl import URL

from .. import checks
from ..bot_models import Bot
from ..caller import Caller
from ..limits.quota import Priority
from ..models import Page
from ..operations import LEAVE_CALL, LIST_BOTS, RETRIEVE_BOT
from .fields import check_id, check_time
from .pages import follow


class Bots:
    """The bots of a workspace: https://docs.recall.ai/reference/bot_list

    Every method takes `priority` (who goes first when the quota is short) and `deadline` (seconds for the whole call,
    waiting included), and raises `ConfigurationError` for input that the API could not take, before anything is sent,
    or any other `RecallError`. docs/did-the-bot-join.md
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def retrieve(
        self,
        bot_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Bot:
        """Fetch one bot. Its id is the `bot_id` of an entry of an event's `bots`.

        Raises `NotFoundError`. https://docs.recall.ai/reference/bot_retrieve
        """
        url = self._caller.transport.url(RETRIEVE_BOT.path.replace("{id}", check_id(bot_id, "bot_id")))
        bot: Bot = await self._caller.call(RETRIEVE_BOT, url, priority=priority, deadline=deadline)
        return bot

    def list(
        self,
        *,
        join_at_after: datetime | str | None = None,
        join_at_before: datetime | str | None = None,
        meeting_url: str | None = None,
        platform: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> AsyncIterator[Bot]:
        """List every bot that passes the filters, page after page; `deadline` is for all of them.

        - `join_at_after`, `join_at_before`: bots that are to join in this span of time.
        - `platform`, `status`: one value, or several of which a bot must have one.
        - `metadata`: bots whose `bot_config` named these texts in its `metadata`.

        The quota for lists is small and belongs to the whole workspace: to follow your bots, take webhooks instead of
        polling. Raises `ResponseDecodeError` where the pages lead to another origin or round in a circle.
        https://docs.recall.ai/reference/bot_list
        """
        url = self._url(join_at_after, join_at_before, meeting_url, platform, status, metadata, None)
        return follow(self._caller, LIST_BOTS, url, priority=priority, deadline=deadline)

    async def list_page(
        self,
        *,
        join_at_after: datetime | str | None = None,
        join_at_before: datetime | str | None = None,
        meeting_url: str | None = None,
        platform: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        page: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Page[Bot]:
        """Fetch one page of bots; the filters are those of `list`, pages are numbered from 1.

        Raises `NotFoundError` for a page behind the last one.
        """
        url = self._url(join_at_after, join_at_before, meeting_url, platform, status, metadata, page)
        found: Page[Bot] = await self._caller.call(LIST_BOTS, url, priority=priority, deadline=deadline)
        return found

    async def leave_call(
        self,
        bot_id: str | UUID,
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> Bot:
        """Make a bot leave its call. This cannot be undone: the bot does not come back.

        Use it for a bot that `remove_bot` cannot remove any more because it was dispatched. Raises `NotFoundError`, and
        `BadRequestError` for a bot that has not joined yet or whose call is over.
        https://docs.recall.ai/reference/bot_leave_call_create
        """
        url = self._caller.transport.url(LEAVE_CALL.path.replace("{id}", check_id(bot_id, "bot_id")))
        bot: Bot = await self._caller.call(LEAVE_CALL, url, priority=priority, deadline=deadline)
        return bot

    def _url(
        self,
        join_at_after: datetime | str | None,
        join_at_before: datetime | str | None,
        meeting_url: str | None,
        platform: str | Iterable[str] | None,
        status: str | Iterable[str] | None,
        metadata: Mapping[str, str] | None,
        page: int | None,
    ) -> URL:
        query: list[tuple[str, str]] = []
        if join_at_after is not None:
            query.append(("join_at_after", check_time(join_at_after, "join_at_after")))
        if join_at_before is not None:
            query.append(("join_at_before", check_time(join_at_before, "join_at_before")))
        if meeting_url is not None:
            query.append(("meeting_url", checks.text("meeting_url", meeting_url)))
        query += [("platform", value) for value in _texts("platform", platform)]
        query += [("status", value) for value in _texts("status", status)]
        if metadata is not None:
            checks.instance("metadata", metadata, Mapping, "a mapping such as {'team': 'sales'}")
            for name, value in metadata.items():
                query.append(
                    (f"metadata__{checks.text('a name in metadata', name)}", checks.text(f"metadata[{name!r}]", value))
                )
        if page is not None:
            query.append(("page", str(checks.whole("page", page, at_least=1))))
        url = self._caller.transport.url(LIST_BOTS.path)
        return url.with_query(query) if query else url


def _texts(name: str, value: str | Iterable[str] | None) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, str):
        checks.instance(name, value, Iterable, "a text or several")
    return [checks.text(name, part) for part in ([value] if isinstance(value, str) else value)]
