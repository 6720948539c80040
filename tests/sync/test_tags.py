"""Plans whose bots carry tags: a changed configuration shows, and only what changed is sent again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recall_async import CalendarSyncer, ConfigurationError, Plan, RecallSession, RecordingPolicy
from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=60, calendars=3)


def policy(**config: Any) -> RecordingPolicy:
    return RecordingPolicy(bot_config={"bot_name": "Notes", **config})


async def apply(recall: RecallSession, plan: Plan) -> None:
    async for outcome in recall.apply(plan):
        assert outcome.error is None


def reasons(plan: Plan) -> dict[str | None, int]:
    found = [decision.reason for decision in plan]
    return {reason: found.count(reason) for reason in found}


async def test_a_changed_configuration_shows(recall: RecallSession, sandbox: RecallSandbox) -> None:
    """A bot keeps its old configuration for ever, or all bots are sent again to change a few."""
    await apply(recall, await recall.plan(policy=policy(), tag=True))
    assert not await recall.plan(policy=policy(), tag=True)
    bots = {bot["id"]: bot["config"] for bot in sandbox.snapshot()["bots"]}
    assert len(bots) > 20
    assert all(config["bot_name"] == "Notes" and len(config["metadata"]) == 3 for config in bots.values())
    changed = policy(metadata={"team": "sales"}, recording_config={"transcript": {}})
    plan = await recall.plan(policy=changed, tag=True)
    # One request for each bot, however many events share it.
    assert reasons(plan) == {"new configuration": len(bots)}
    plan = Plan.from_json(plan.to_json())
    assert reasons(plan) == {"new configuration": len(bots)}
    await apply(recall, plan)
    assert not await recall.plan(policy=changed, tag=True)
    after = {bot["id"]: bot["config"] for bot in sandbox.snapshot()["bots"]}
    assert after.keys() == bots.keys()
    assert all(config["metadata"]["team"] == "sales" for config in after.values())


async def test_back_and_forth_is_not_held_up(recall: RecallSession) -> None:
    """A team that changes its mind is told that its bots flap."""
    for name in ("one", "two", "one", "two", "one", "two"):
        await apply(recall, await recall.plan(policy=policy(bot_name=name), tag=True))
        assert not await recall.plan(policy=policy(bot_name=name), tag=True)


async def test_nothing_is_tagged_unless_it_is_asked_for(recall: RecallSession, sandbox: RecallSandbox) -> None:
    """Bots get metadata that nobody asked for, or untagged bots are all sent again because nothing is known of them."""
    await apply(recall, await recall.plan(policy=policy()))
    assert {str(bot["config"]) for bot in sandbox.snapshot()["bots"]} == {"{'bot_name': 'Notes'}"}
    assert not await recall.plan(policy=policy(bot_name="Other"))
    assert not await recall.plan(policy=policy(bot_name="Other"), tag=True)
    assert sandbox.report()["operations"]["bots.list"]["accepted"] >= 1


async def test_changed_events_are_tagged_without_a_list_of_bots(recall: RecallSession, sandbox: RecallSandbox) -> None:
    """Every round of a sync reads all bots of the workspace."""
    plan = await recall.plan(policy=policy(), tag=True)
    await apply(recall, plan)
    asked = sandbox.report()["operations"]["bots.list"]["peak"]
    sandbox.mutate(10)
    later = await recall.plan(policy=policy(bot_name="Other"), tag=True, updated_since=plan.watermark)
    assert sandbox.report()["operations"]["bots.list"]["peak"] == asked
    assert "new configuration" not in reasons(later)
    await apply(recall, later)
    for bot in sandbox.snapshot()["bots"]:
        (found,) = await recall.bots.find(deduplication_key=bot["key"])
        assert found.id == bot["id"]


async def test_an_odd_flag_is_refused(recall: RecallSession) -> None:
    """A typing mistake tags every bot of a workspace."""
    with pytest.raises(ConfigurationError, match="tag must be True or False"):
        await recall.plan(policy=policy(), tag="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [dict, lambda **config: dict(reversed(config.items()))])
async def test_order_of_fields_is_no_change(recall: RecallSession, make: Callable[..., dict[str, Any]]) -> None:
    """A configuration that is written in another order is sent to every bot again."""
    first = RecordingPolicy(bot_config={"a": {"x": 1, "y": 2}, "b": [1]})
    await apply(recall, await recall.plan(policy=first, tag=True))
    assert not await recall.plan(policy=RecordingPolicy(bot_config=make(b=[1], a={"y": 2, "x": 1})), tag=True)


async def test_a_syncer_tags_its_bots(recall: RecallSession, sandbox: RecallSandbox) -> None:
    """A service cannot tag its bots, so that a changed configuration never reaches them."""
    async with CalendarSyncer(recall, policy(), tag=True) as syncer:
        await syncer.drain()
    bots = sandbox.snapshot()["bots"]
    assert len(bots) > 20
    assert all(len(bot["config"]["metadata"]) == 3 for bot in bots)
    lists = sandbox.report()["operations"]["bots.list"]["accepted"]
    changed = policy(bot_name="Other")
    async with CalendarSyncer(recall, changed, tag=True) as syncer:
        await syncer.drain()
    assert {bot["config"]["bot_name"] for bot in sandbox.snapshot()["bots"]} == {"Other"}
    assert not await recall.plan(policy=changed, tag=True)
    # One list for all calendars of a full round.
    assert sandbox.report()["operations"]["bots.list"]["accepted"] <= lists + 2 * (len(bots) // 100 + 1)


async def test_a_syncer_tags_nothing_unless_it_is_asked_to(recall: RecallSession, sandbox: RecallSandbox) -> None:
    """A service lists all bots in each full round, or its bots get metadata that nobody asked for."""
    async with CalendarSyncer(recall, policy()) as syncer:
        await syncer.drain()
    assert all("metadata" not in bot["config"] for bot in sandbox.snapshot()["bots"])
    assert (
        "bots.list" not in sandbox.report()["operations"] or not sandbox.report()["operations"]["bots.list"]["accepted"]
    )
    with pytest.raises(ConfigurationError, match="tag must be True or False"):
        CalendarSyncer(recall, policy(), tag=1)  # type: ignore[arg-type]
