"""What the errors of Redis and of its client do to the calls that wait, and to those of other lanes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from recall_async import Quota, QuotaStoreUnavailableError
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.failures import advice, code, refuses, unsettled
from recall_async.limits.redis.link import Link
from recall_async.limits.redis.wire import Wire
from tests.redis.opened import OPERATION, answered, opened
from tests.redis.server import RedisProcess
from tests.redis.tls import untrusted_server

QUOTA = Quota(1000, 60.0, burst=1000)
BROKEN = f"recall:{{broken/{OPERATION}}}:slots"

StartRedis = Callable[..., RedisProcess]


async def test_sentinels_that_name_no_master_are_told_without_their_passwords() -> None:
    """Would log, and quote in errors, how redis-py shows its clients: with the password, and in hundreds of characters."""
    pool = (
        "<redis.asyncio.connection.ConnectionPool(<redis.asyncio.connection.Connection(username=u,password=hunter2)>)>"
    )
    one = f"<redis.asyncio.client.Redis({pool})> - ConnectionError('refused')"
    other = f"<redis.asyncio.client.Redis({pool})> - AuthenticationError('WRONGPASS no (x)')"
    said = advice(MasterNotFoundError(f"No master found for 'quotas' : {one}, {other}"))
    assert said.startswith(
        "No master found for 'quotas' : ConnectionError('refused'), AuthenticationError('WRONGPASS no (x)'): see whether"
    )
    url = "redis+sentinel://127.0.0.1:1/quotas?sentinel_password=hunter2"
    with pytest.raises(QuotaStoreUnavailableError, match=r"No master found for 'quotas'.*: see whether") as raised:
        await RedisQuotaStore.from_url(url).usage("w")
    assert "<" not in f"{raised.value} {raised.value.__cause__}"  # which a traceback shows
    assert raised.value.__cause__ is not None
    assert raised.value.__cause__.__suppress_context__


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
async def test_calls_do_not_wait_for_a_server_whose_certificate_is_not_valid(scheme: str) -> None:
    """Would wait for ever, as in an outage, for a URL that lacks the certificate authority."""
    async with untrusted_server() as address, asyncio.timeout(10.0):
        store = RedisQuotaStore.from_url(f"{scheme}://:hunter2@{address}")
        lane = store.open("w", OPERATION, QUOTA)
        for call in (lane.admit, partial(store.usage, "w")):
            with pytest.raises(QuotaStoreUnavailableError, match=r"CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs") as raised:
                await call()
            assert "hunter2" not in str(raised.value)
        lane.leave(QUOTA)
        await lane.flush()
        await store.aclose()


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (ConnectionError("reset"), False),
        (TimeoutError(), False),
        (OSError("no route"), False),
        (AttributeError("'NoneType' object has no attribute 'write'"), False),
        (BusyLoadingError("Redis is loading the dataset in memory"), False),
        (ReadOnlyError("You can't write against a read only replica."), False),
        (MasterDownError("Link with MASTER is down"), False),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (ResponseError("BUSY Redis is busy running a script."), False),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), False),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), False),
        (
            ResponseError("Error running script (call to f_0): @user_script:12: -READONLY You can't write"),
            False,
        ),
        (AuthenticationError("invalid username-password pair"), True),
        (NoPermissionError("this user has no permissions"), True),
        (MovedError("866 127.0.0.1:7001"), True),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), True),
        (ResponseError("unknown command"), True),
    ],
)
def test_every_error_has_one_meaning(error: Exception, refusal: bool) -> None:
    """Would wait for ever for what Redis refuses, or fail calls because of an outage."""
    assert refuses(error) is refusal


@pytest.mark.parametrize(
    ("error", "known", "is_unsettled"),
    [
        (ReadOnlyError("You can't write against a read only replica."), "You", True),
        (MasterDownError("Link with MASTER is down"), "Link", True),
        (ResponseError("READONLY You can't write"), "READONLY", True),
        (ResponseError("MASTERDOWN Link with MASTER is down"), "MASTERDOWN", True),
        (ResponseError("CLUSTERDOWN Hash slot not served"), "CLUSTERDOWN", True),
        (ResponseError("TRYAGAIN Multiple keys"), "TRYAGAIN", True),
        (ResponseError("Error running script (call to f_0): @user_script:12: -READONLY You can't"), "READONLY", True),
        (ResponseError("LOADING Redis is loading"), "LOADING", False),
        (ResponseError("OOM command not allowed"), "OOM", False),
        (ConnectionError("reset"), "reset", False),
        (ConnectionError(), "", False),
    ],
)
def test_servers_that_do_not_serve_the_keys_now(error: Exception, known: str, is_unsettled: bool) -> None:
    """Would take a failover for an empty database, or a server that is loading for a failover."""
    assert code(error) == known
    assert unsettled(error) is is_unsettled


@pytest.mark.parametrize("kind", [MovedError, ResponseError])
def test_node_of_a_cluster_used_as_a_server_is_advised(kind: type[Exception]) -> None:
    """Would leave the user of a cluster with a number of a hash slot."""
    text = advice(kind("866 10.0.0.1:7001" if kind is MovedError else "MOVED 866 10.0.0.1:7001"))
    assert text.startswith("MOVED 866 10.0.0.1:7001: this server is one node of a Redis Cluster")
    assert text.endswith("Use a redis+cluster:// URL, or pass a redis.asyncio.RedisCluster")


def test_errors_are_shown_with_advice_only_where_it_helps() -> None:
    """Would show an empty message, or advise on permissions where none is missing."""
    plain = "This instance has cluster support disabled"
    assert advice(ResponseError(plain)) == f"{plain}: this server is not a node of a Redis Cluster. Use a redis:// URL"
    assert advice(ConnectionError("reset by peer")) == "reset by peer"
    assert advice(TimeoutError()) == "TimeoutError"


@asynccontextmanager
async def address(port: int) -> AsyncIterator[dict[str, int]]:
    """An address that stays the same while what it leads to changes: `leads_to`; its own port is `port`."""
    where = {"leads_to": port}

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", where["leads_to"])
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    where["port"] = server.sockets[0].getsockname()[1]
    try:
        yield where
    finally:
        server.close()


async def test_failover_behind_one_address_is_followed(own_redis: StartRedis) -> None:
    """Would keep the connection to a primary that has become a replica, and wait there for ever."""
    old, new = own_redis(), own_redis()
    async with Redis.from_url(old.url) as one, Redis.from_url(new.url) as two, address(old.port) as where:
        lane_url = f"redis://127.0.0.1:{where['port']}"
        async with opened(lane_url, longest_request=0.3) as open_lane:
            lane = open_lane(Quota(10, 0.2))
            await answered(lane)
            where["leads_to"] = new.port
            await one.execute_command("REPLICAOF", "127.0.0.1", str(new.port))
            assert (await two.info("replication"))["role"] == "master"
            await answered(lane, within=20)  # after the lease: the new primary may lack what was granted last
            assert await two.exists(f"recall:{{w/{OPERATION}}}:state")


async def test_replica_is_an_outage(own_redis: StartRedis) -> None:
    """Would fail calls in a failover, which lasts a moment, or not go on after it."""
    server = own_redis()
    async with Redis.from_url(server.url) as client, opened(server.url) as open_lane:
        lane = open_lane(QUOTA)
        await answered(lane)
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        waiting = asyncio.create_task(answered(lane))
        done, _ = await asyncio.wait({waiting}, timeout=0.4)
        assert not done
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await waiting


async def test_full_memory_is_an_outage(own_redis: StartRedis) -> None:
    """Would fail calls for ever after Redis was full once."""
    server = own_redis("--maxmemory-policy", "noeviction")
    async with Redis.from_url(server.url) as client, opened(server.url) as open_lane:
        lane = open_lane(QUOTA)
        await answered(lane)
        await client.config_set("maxmemory", 1)
        with pytest.raises(QuotaStoreUnavailableError, match="maxmemory"):
            await answered(lane, within=0.4)
        await client.config_set("maxmemory", 0)
        await answered(lane)


async def test_refused_lane_fails_at_once_and_delays_no_other(own_redis: StartRedis) -> None:
    """Would slow all workspaces of a process down to one request a second because of one whose key is broken."""
    server = own_redis()
    async with Redis.from_url(server.url) as client, opened(server.url) as open_lane:
        await client.set(BROKEN, "not a sorted set")
        store = RedisQuotaStore.from_url(server.url)
        good, broken = open_lane(QUOTA, "good", store), open_lane(QUOTA, "broken", store)
        connections = (await client.info("stats"))["total_connections_received"]

        async def hammer() -> None:
            while True:
                with pytest.raises(QuotaStoreUnavailableError, match="WRONGTYPE"):
                    await broken.admit()
                await asyncio.sleep(0)

        hammering = asyncio.create_task(hammer())
        for _ in range(200):
            await answered(good, within=5)
        assert good.statistics().admitted == 200
        assert not hammering.done()
        hammering.cancel()
        await asyncio.wait({hammering})
        # One connection, at which nobody took offence.
        assert (await client.info("stats"))["total_connections_received"] <= connections + 1
        await client.delete(BROKEN)
        await answered(broken, within=1)


async def test_forbidden_workspace_delays_no_other(own_redis: StartRedis) -> None:
    """Would slow everybody down because of one workspace on which this user has no rights."""
    server = own_redis()
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser("u", enabled=True, passwords=["+p"], keys=["recall:{good*"], categories=["+@all"])
        async with opened(server.url) as open_lane:
            store = RedisQuotaStore.from_url(server.url, username="u", password="p")
            good, forbidden = open_lane(QUOTA, "good", store), open_lane(QUOTA, "forbidden", store)
            for _ in range(50):
                with pytest.raises(
                    QuotaStoreUnavailableError, match=r"refuses: .*\. docs/redis.md lists the permissions"
                ):
                    await forbidden.admit()
                await answered(good, within=1)


@pytest.mark.parametrize("command", ["info", "evalsha", "zrangebyscore", "hset"])
async def test_a_single_missing_permission_is_named_at_once(own_redis: StartRedis, command: str) -> None:
    """Would wait, or say nothing of what to do, when a user of Redis lacks one of the commands."""
    server = own_redis()
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser(
            "u", enabled=True, passwords=["+p"], keys=["*"], categories=["+@all"], commands=[f"-{command}"]
        )
    async with opened(server.url) as open_lane:
        lane = open_lane(Quota(4, 60.0), store=RedisQuotaStore.from_url(server.url, username="u", password="p"))
        with pytest.raises(QuotaStoreUnavailableError, match=r"refuses: .*\. docs/redis.md lists the permissions"):
            for _ in range(5):  # some commands are needed only when all slots are in use
                await asyncio.wait_for(lane.admit(), 20)


@pytest.mark.parametrize(
    "message",
    [
        "Error running script (call to f_1): @user_script:152: @user_script: 152: -NOPERM this user has no permissions to "
        "run the 'hset' command or its subcommand",  # Redis 6
        "The user executing the script can't run this command or subcommand script: 4f, on @user_script:152.",  # Redis 7
        "ACL failure in script: User u has no permissions to run the 'hset' command script: on @user_script:152.",  # Valkey
        "User u has no permissions to run the 'evalsha' command",
        "No permissions to access a key",
    ],
)
@pytest.mark.parametrize("kind", [ResponseError, NoPermissionError])
def test_each_wording_of_a_missing_permission_gets_the_same_advice(kind: type[ResponseError], message: str) -> None:
    """Would depend on the server's version, and say nothing of what to do on the next one."""
    error = kind(message)
    assert refuses(error)
    assert advice(error) == f"{message.rstrip('.')}. docs/redis.md lists the permissions that the user of Redis needs"


