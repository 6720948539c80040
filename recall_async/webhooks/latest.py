"""`Latest`: drop deliveries that are older than an earlier one about the same bot, recording or transcript.

Deliveries are repeated for more than a day and arrive out of order, so a handler that writes each status into its
database may end with an old one. `Latest` compares the times in the deliveries and uses no clock.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from ..errors import ConfigurationError
from ..reading import check_replaceable
from ..replacing import replace_file
from .events import BotChange, RecordingChange, TranscriptChange, WebhookEvent

STORED_FOR = timedelta(days=7)
"""Times older than this before the newest one are dropped: deliveries repeat for little more than a day."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FEW = 1000


class LatestStore(Protocol):
    """Stores the newest time of each subject."""

    async def advance(self, subject: str, moment: int) -> bool:
        """Store `moment` (microseconds since 1970) unless a later one is stored. Return False if there is a later one.

        The comparison and the write are atomic.
        """


class Latest:
    """Distinguish deliveries that are up to date from outdated ones.

        if not await latest.accepts(event):
            return Response(status_code=204)

    - `store`: where to store the times: in memory by default, `FileLatest(path)` for one process that restarts, or
      `RedisLatest(client)` for several processes.

    A repeated delivery is accepted again, because the handler may have failed the first time.
    docs/webhooks.md
    """

    def __init__(self, store: LatestStore | None = None) -> None:
        self._store = store or MemoryLatest()

    async def accepts(self, event: WebhookEvent) -> bool:
        """Return False if a newer delivery about the same bot, recording or transcript was accepted.

        Kinds without an order, such as logs and calendar events, are always accepted.
        """
        match event.data:
            case BotChange(bot=subject, updated_at=moment):
                name = f"bot:{subject.id}"
            case RecordingChange(recording=subject, updated_at=moment):
                name = f"recording:{subject.id}"
            case TranscriptChange(transcript=subject, updated_at=moment):
                name = f"transcript:{subject.id}"
            case _:
                return True
        return await self._store.advance(name, (moment - _EPOCH) // _MICROSECOND)


class MemoryLatest:
    """Store the times in memory: they are lost when the process ends."""

    def __init__(self) -> None:
        self._moments: dict[str, int] = {}
        self._newest = 0
        self._full = _FEW

    async def advance(self, subject: str, moment: int) -> bool:
        return self._advance(subject, moment)

    def _advance(self, subject: str, moment: int) -> bool:
        if moment < self._moments.get(subject, moment):
            return False
        self._moments[subject] = moment
        self._newest = max(self._newest, moment)
        if len(self._moments) > self._full:
            oldest = self._newest - STORED_FOR // _MICROSECOND
            self._moments = {name: known for name, known in self._moments.items() if known >= oldest}
            # Scanning all times only when their number has doubled keeps the average cost constant.
            self._full = max(_FEW, 2 * len(self._moments))
        return True


class FileLatest(MemoryLatest):
    """Store the times in a JSON file, for one process. A crash cannot damage the file.

    Raises `ConfigurationError` if the file has other content, and for a device or a pipe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        check_replaceable("path", path)
        self._path = Path(path)
        self._writing = asyncio.Lock()
        self._written = self._unwritten = 0
        for subject, moment in self._read().items():
            self._advance(subject, moment)

    async def advance(self, subject: str, moment: int) -> bool:
        if not self._advance(subject, moment):
            return False
        self._unwritten += 1
        # The write continues in its thread after a cancellation; without the shield, the next write could overtake it.
        await asyncio.shield(asyncio.create_task(self._flush(self._unwritten)))
        return True

    async def _flush(self, number: int) -> None:
        async with self._writing:
            if self._written < number:  # otherwise the write of another delivery included this one
                upto, text = self._unwritten, json.dumps(self._moments)
                await asyncio.to_thread(replace_file, self._path, text.encode())
                self._written = upto

    def _read(self) -> dict[str, int]:
        try:
            document = json.loads(self._path.read_bytes())
            if not all(isinstance(moment, int) for moment in document.values()):
                raise ValueError("its values must be whole numbers")
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, RecursionError) as error:
            raise ConfigurationError(f"{self._path} must contain what FileLatest wrote: {error}") from error
        return dict(document)


class RedisClient(Protocol):
    """The method of `redis.asyncio.Redis` that `RedisLatest` uses."""

    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> Awaitable[object]:
        """Run a script."""


_ADVANCE = """
local known = redis.call('GET', KEYS[1])
if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class RedisLatest:
    """Store the times in Redis for a week, one key per subject. The caller closes the client."""

    def __init__(self, client: RedisClient, prefix: str = "recall:latest:") -> None:
        self._client = client
        self._prefix = prefix

    async def advance(self, subject: str, moment: int) -> bool:
        seconds = str(int(STORED_FOR.total_seconds()))
        return bool(await self._client.eval(_ADVANCE, 1, self._prefix + subject, str(moment), seconds))
