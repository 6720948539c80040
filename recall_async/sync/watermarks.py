"""Stores for the watermarks of a `CalendarSyncer`: up to when each calendar is synced. In memory, a file, or Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..lenient import parse_time
from ..reading import check_replaceable
from ..replacing import replace_file

logger: logging.Logger = logging.getLogger("recall_async")


class WatermarkStore(Protocol):
    """Stores one time per calendar. The syncer logs the exceptions of its methods and continues."""

    async def get(self, calendar_id: str) -> datetime | None:
        """Return the time that was set last, or `None`."""

    async def set(self, calendar_id: str, moment: datetime) -> None:
        """Store this time."""


class MemoryWatermarks:
    """Watermarks in memory, lost when the process ends."""

    def __init__(self) -> None:
        self._moments: dict[str, datetime] = {}

    async def get(self, calendar_id: str) -> datetime | None:
        return self._moments.get(calendar_id)

    async def set(self, calendar_id: str, moment: datetime) -> None:
        self._moments[calendar_id] = moment


class FileWatermarks:
    """Watermarks in a JSON file, for one process. The file is replaced atomically, so a crash cannot damage it.

    If the file has other content, it is renamed to end in `.corrupt`, a warning is logged, and the store begins empty.
    Raises `ConfigurationError` for a device or a pipe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_replaceable("path", path)
        self._path = Path(path)
        self._moments = self._read()
        self._writing = asyncio.Lock()

    async def get(self, calendar_id: str) -> datetime | None:
        return self._moments.get(calendar_id)

    async def set(self, calendar_id: str, moment: datetime) -> None:
        async with self._writing:
            moments = self._moments | {calendar_id: moment}
            await asyncio.to_thread(self._write, moments)
            self._moments = moments

    def _read(self) -> dict[str, datetime]:
        try:
            document = json.loads(self._path.read_bytes())
            return {calendar_id: parse_time(text) for calendar_id, text in document.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            self._set_aside(error)
            return {}

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{self._path.name}.corrupt")
        try:
            os.replace(self._path, aside)
        except OSError as reason:
            # The file is replaced with the first watermark, or that fails in the same way and is logged.
            logger.warning("%s does not contain watermarks (%s) and cannot be renamed: %s", self._path, error, reason)
        else:
            logger.warning("%s did not contain watermarks (%s): renamed to %s", self._path, error, aside)

    def _write(self, moments: dict[str, datetime]) -> None:
        document = {calendar_id: moment.isoformat() for calendar_id, moment in sorted(moments.items())}
        replace_file(self._path, json.dumps(document, indent=1).encode())


class RedisClient(Protocol):
    """The methods of `redis.asyncio.Redis` that `RedisWatermarks` uses."""

    def get(self, name: str) -> Awaitable[bytes | str | None]:
        """Return the value of a key."""

    def set(self, name: str, value: str) -> Awaitable[object]:
        """Set a key."""


class RedisWatermarks:
    """Watermarks in Redis, one key per calendar. The caller closes the client."""

    def __init__(self, client: RedisClient, prefix: str = "recall:watermark:") -> None:
        self._client = client
        self._prefix = prefix

    async def get(self, calendar_id: str) -> datetime | None:
        value = await self._client.get(self._prefix + calendar_id)
        return None if value is None else parse_time(value.decode() if isinstance(value, bytes) else value)

    async def set(self, calendar_id: str, moment: datetime) -> None:
        await self._client.set(self._prefix + calendar_id, moment.isoformat())
