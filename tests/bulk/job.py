"""A bulk job in a process of its own: `python -m tests.bulk.job URL JOURNAL CONCURRENCY [BYTES]`.

With BYTES, files of this process cannot grow beyond so many, as on a full disk.
"""

from __future__ import annotations

import asyncio
import sys

from recall_async import Quota, RecallError, RecallSession, RemoveBot, ScheduleBot
from recall_async.bulk.actions import Action
from tests.bulk.world import event_id

OPERATIONS = ("calendar_events.schedule_bot", "calendar_events.remove_bot")


def actions() -> list[Action]:
    """Bots for 240 events, and on some of them changes of mind."""
    plan: list[Action] = [ScheduleBot(event_id(n), f"key-{n % 200}", {"bot_name": f"Bot {n}"}) for n in range(240)]
    plan += [RemoveBot(event_id(n)) for n in range(0, 240, 6)]
    plan += [ScheduleBot(event_id(n), f"key-{n % 200}", {"bot_name": f"Bot {n}"}) for n in range(0, 240, 12)]
    return plan


def expected() -> dict[int, dict[str, object]]:
    """The bots that are there in the end."""
    bots: dict[int, dict[str, object]] = {n: {f"key-{n % 200}": {"bot_name": f"Bot {n}"}} for n in range(240)}
    for n in range(6, 240, 12):
        bots[n] = {}
    return bots


async def main(url: str, journal: str, concurrency: str) -> None:
    quotas = dict.fromkeys(OPERATIONS, Quota(100_000, 60, burst=100_000))
    async with RecallSession("key", base_url=url, quotas=quotas) as recall:
        async for outcome in recall.bulk(actions(), concurrency=int(concurrency), journal=journal):
            if outcome.error is not None:
                raise outcome.error


if __name__ == "__main__":
    if len(sys.argv) > 4:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    try:
        asyncio.run(main(*sys.argv[1:4]))
    except RecallError as error:
        sys.exit(f"{type(error).__name__}: {error}")
