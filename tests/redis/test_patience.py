"""How long calls without a deadline wait for a Redis that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from recall_async import ConfigurationError, Priority, Quota, QuotaStoreUnavailableError
from recall_async.cli.app import app
from recall_async.limits.redis import RedisQuotaStore
from tests.redis.opened import answered, impatient, opened
from tests.redis.server import RedisProcess

QUOTA = Quota(10, 0.5, burst=10)
NOWHERE = ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/name"]


@pytest.mark.parametrize("url", NOWHERE)
async def test_calls_end_after_the_patience_of_their_store(url: str, prefix: str) -> None:
    """Would leave a program without a deadline waiting for ever."""
    loop = asyncio.get_running_loop()
    async with opened(url, prefix=prefix) as start:
        lane, begin = start(QUOTA, patience=0.5), loop.time()
        calls = [lane.admit(priority) for priority in (*Priority, *Priority)]
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20.0)
        assert loop.time() - begin >= 0.5
        assert [type(end) for end in ends] == [QuotaStoreUnavailableError] * len(calls)
        assert "kept in Redis, which has not answered for" in str(ends[0])
        patient = asyncio.create_task(start(QUOTA).admit())
        assert not (await asyncio.wait({patient}, timeout=1.2))[0]
        patient.cancel()
        await asyncio.wait({patient})


async def test_a_frozen_server_ends_calls_too_and_is_used_again(own_redis: Callable[..., RedisProcess]) -> None:
    """Would notice only refused connections, or keep failing calls when the server is back."""
    server = own_redis()
    with impatient(outage_timeout=0.3):
        async with opened(server.url) as start:
            lane = start(QUOTA, patience=0.5)
            await answered(lane)
            server.freeze()
            with pytest.raises(QuotaStoreUnavailableError, match="has not answered"):
                await asyncio.wait_for(lane.admit(), 20.0)
            server.thaw()
            async with asyncio.timeout(20.0):
                while True:
                    try:
                        await answered(lane)
                        break
                    except QuotaStoreUnavailableError:
                        continue


async def test_who_has_a_reserve_goes_on(prefix: str) -> None:
    """Would fail the calls that the local reserve is for."""
    async with opened(NOWHERE[0], prefix=prefix, local_reserve=2, patience=0.3) as start:
        lane = start(QUOTA)
        await asyncio.wait_for(asyncio.gather(*(answered(lane) for _ in range(5))), 20.0)


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "1", True])
def test_patience_is_checked(patience: object) -> None:
    """Would fail with a TypeError in the first outage."""
    with pytest.raises(ConfigurationError, match=r"^patience must be"):
        RedisQuotaStore.from_url("redis://127.0.0.1", patience=patience)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [["events"], ["calendars", "list"]])
def test_commands_end_with_an_error_that_names_redis(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Would print one warning, and then wait for ever."""
    monkeypatch.setattr("recall_async.cli.connection.REDIS_PATIENCE", 0.3)
    env = {"RECALL_API_KEY": "key", "RECALL_BASE_URL": "http://127.0.0.1:1"}
    result = CliRunner().invoke(app, [*command, "--redis", NOWHERE[0]], env=env)
    assert result.exit_code == 1, result.output
    assert "Redis, which has not answered for" in result.stderr
    assert "Traceback" not in result.output
