"""`RedisLatest` on a real server, by several clients at the same time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from recall_async import Latest, RedisLatest, WebhookEvent
from recall_async.webhooks import BotChange, Subject
from recall_async.webhooks.latest import STORED_FOR
from tests.redis.server import RedisProcess

WHEN = datetime(2025, 6, 10, 18, 54, 18, 951234, UTC)


def change(microseconds: int) -> WebhookEvent:
    moment = WHEN + timedelta(microseconds=microseconds)
    return WebhookEvent("bot.done", BotChange(bot=Subject("b1"), code="done", updated_at=moment))


async def test_processes_share_what_is_latest(shared_redis: RedisProcess, prefix: str) -> None:
    """Two processes that take deliveries of one bot accept an old one, or a key stays in Redis for ever."""
    clients = [Redis.from_url(shared_redis.url, decode_responses=number == 1) for number in range(3)]
    try:
        each = [Latest(RedisLatest(client, f"{prefix}:")) for client in clients]
        await asyncio.gather(*(each[number % 3].accepts(change(number * 7 % 100)) for number in range(100)))
        for latest in each:
            assert await latest.accepts(change(99))
            assert not await latest.accepts(change(98))
        assert 0 < await clients[0].ttl(f"{prefix}:bot:b1") <= STORED_FOR.total_seconds()
    finally:
        for client in clients:
            await client.aclose()
