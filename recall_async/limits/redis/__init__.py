"""Quotas stored in Redis, shared by many processes and hosts."""

from __future__ import annotations

from .store import RedisQuotaStore

__all__ = ["RedisQuotaStore"]
