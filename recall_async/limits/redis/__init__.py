"""A quota kept in Redis, for many processes and hosts."""

from __future__ import annotations

from .store import RedisQuotaStore

__all__ = ["RedisQuotaStore"]
