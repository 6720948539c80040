"""Connect to a Redis by its URL."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...errors import ConfigurationError


def redis_connect(url: str, **options: Any) -> Redis:
    """Return a client that connects on first use; `options` are redis-py's.

    The client does not retry: its users do, and log it. Raises `ConfigurationError` for an invalid URL or option.
    """
    try:
        client: Redis = Redis.from_url(url, **{"retry": Retry(NoBackoff(), 0), **options})
        pool: Any = client.connection_pool
        pool.make_connection()
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"Redis cannot be connected to like this: {error}") from None
    return client
