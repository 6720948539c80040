"""2,000 events in 8 calendars, against what an independent look at the server's data says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web

from recall_async import CalendarSyncer, Plan, RecallSession, RecordingPolicy
from recall_async.sandbox import RecallSandbox
from recall_async.webhooks import WebhookVerifier
from tests.sync.brute_force import POLICY, actual, distinct_keys, expected
from tests.sync.conftest import SCALE, connected, sent
from tests.webhooks.receiver import receiver, until


def check(sandbox: RecallSandbox) -> int:
    """Bots are where they belong, one for each key; how many places that makes."""
    snapshot = sandbox.snapshot()
    places = expected(snapshot)
    assert actual(snapshot) == places
    keys = [bot["key"] for bot in snapshot["bots"]]
    assert len(keys) == len(set(keys)) == distinct_keys(places)
    return len(places)


def throttled(sandbox: RecallSandbox) -> int:
    return sum(row["throttled"] for row in sandbox.report()["operations"].values())


async def apply(recall: RecallSession, plan: Plan) -> None:
    async for outcome in recall.apply(plan):
        assert outcome.error is None


@pytest.mark.slow
async def test_two_thousand_events_and_three_hundred_changes():
    """Bots stay behind, are sent twice or not at all, or requests are made that change nothing."""
    policy = RecordingPolicy(**POLICY)
    async with RecallSandbox(events=2000, calendars=8, quota_scale=SCALE) as sandbox, connected(sandbox) as recall:
        plan = await recall.plan(policy=policy)
        await apply(recall, plan)
        places = check(sandbox)
        assert places == plan.requests == sent(sandbox)["schedule_bot"] > 300
        assert distinct_keys(expected(sandbox.snapshot())) < places
        assert len(await recall.plan(policy=policy)) == 0

        before = actual(sandbox.snapshot())
        verifier = WebhookVerifier(sandbox.webhook_secret)
        async with CalendarSyncer(recall, policy) as syncer, receiver(_handler(verifier, syncer)) as url:
            sandbox.send_webhooks_to(url)
            sandbox.mutate(300)
            snapshot = sandbox.snapshot()
            await until(lambda: not sandbox.webhooks()["pending"])
        check(sandbox)
        assert sandbox.webhooks()["failed"] == 0
        assert sum(sent(sandbox).values()) - places == _changes(before, snapshot) > 50
        assert len(await recall.plan(policy=policy)) == 0
        assert throttled(sandbox) == 0


def _handler(verifier: WebhookVerifier, syncer: CalendarSyncer) -> Any:
    async def handle(request: web.BaseRequest) -> web.Response:
        await syncer.handle(verifier.verify(request.headers, await request.read()))
        return web.Response(status=204)

    return handle


def _changes(before: set[Any], snapshot: dict[str, Any]) -> int:
    """How many events need a request: those whose bot is another one than it should be. The server removes bots itself
    from events that are deleted."""
    deleted = {event["id"] for event in snapshot["events"] if event["is_deleted"]}
    there = {place for place in before if place.event_id not in deleted}
    return len({place.event_id for place in there ^ expected(snapshot)})


APPLY = """
import asyncio, sys
from pathlib import Path
from recall_async import Plan, RecallSession

async def main():
    async with RecallSession() as recall:
        plan = Plan.from_json(Path(sys.argv[1]).read_text())
        async for outcome in recall.apply(plan, journal=sys.argv[2], concurrency=4):
            print(outcome.status, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_killed_in_the_middle_and_started_over(tmp_path):
    """A plan whose process was killed leaves another state than one that was left in peace."""
    policy = RecordingPolicy(**POLICY)
    stored, journal = tmp_path / "plan.json", tmp_path / "results.jsonl"
    async with RecallSandbox(events=300, calendars=4, quota_scale=SCALE) as sandbox, connected(sandbox) as recall:
        sandbox.set_latency(0.01, 0.01)
        plan = await recall.plan(policy=policy)
        stored.write_text(plan.to_json())
        environment = {"RECALL_BASE_URL": sandbox.url, "RECALL_API_KEY": sandbox.api_key}
        for lines in (10, 20, None):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", APPLY, str(stored), str(journal), env=environment, stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            if lines is None:
                await child.communicate()
                assert child.returncode == 0
                continue
            for _ in range(lines):
                assert await child.stdout.readline()
            child.kill()
            await child.communicate()
        check(sandbox)
        assert plan.requests <= sent(sandbox)["schedule_bot"] <= plan.requests + 2 * 4
        assert not await recall.plan(policy=policy)
        sandbox.mutate(100)
        # Started over with a plan of its own instead of a journal
        second = await recall.plan(policy=policy)
        run = recall.apply(second, concurrency=2)
        async for _ in run:
            if run.progress.finished > 3:
                break
        await run.aclose()
        await apply(recall, await recall.plan(policy=policy))
        check(sandbox)


async def test_an_unreliable_network():
    """Resets, cut answers and overload leave bots behind, or a calendar that nobody looks at any more."""
    policy = RecordingPolicy(**POLICY)
    errors = []
    async with RecallSandbox(events=300, calendars=4, quota_scale=SCALE) as sandbox, connected(sandbox) as recall:
        verifier = WebhookVerifier(sandbox.webhook_secret)
        syncer = CalendarSyncer(recall, policy, backoff=0.01, on_error=lambda *error: errors.append(error))
        async with receiver(_handler(verifier, syncer)) as url:
            await syncer.catch_up([calendar["id"] for calendar in sandbox.snapshot()["calendars"]])
            await syncer.drain()
            for kind in ("reset", "truncate", "status"):
                sandbox.fault(kind=kind, probability=0.25, times=None)
            sandbox.send_webhooks_to(url)
            for _ in range(10):
                sandbox.mutate(10)
                await asyncio.sleep(0.02)
            await until(lambda: not sandbox.webhooks()["pending"])
            await until(lambda: len(errors) > 3 or not syncer.busy)
            sandbox.clear_faults()
            await syncer.drain()
            await syncer.aclose()
        check(sandbox)
        assert errors


@pytest.mark.parametrize("shared_bots", ["detach", "update"])
@pytest.mark.parametrize("by_calendar", [False, True])
async def test_unusual_invitations_and_bots_that_are_updated_in_place(shared_bots, by_calendar):
    """Odd payloads, or bots that the server changes for all events that share them, make plans that never get empty."""
    policy = RecordingPolicy(**POLICY)
    options = {"unusual": 0.3, "shared_bots": shared_bots, "quota_scale": SCALE}
    async with RecallSandbox(events=300, calendars=6, **options) as sandbox, connected(sandbox) as recall:
        calendars = [[calendar["id"]] for calendar in sandbox.snapshot()["calendars"]] if by_calendar else [None]
        for changes in (0, 60, 60, 60, 0):
            sandbox.mutate(changes)
            for scope in calendars:
                await apply(recall, await recall.plan(policy=policy, calendars=scope))
        await apply(recall, await recall.plan(policy=policy))
        plan = await recall.plan(policy=policy)
        assert (len(plan), plan.flapping) == (0, ())
        keys = [bot["key"] for bot in sandbox.snapshot()["bots"]]
        assert len(keys) == len(set(keys)) > 50
