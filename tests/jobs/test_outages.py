"""What jobs say while their Redis is away."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from recall_async.jobs import JobError, JobQueue
from tests.redis.server import RedisProcess
from tests.redis.tls import untrusted_server


async def test_an_outage_is_logged_once(
    own_redis: Callable[..., RedisProcess], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would be silent for the whole patience, repeat itself with every attempt, or not speak of the next outage."""
    monkeypatch.setattr("recall_async.jobs.store.WARN_AFTER", 0.1)
    server = own_redis()

    def said() -> list[str]:
        return [record.message for record in caplog.records if record.levelno >= logging.WARNING]

    async with JobQueue.from_url(server.url, patience=0.8, socket_timeout=0.2) as jobs:
        for outage in (1, 2):
            server.freeze()
            for _ in range(2):
                with pytest.raises(JobError, match="has not responded"):
                    await jobs.list()
            assert len(said()) == outage
            server.thaw()
            assert await jobs.list() == []
    assert said()[0].startswith("the Redis of the jobs does not respond; waiting for up to 0.8 s: ")


async def test_a_short_outage_is_not_logged(
    own_redis: Callable[..., RedisProcess], caplog: pytest.LogCaptureFixture
) -> None:
    """Would fill the log each time a replica takes over."""
    server = own_redis()
    async with JobQueue.from_url(server.url, socket_timeout=0.3) as jobs:
        server.freeze()
        asking = asyncio.create_task(jobs.list())
        assert not (await asyncio.wait({asking}, timeout=0.7))[0]
        server.thaw()
        assert await asking == []
    assert caplog.records == []


def test_the_command_line_says_what_it_waits_for() -> None:
    """Would be silent for ten seconds."""
    words = [sys.executable, "-m", "recall_async", "jobs", "list", "--redis", "redis://127.0.0.1:1"]
    with subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert "does not respond; waiting for up to 10 s" in process.stderr.readline()
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
async def test_a_certificate_that_is_not_valid_is_not_waited_for(scheme: str) -> None:
    """Would wait for a minute, as in an outage, and say that Redis has not responded."""
    async with (
        untrusted_server() as address,
        asyncio.timeout(60.0),
        JobQueue.from_url(f"{scheme}://{address}", patience=600.0) as jobs,
    ):
        with pytest.raises(JobError, match=r"CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs") as raised:
            await jobs.list()
        assert not raised.value.may_pass