@pytest.mark.parametrize("error", [AttributeError("'NoneType' object"), RuntimeError("closed"), TypeError("None")])
async def test_whatever_the_client_raises_is_an_outage(
    shared_redis: RedisProcess, prefix: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Would hang every lane of the loop because redis-py raised what it does not document."""
    async with opened(shared_redis.url, prefix=prefix) as open_lane:
        store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
        one, other = open_lane(QUOTA, "one", store), open_lane(QUOTA, "other", store)
        await answered(one)
        await answered(other)
        send, failures = Connection.send_packed_command, [error] * 3

        async def fail(self: Connection, *args: Any, **options: Any) -> None:
            if failures:
                raise failures.pop()
            await send(self, *args, **options)

        monkeypatch.setattr(Connection, "send_packed_command", fail)
        await asyncio.gather(answered(one), answered(one), answered(other))


async def test_session_closed_in_an_outage_leaves_nobody_stuck(own_redis: StartRedis) -> None:
    """Would never ask for a lane again of which an ask went unanswered when its last session closed."""
    server = own_redis()
    store = RedisQuotaStore.from_url(server.url)
    lane = store.open("w", OPERATION, QUOTA)
    await answered(lane)
    server.freeze()
    with pytest.raises(QuotaStoreUnavailableError):
        await answered(lane, within=1.3)
    lane.leave(QUOTA)
    await lane.flush()
    server.thaw()
    async with opened(server.url) as open_lane:
        again = open_lane(QUOTA, store=store)
        await answered(again, within=5)
        await asyncio.gather(*(answered(again, within=5) for _ in range(20)))


async def test_cancelled_close_leaves_no_connection(own_redis: StartRedis) -> None:
    """Would leave a connection open for each session that was cancelled while it closed."""
    server = own_redis()
    async with Redis.from_url(server.url) as client:
        before = len(await client.client_list())
        for steps in range(25):
            lane = RedisQuotaStore.from_url(server.url).open("w", OPERATION, QUOTA)
            await answered(lane)
            lane.leave(QUOTA)
            closing = asyncio.create_task(lane.flush())
            for _ in range(steps):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
        async with asyncio.timeout(30):
            while len(await client.client_list()) > before:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_session_that_never_closed_its_lane_leaves_no_connection_and_no_slot(own_redis: StartRedis) -> None:
    """Would keep connection and slots of a session whose closing was cancelled before it came to its lanes."""
    server = own_redis()
    async with Redis.from_url(server.url) as client:
        before = len(await client.client_list())
        lane = RedisQuotaStore.from_url(server.url).open("w", OPERATION, Quota(100, 1.0))
        await answered(lane)
        lane.leave(Quota(100, 1.0))
        async with asyncio.timeout(30):
            while len(await client.client_list()) > before:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        now, _ = await client.time()
        slots = await client.zrange(f"recall:{{w/{OPERATION}}}:slots", 0, -1, withscores=True)
        assert all(back < (now + 63) * 1e6 for _, back in slots)  # a lease would end in two minutes


async def test_closing_the_store_loses_no_end_of_a_slot(own_redis: StartRedis) -> None:
    """Would leave slots to their leases whose ends were on their way when the store was closed."""
    server = own_redis()
    async with Redis.from_url(server.url) as client, opened(server.url) as open_lane:
        store = RedisQuotaStore.from_url(server.url)
        lane = open_lane(Quota(100, 1.0, burst=100), store=store)
        for steps in range(12):
            slot = await lane.admit()
            slot.answered()
            closing = asyncio.create_task(store.aclose())
            for _ in range(steps):
                await asyncio.sleep(0)
            await asyncio.gather(closing, store.aclose())
        now, _ = await client.time()
        slots = await client.zrange(f"recall:{{w/{OPERATION}}}:slots", 0, -1, withscores=True)
        assert all(back < (now + 63) * 1e6 for _, back in slots)  # a lease would end in two minutes


async def test_close_survives_a_client_that_takes_a_cancellation_for_something_else(
    shared_redis: RedisProcess, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would wait for ever for a task that swallowed its cancellation, as asyncio.wait_for did at times."""
    async with opened(shared_redis.url, prefix=prefix) as open_lane:
        store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
        lane = open_lane(QUOTA, store=store)
        await answered(lane)
        exchange, swallowed = Wire.exchange, 0

        async def deaf(self: Wire, commands: Any) -> Any:
            nonlocal swallowed
            for _ in range(2):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    swallowed += 1
            return await exchange(self, commands)

        monkeypatch.setattr(Wire, "exchange", deaf)
        waiting = asyncio.create_task(answered(lane))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(Link.aclose(store._loops.get().link), 5)
        monkeypatch.setattr(Wire, "exchange", exchange)
        await asyncio.wait_for(waiting, 5)
        assert swallowed >= 2
