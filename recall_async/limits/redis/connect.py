"""How this package connects to a Redis that it is given the URL of."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...errors import ConfigurationError


def redis_connect(url: str, **options: Any) -> Redis:
    """Make a client, which connects when it is used; `options` are redis-py's.

    It does not try again by itself: those who use it do, and say so. Raises `ConfigurationError` for an invalid URL or
    option.
    """
    try:
        client: Redis = Redis.from_url(url, **{"retry": Retry(NoBackoff(), 0), **options})
        pool: Any = client.connection_pool
        pool.make_connection()
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"Redis cannot be connected to like this: {error}") from None
    return client
