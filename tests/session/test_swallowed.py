"""Calls of a closed session, where a library on the way has swallowed the cancellation; and retries without a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from recall_async import Quota, RecallSession, ScheduleBot, SessionClosedError
from recall_async.limits.contract import QuotaLane, Slot
from recall_async.limits.local.store import LocalQuotaStore
from recall_async.retry import RetryBudget
from tests.session.scripted_server import EVENT, ScriptedServer, reply

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"


class DeafLane:
    """A lane that gives a slot to a call that was cancelled while it waited."""

    def __init__(self, lane: QuotaLane) -> None:
        self._lane = lane
        self.waits = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lane, name)

    async def admit(self, *args: Any, **options: Any) -> Slot:
        try:
            self.waits.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        return await self._lane.admit(*args, **options)


class DeafStore(LocalQuotaStore):
    lane: DeafLane

    def open(self, workspace: str, operation: str, quota: Quota | None) -> Any:
        self.lane = DeafLane(super().open(workspace, operation, quota))
        return self.lane


async def test_slot_that_comes_after_the_session_was_closed_is_not_used(
    server: ScriptedServer, connect: Callable[..., RecallSession]
) -> None:
    """Would send a request in the name of a session that is closed, or keep its slot."""
    store = DeafStore()
    recall = connect(quota_store=store)
    call = asyncio.create_task(recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k"))
    while not hasattr(store, "lane"):  # noqa: ASYNC110 - the call opens it
        await asyncio.sleep(0)
    await store.lane.waits.wait()
    await recall.aclose()
    with pytest.raises(SessionClosedError):
        await call
    assert server.requests == []
    assert store.lane.statistics().taken == 0


async def test_request_that_survives_its_cancellation_is_not_repeated(
    server: ScriptedServer, connect: Callable[..., RecallSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would go on to retry in a session that is closed, because the cancellation came back as a broken connection."""
    asked = 0

    async def deaf(self: aiohttp.ClientSession, *args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise aiohttp.ServerDisconnectedError from None

    recall = connect()
    with monkeypatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", deaf)
        call = asyncio.create_task(recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k"))
        while not asked:  # noqa: ASYNC110 - the request is made in the call's task
            await asyncio.sleep(0)
        await recall.aclose()
        with pytest.raises(SessionClosedError):
            await call
    assert asked == 1


async def test_bulk_call_waits_for_the_retry_budget(
    server: ScriptedServer, connect: Callable[..., RecallSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would fail the actions of a job because retries of others had used up the budget, or retry without any."""
    answers = iter([False, False, True])
    monkeypatch.setattr(RetryBudget, "spend", lambda self, policy, now: next(answers))
    server.script(reply(409), reply(200, EVENT))
    recall = connect()
    outcomes = [outcome async for outcome in recall.bulk([ScheduleBot(EVENT_ID, "k", {"bot_name": "Notes"})])]
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert len(server.requests) == 2
    assert list(answers) == []
