"""Bots that somebody else put on an event: told from one's own by their keys, and left alone."""

from __future__ import annotations

from typing import Any

import pytest

from recall_async import BotSpec, Deduplication, KeyTemplate, RecordingPolicy
from recall_async.sync.decide import decide
from tests.sync.invitations import HOME, NOW, ZOOM, bot, calendar, event, uuid

ONE = event()
START = "2025-06-10T13:00:00.000Z"
OURS = f"{START}-{ZOOM}"


@pytest.mark.parametrize(
    ("scheme", "ours", "foreign"),
    [
        (
            Deduplication.MEETING,
            [OURS, f"2024-01-01T00:00:00.000Z-{uuid(7)}", f'{START}-{{"platform":"zoom"}}', f"{START}-sha256:00"],
            [
                "",
                "team-b",
                f"2025-06-10T13:00:00Z-{ZOOM}",
                f"2025-06-10T13:00:00+00:00-{ZOOM}",
                f"{START}-",
                f"x{OURS}",
            ],
        ),
        (
            Deduplication.COMPANY,
            [f"{OURS}-{HOME}", f"{OURS}-{uuid(1000)}", f"{START}-{uuid(1)}"],
            [OURS, "team-b", f"{START}-{HOME}"],
        ),
        (Deduplication.EVENT, [f"{OURS}-{uuid(1)}", f"{START}-{uuid(1)}"], [OURS, f"{OURS}-{uuid(2)}", uuid(1)]),
        (
            KeyTemplate("bot/{event_id}/{start_time}"),
            [f"bot/{uuid(1)}/{START}"],
            [f"bot/{uuid(2)}/{START}", f"Bot/{uuid(1)}/{START}", f"bot/{uuid(1)}/now"],
        ),
        (KeyTemplate("{start_time:%Y-%m-%d %H:%M}|{meeting_url}"), [f"2025-06-10 13:00|{ZOOM}"], [OURS, "team-b"]),
    ],
)
def test_keys_that_a_scheme_can_have_made(scheme: Any, ours: list[str], foreign: list[str]) -> None:
    """Another team's bot is taken for one's own, or one's own for another team's."""
    assert scheme.could_make(scheme(ONE, calendar()), ONE)
    assert [key for key in ours if not scheme.could_make(key, ONE)] == []
    assert [key for key in foreign if scheme.could_make(key, ONE)] == []


@pytest.mark.parametrize("scheme", [*Deduplication, KeyTemplate("{start_time}-{ical_uid}-{platform_id}-{calendar_id}")])
@pytest.mark.parametrize("url", [ZOOM, None, ZOOM + "x" * 3000, "https://x.example/\n"])
@pytest.mark.parametrize("home", [{}, {"platform_email": None}])
def test_every_scheme_knows_its_own_keys(scheme: Any, url: str | None, home: dict[str, Any]) -> None:
    """A bot that the policy itself sent is never removed."""
    for number in (1, 2):
        one = event(number, meeting_url=url, starts_in=17.5, ical_uid="a.b", platform_id=None)
        assert scheme.could_make(scheme(one, calendar(**home)), one)


def decided(*keys: str, spec: BotSpec | None = None, **options: Any) -> tuple[Any, Any]:
    bots = tuple(bot(key, number=number) for number, key in enumerate(keys, 2000))
    return decide(event(bots=bots), spec, now=NOW, is_ours=lambda key: key.startswith("ours"), **options)


SPEC = BotSpec("ours 1")


@pytest.mark.parametrize(
    ("expected", "keys", "options"),
    [
        (("skip", "foreign bot"), ["theirs"], {}),
        (("skip", "foreign bot"), ["ours 1", "theirs"], {}),
        (("remove", "policy"), ["theirs"], {"remove_foreign": True}),
        (("remove", "policy"), ["ours 1", "theirs"], {"remove_foreign": True}),
        (("remove", "policy"), ["ours 1"], {}),
        (("reschedule", "foreign bot"), ["theirs"], {"spec": SPEC}),
        (("reschedule", "new key"), ["theirs", "ours 2"], {"spec": SPEC}),
        (("keep", None), ["theirs", "ours 1"], {"spec": SPEC}),
    ],
)
def test_foreign_bots(expected: Any, keys: list[str], options: dict[str, Any]) -> None:
    """A bot that another team or a person put on an event is removed without a word, or replaced as if it were one's own."""
    assert decided(*keys, **options) == expected


async def schedule(recall: Any, policy: Any, **options: Any) -> Any:
    plan = await recall.plan(policy=policy, **options)
    outcomes = [outcome async for outcome in recall.apply(plan)]
    assert all(outcome.status == "done" for outcome in outcomes)
    return plan


async def test_a_persons_bot_stays(sandbox: Any, recall: Any) -> None:
    """A policy that leaves an event out takes away the bot that a person put there by hand."""
    nobody = RecordingPolicy(title_includes=["no such title"])
    first = await schedule(recall, RecordingPolicy())
    by_hand, *_, ours = first
    await recall.calendar_events.remove_bot(by_hand.event_id)
    await recall.calendar_events.schedule_bot(by_hand.event_id, deduplication_key="by hand")
    plan = await schedule(recall, nobody)
    assert plan.skipped["foreign bot"] == 1
    assert plan.removals == len(first) - 1
    assert plan.events_with_bots == len(first)
    assert (await recall.calendar_events.retrieve(by_hand.event_id)).bots[0].deduplication_key == "by hand"
    assert (await recall.calendar_events.retrieve(ours.event_id)).bots == ()
    assert not await recall.plan(policy=nobody)
    taken = await schedule(recall, nobody, remove_foreign=True)
    assert [change.event_id for change in taken] == [by_hand.event_id]


async def test_what_replaces_a_foreign_bot_says_so(sandbox: Any, recall: Any) -> None:
    """A plan that replaces other people's bots looks like one that moves its own."""
    event_id = next(iter(await recall.plan(policy=RecordingPolicy()))).event_id
    await recall.calendar_events.schedule_bot(event_id, deduplication_key="by hand")
    plan = await recall.plan(policy=RecordingPolicy())
    (decision,) = [change for change in plan if change.event_id == event_id]
    assert (decision.kind, decision.reason) == ("reschedule", "foreign bot")
    assert "1 of the bots to reschedule are foreign" in str(plan)


async def test_a_function_cannot_tell(sandbox: Any, recall: Any) -> None:
    """A scheme that is a function makes every bot foreign."""
    policy = RecordingPolicy(deduplication=lambda event, calendar: event.id)
    await schedule(recall, policy)
    plan = await recall.plan(policy=RecordingPolicy(title_includes=["x y z"], deduplication=policy.deduplication))
    assert plan.removals > 90
