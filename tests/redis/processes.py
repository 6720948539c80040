"""Processes that share a quota, watched from outside while things go wrong."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from recall_async.limits.redis.scripts import Keys, decode_usage, usage
from tests.redis.cluster import ClusterProcess
from tests.redis.sentinels import Watched
from tests.redis.server import RedisProcess

ROOT = Path(__file__).parents[2]
QUOTA = Keys("recall", "w", "calendar_events.schedule_bot")
SLOTS, LOOK = QUOTA.slots, usage(QUOTA)


class Worker:
    """A `tests.redis.worker`."""

    def __init__(self, redis: RedisProcess | ClusterProcess | Watched, base_url: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.redis.worker", "--redis", redis.url, "--base-url", base_url, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[dict[str, Any]]:
        """What it wrote of its calls, once it has ended; a line that a kill has torn is left out."""
        text, _ = self.process.communicate()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


class Watch:
    """How many slots are taken, sampled over time."""

    def __init__(self, redis: RedisProcess) -> None:
        self._client = Redis(port=redis.port, socket_timeout=0.3, retry=None)
        self.samples: list[tuple[float, int]] = []
        """Seconds of the machine's monotonic clock, and slots."""

    def started(self) -> float:
        """The moment at which all is under way: the first slots are taken."""
        while not self.samples or not self.samples[-1][1]:
            self.until(time.monotonic() + 0.05)
        return self.samples[-1][0]

    def until(self, end: float) -> None:
        """Sample until a moment of that clock."""
        while time.monotonic() < end:
            with contextlib.suppress(RedisError):
                script, keys, _ = LOOK
                seen = decode_usage(self._client.eval(script.text, len(keys), *keys))
                self.samples.append((time.monotonic(), seen.taken))
            time.sleep(0.05)

    def mean(self, begin: float, end: float) -> float:
        """The mean between two moments."""
        found = [taken for at, taken in self.samples if begin <= at < end]
        return sum(found) / len(found)

    def close(self) -> None:
        self._client.close()


def jain(shares: list[int]) -> float:
    """Jain's index of fairness: 1 where all have the same."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
