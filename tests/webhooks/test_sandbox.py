"""The sandbox's webhooks, as somebody who knows nothing of the sandbox sees them."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest
import standardwebhooks
import svix
from aiohttp import web

from recall_async import RecallSession
from recall_async.sandbox import RecallSandbox
from recall_async.sandbox import webhooks as sandbox_webhooks
from recall_async.webhooks import CalendarSyncEvents, CalendarUpdate, WebhookVerifier
from tests.webhooks.receiver import receiver, until


class Inbox:
    """Takes deliveries, and turns the first `refused` of them away."""

    def __init__(self, refused: int = 0) -> None:
        self.refused = refused
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        self.refused -= 1
        return web.Response(status=503 if self.refused >= 0 else 204)

    def verified(self, sandbox: RecallSandbox) -> list[object]:
        verifier = WebhookVerifier(sandbox.webhook_secret)
        return [verifier.verify(headers, body).data for headers, body in self.requests]


async def test_every_change_is_told():
    """A sync that is driven by webhooks misses changes, and a test of it says nothing."""
    inbox = Inbox()
    async with receiver(inbox) as url, RecallSandbox(events=60, calendars=4, webhook_url=url) as sandbox:
        changes = sandbox.mutate(30)
        await until(lambda: not sandbox.webhooks()["pending"])
        updated = {event["id"]: event["updated_at"] for event in sandbox.snapshot()["events"]}
        told = sorted((data.calendar_id, data.last_updated_ts) for data in inbox.verified(sandbox))
    expected = [
        (calendar_id, datetime.fromisoformat(updated[change["event_ids"][0]]))
        for change in changes
        for calendar_id in change["calendar_ids"]
    ]
    assert told == sorted(expected)
    assert sandbox.webhooks() == {"delivered": len(expected), "failed": 0, "pending": 0}


async def test_deliveries_are_signed_as_the_standard_says():
    """Only our own verifier accepts what the sandbox sends."""
    inbox = Inbox()
    async with receiver(inbox) as url, RecallSandbox(events=20, calendars=1, webhook_url=url) as sandbox:
        sandbox.mutate(1)
        await until(lambda: not sandbox.webhooks()["pending"])
    ((headers, body),) = inbox.requests
    assert standardwebhooks.Webhook(sandbox.webhook_secret).verify(body, headers) == json.loads(body)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(sandbox.webhook_secret).verify(body + b" ", headers)


async def test_deliveries_are_repeated_until_they_are_taken(monkeypatch: pytest.MonkeyPatch):
    """A handler that fails now and then is never tested."""
    monkeypatch.setattr(sandbox_webhooks, "REPEATS", (0.01, 0.01, 0.01))
    inbox = Inbox(refused=3)
    async with receiver(inbox) as url, RecallSandbox(events=20, calendars=1, webhook_url=url) as sandbox:
        sandbox.mutate(1)
        await until(lambda: not sandbox.webhooks()["pending"])
        assert len({headers["Webhook-Id"] for headers, _ in inbox.requests}) == 1
        assert (len(inbox.requests), sandbox.webhooks()) == (4, {"delivered": 1, "failed": 0, "pending": 0})
        inbox.refused = 9
        sandbox.mutate(1)
        await until(lambda: not sandbox.webhooks()["pending"])
        assert sandbox.webhooks() == {"delivered": 1, "failed": 1, "pending": 0}


async def test_a_receiver_that_is_gone_does_not_hold_up_the_end():
    """A sandbox with deliveries on their way cannot be closed, or leaves tasks behind."""
    async with RecallSandbox(events=20, calendars=2, webhook_url="http://127.0.0.1:9/") as sandbox:
        sandbox.mutate(5)
        await asyncio.sleep(0)
        assert sandbox.webhooks()["pending"]
    assert sandbox.webhooks()["pending"] == 0
    assert sandbox.mutate(1)


async def test_calendars_that_change():
    """A calendar that was disconnected keeps its bots, or nobody is told of it."""
    inbox = Inbox()
    async with (
        receiver(inbox) as url,
        RecallSandbox(events=40, calendars=2) as sandbox,
        RecallSession(sandbox.api_key, base_url=sandbox.url) as recall,
    ):
        events = [event async for event in recall.calendar_events.list(is_deleted=False)]
        upcoming = [event for event in events if event.meeting_url and event.start_time > datetime.now().astimezone()]
        for event in upcoming[:10]:
            await recall.calendar_events.schedule_bot(event.id, deduplication_key=event.id)
        calendar_id = upcoming[0].calendar_id
        others = sum(event.calendar_id != calendar_id for event in upcoming[:10])
        sandbox.send_webhooks_to(url)
        sandbox.revoke(calendar_id)
        assert sandbox.report()["bots"] == others < 10
        assert (await recall.calendars.retrieve(calendar_id)).status == "disconnected"
        calendar = await recall.calendars.update(calendar_id, oauth_refresh_token="new")
        assert calendar.status == "connected"
        await until(lambda: not sandbox.webhooks()["pending"])
    assert inbox.verified(sandbox) == [CalendarUpdate(calendar_id)] * 2


async def test_headers_of_older_accounts():
    """An endpoint of an account from before December 2025 cannot be tried."""
    inbox = Inbox()
    async with receiver(inbox) as url, RecallSandbox(events=20, webhook_url=url, webhook_headers="svix") as sandbox:
        sandbox.mutate(1)
        await until(lambda: not sandbox.webhooks()["pending"])
    ((headers, body),) = inbox.requests[:1]
    svix.Webhook(sandbox.webhook_secret).verify(body, headers)
    assert not any(name.lower().startswith("webhook-") for name in headers)


async def test_message_ids_do_not_repeat_after_a_restart():
    """A receiver that remembers the ids it has seen takes the deliveries of a new sandbox for repeats."""
    inbox = Inbox()
    async with receiver(inbox) as url:
        for _ in range(2):
            async with RecallSandbox(events=20, webhook_url=url) as sandbox:
                sandbox.mutate(5)
                await until(lambda sandbox=sandbox: not sandbox.webhooks()["pending"])
    ids = [headers["Webhook-Id"] for headers, _ in inbox.requests]
    assert len(ids) == len(set(ids)) >= 10


async def test_a_new_calendar_is_told_to_its_own_address():
    """A calendar's own `webhook_url` is ignored, or the first sync of a new calendar is not told."""
    own, general = Inbox(), Inbox()
    async with (
        receiver(own) as own_url,
        receiver(general) as url,
        RecallSandbox(events=40, calendars=2, webhook_url=url, connect_after=0) as sandbox,
        RecallSession(sandbox.api_key, base_url=sandbox.url) as recall,
    ):
        calendar = await recall.calendars.create(
            platform="google_calendar",
            oauth_client_id="id",
            oauth_client_secret="secret",
            oauth_refresh_token="refresh",
            webhook_url=own_url,
        )
        assert calendar.status == "connecting"
        await until(lambda: sandbox.webhooks()["delivered"] == 4)  # nobody asks for it
        listed = recall.calendar_events.list(calendar_id=calendar.id)
        updated = {event.updated_at async for event in listed}
        connected = await recall.calendars.retrieve(calendar.id)
        assert (connected.status, connected.platform_email is None) == ("connected", False)
        sync = CalendarSyncEvents(calendar.id, min(updated))
        for inbox in (own, general):
            assert sorted(inbox.verified(sandbox), key=str) == [sync, CalendarUpdate(calendar.id)]
        sandbox.mutate(30)
        await until(lambda: not sandbox.webhooks()["pending"])
        told = {data.calendar_id for data in general.verified(sandbox)}
        assert told > {data.calendar_id for data in own.verified(sandbox)} == {calendar.id}


