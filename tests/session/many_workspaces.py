"""A program that works for many workspaces, one after the other, and says by how many MiB it grew.

    python -m tests.session.many_workspaces loop|loops|redis WORKSPACES [URL of Redis]

`loop`: all in one event loop, 50 at a time; `loops`: each in an event loop of its own; `redis`: as `loop`, with the quota in
Redis. Each makes three calls through a session of its own, with a window so long that all of them are in it at the end. Of
aiohttp there is only the interface.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recall_async import Quota, RecallSession
from recall_async.limits.contract import QuotaStore

DATA = Path(__file__).parents[1] / "data"
EVENT = (DATA / "event_documented.json").read_bytes()
PAGE = b'{"next": null, "previous": null, "results": []}'
ID = json.loads(EVENT)["id"]
QUOTA = Quota(600, 3600.0)
QUOTAS = dict.fromkeys(["calendar_events.retrieve", "calendar_events.schedule_bot", "calendars.list"], QUOTA)
AT_ONCE = 50


class Answer:
    """A response of aiohttp, as far as it is used."""

    status = 200
    closed = True
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.content_length = len(content)

    async def read(self) -> bytes:
        return self._content

    def release(self) -> None:
        pass


class Http:
    """A session of aiohttp, as far as it is used; it answers at once."""

    closed = False

    async def request(self, method: str, url: object, *, middlewares: Iterable[Any], **options: Any) -> Answer:
        return Answer(PAGE if str(url).partition("?")[0].endswith("/calendars/") else EVENT)


def resident() -> float:
    """MiB of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def work_for(workspace: str, store: QuotaStore | None) -> None:
    """Open a session, make three calls, and close it."""
    http: Any = Http()
    async with RecallSession(
        "key", base_url="http://127.0.0.1", workspace=workspace, http=http, quotas=QUOTAS, quota_store=store
    ) as recall:
        await recall.calendar_events.retrieve(ID)
        await recall.calendar_events.schedule_bot(ID, deduplication_key=workspace, bot_config={"bot_name": "Notes"})
        async for _ in recall.calendars.list():
            pass


async def in_turn(first: int, last: int, store: QuotaStore | None) -> None:
    for number in range(first, last, AT_ONCE):
        some = range(number, min(number + AT_ONCE, last))
        await asyncio.gather(*(work_for(f"customer {one}", store) for one in some))


def main(way: str, workspaces: int, url: str = "") -> None:
    """Work for so many workspaces."""

    def grown() -> float:
        gc.collect()
        return resident() - before

    async def in_one_loop() -> float:
        nonlocal before
        store: Any = None
        if url:
            from recall_async.limits.redis import RedisQuotaStore

            store = RedisQuotaStore.from_url(url)
            kept = store.open("kept", "calendar_events.retrieve", None)  # keeps the connection
        await in_turn(-600, 0, store)
        before = resident()
        await in_turn(0, workspaces, store)
        growth = grown()
        if url:
            kept.leave(None)
            await kept.flush()
        return growth

    before = 0.0
    if way == "loops":
        for number in range(-300, workspaces):
            if number == 0:
                before = resident()
            asyncio.run(work_for(f"customer {number}", None))
        growth = grown()
    else:
        growth = asyncio.run(in_one_loop())
    print(f"{growth:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
