"""What is in use of a shared quota, for who only looks."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from recall_async import ConfigurationError, DeadlineExceededError, Quota, QuotaStoreUnavailableError
from recall_async.cli.app import app
from recall_async.limits.pace import DOUBT
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

SCHEDULE = "calendar_events.schedule_bot"


async def use(url: str, prefix: str) -> None:
    """Take two slots of five, and meet a 429."""
    lane = RedisQuotaStore.from_url(url, prefix=prefix).open("w", SCHEDULE, Quota(5, 30.0, burst=5))
    (await lane.admit()).answered()
    slot = await lane.admit()
    slot.rejected(20)
    lane.leave(Quota(5, 30.0, burst=5))
    await lane.flush()


async def test_usage_is_seen_by_others(shared_redis: RedisProcess, prefix: str) -> None:
    """Would show another quota than the one in use, or nothing of what the processes do."""
    await use(shared_redis.url, prefix)
    seen = await RedisQuotaStore.from_url(shared_redis.url, prefix=prefix).usage("w")
    lane, unused = seen[SCHEDULE], seen["calendars.list"]
    assert (lane.quota, lane.taken, lane.free) == (Quota(5, 30.0), 2, 3)
    assert lane.paused == pytest.approx(20, abs=2)
    assert lane.pace == pytest.approx((5 - DOUBT * 5**0.5) / 30, rel=0.05)
    assert (unused.quota, unused.taken, unused.paused, unused.pace) == (Quota(60, 60.0), 0, 0.0, None)
    assert len(asyncio.all_tasks()) == 1


async def test_looking_changes_nothing(shared_redis: RedisProcess, prefix: str) -> None:
    """Would create state for every name that somebody mistypes."""
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    await store.usage("w")
    lane = store.open("w", SCHEDULE, Quota(5, 30.0, burst=5))
    slot = await lane.admit()
    slot.unused()
    assert (await store.usage("nobody"))[SCHEDULE].taken == 0
    lane.leave(Quota(5, 30.0, burst=5))
    await lane.flush()


async def test_redis_that_is_not_there_is_reported() -> None:
    """Would show an empty quota, or a traceback of redis-py."""
    with pytest.raises(QuotaStoreUnavailableError, match="does not answer"):
        await RedisQuotaStore.from_url("redis://127.0.0.1:1").usage("w")


def test_command_shows_it(shared_redis: RedisProcess, prefix: str) -> None:
    """Would leave operators without a view of the shared quota."""
    asyncio.run(use(shared_redis.url, prefix))
    options = ["quota", "--redis", shared_redis.url, "--prefix", prefix, "--workspace", "w"]
    table = CliRunner().invoke(app, options)
    assert table.exit_code == 0, table.output
    row = next(line for line in table.stdout.splitlines() if line.startswith(SCHEDULE))
    assert row.split()[1:3] == ["2", "5"]
    assert "paused for" in row
    document = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert (document[SCHEDULE]["taken"], document[SCHEDULE]["free"]) == (2, 3)
    lonely = CliRunner().invoke(app, ["quota", "--watch"])
    assert lonely.exit_code == 2
    assert "--redis" in lonely.stderr


async def test_resume_ends_a_pause_for_calls_that_wait(
    shared_redis: RedisProcess, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would leave the calls of all processes waiting for years, because each has been told of the pause."""
    monkeypatch.setattr("recall_async.limits.redis.lane.LOOK_EVERY", 0.2)
    quota = Quota(5, 30.0, burst=5)
    lane = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix).open("w", SCHEDULE, quota)
    (await lane.admit()).rejected(1e9)
    waiting = asyncio.create_task(lane.admit())
    with pytest.raises(DeadlineExceededError):
        await lane.admit(until=asyncio.get_running_loop().time() + 10)
    operator = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    assert list(await operator.resume("w", SCHEDULE)) == [SCHEDULE]
    (await asyncio.wait_for(waiting, 5)).answered()
    assert lane.statistics().paused == 0
    assert await operator.resume("w") == {}
    with pytest.raises(ConfigurationError, match="operation must be one of"):
        await operator.resume("w", "schedule")
    lane.leave(quota)
    await lane.flush()


def test_command_ends_a_pause(shared_redis: RedisProcess, prefix: str) -> None:
    """Would leave operators without a way to end a pause that a server asked for by mistake."""
    asyncio.run(use(shared_redis.url, prefix))
    options = ["quota", "--resume", "--prefix", prefix, "--workspace", "w"]
    ended = CliRunner().invoke(app, [*options, "--redis", shared_redis.url])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith(f"{SCHEDULE}: ended a pause that had ")
    again = CliRunner().invoke(app, [*options, "--redis", shared_redis.url])
    assert again.stdout == "no operation of workspace w was paused\n"
    asyncio.run(use(shared_redis.url, prefix))
    document = json.loads(CliRunner().invoke(app, [*options, "--redis", shared_redis.url, "--json"]).stdout)
    assert document == {SCHEDULE: pytest.approx(20, abs=2)}
    assert CliRunner().invoke(app, options).exit_code == 2
    both = CliRunner().invoke(app, [*options, "--redis", shared_redis.url, "--watch"])
    assert (both.exit_code, "--resume and --watch exclude each other" in both.stderr) == (2, True)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_pause_that_ended_without_a_word(shared_redis: RedisProcess, prefix: str) -> None:
    """A script would take a pause that ended for one that did not, because what is printed does not fit on a disk."""
    asyncio.run(use(shared_redis.url, prefix))
    options = ["--resume", "--prefix", prefix, "--workspace", "w", "--redis", shared_redis.url]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "recall_async", "quota", *options]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1), ended.stderr
    assert CliRunner().invoke(app, ["quota", *options]).stdout == "no operation of workspace w was paused\n"


@pytest.mark.recall_sandbox(events=5)
def test_commands_share_it(shared_redis: RedisProcess, prefix: str, recall_sandbox: RecallSandbox) -> None:
    """A command beside a web backend would count for itself, and both would meet 429s."""
    env = {"RECALL_API_KEY": recall_sandbox.api_key, "RECALL_BASE_URL": recall_sandbox.url}
    env |= {"RECALL_REDIS_URL": shared_redis.url, "RECALL_WORKSPACE": None}
    for command in ("events", "calendars"):
        ran = CliRunner().invoke(app, [command, "--prefix", prefix], env=env)
        assert ran.exit_code == 0, ran.output
    document = json.loads(CliRunner().invoke(app, ["quota", "--prefix", prefix, "--json"], env=env).stdout)
    used = {name: row["taken"] for name, row in document.items() if row["taken"]}
    assert used == {"calendar_events.list": 1, "calendars.list": 1}


def test_watching_goes_on_until_it_is_interrupted(shared_redis: RedisProcess, prefix: str) -> None:
    """Would look once, or end with a traceback."""
    command = [sys.executable, "-m", "recall_async", "quota", "--watch", "--json", "--workspace", "w"]
    options = ["--redis", shared_redis.url, "--prefix", prefix]
    with subprocess.Popen(
        [*command, *options], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert SCHEDULE in json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