async def test_nothing_goes_to_production():
    """A test that creates a calendar with the address of production sends it deliveries of made-up changes."""
    async with RecallSandbox(events=40, calendars=1) as sandbox:
        calendar_id = sandbox.snapshot()["calendars"][0]["id"]
        async with RecallSession(sandbox.api_key, base_url=sandbox.url) as recall:
            for url in ("https://hooks.example/recall", "http://127.0.0.1.example/", "http://[::1"):
                await recall.calendars.update(calendar_id, webhook_url=url)
                sandbox.mutate(3)
                assert sandbox.webhooks() == {"delivered": 0, "failed": 0, "pending": 0}
            sandbox.send_webhooks_to("http://127.0.0.1:9/hooks")
            await recall.calendars.update(calendar_id, webhook_url="http://localhost:9/own")
            assert sandbox.webhooks()["pending"] == 2


async def test_a_sandbox_that_is_used_again_sends_webhooks():
    """The second use of a sandbox is silent."""
    inbox = Inbox()
    async with receiver(inbox) as url:
        sandbox = RecallSandbox(events=20, webhook_url=url)
        for number in (1, 2):
            async with sandbox:
                sandbox.mutate(1)
                await until(lambda: not sandbox.webhooks()["pending"])
            assert len(inbox.requests) >= number


async def test_a_calendar_with_an_address_that_is_none():
    """A URL that leads nowhere breaks the sandbox instead of the delivery."""
    async with RecallSandbox(events=40, calendars=1) as sandbox:
        for url in ("http://", "http://[", "http://\u0000/", "http://127.0.0.1:99999/"):
            sandbox.send_webhooks_to(url)
            sandbox.mutate(1)
            await asyncio.sleep(0)
        assert sandbox.webhooks()["delivered"] == 0
