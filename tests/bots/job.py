"""A bulk job of one action in a process of its own: `python -m tests.bots.job URL EVENT_ID KEY JOURNAL`."""

from __future__ import annotations

import asyncio
import sys

from recall_async import RecallSession, ScheduleBot, tagged


def action(event_id: str, key: str) -> ScheduleBot:
    config = tagged({"bot_name": "Notes"}, event_id=event_id, deduplication_key=key)
    return ScheduleBot(event_id, key, config)


async def main(url: str, event_id: str, key: str, journal: str) -> None:
    async with RecallSession("sandbox-key", base_url=url) as recall:
        async for _ in recall.bulk([action(event_id, key)], journal=journal):
            pass


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
