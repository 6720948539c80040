"""What a store asks Redis for operators, and what it keeps of each event loop: on a scripted server, without Redis."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError, NoPermissionError, ResponseError

from recall_async import ConfigurationError, LaneStatistics, Quota, QuotaStoreUnavailableError
from recall_async.limits.quota import base_quota
from recall_async.limits.redis import RedisQuotaStore, store
from recall_async.limits.redis.cluster import ClusterLinks
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.link import OUTAGE_TIMEOUT, Link
from recall_async.limits.redis.nodes import Cluster
from recall_async.limits.redis.scripts import ACQUIRE, RESUME, SETTLE, USAGE, Command, Keys
from recall_async.limits.redis.store import FORGET_AT_ONCE
from recall_async.operations import OPERATIONS
from tests.redis.scripted import ScriptedRedis
from tests.redis.words import asked
from tests.virtual_time import VirtualTimeLoop, run

SCHEDULE = "calendar_events.schedule_bot"
NOTHING = [5_000_000, 0, 0, 0, -1, b""]
"""The reply to a usage of a quota that nobody uses."""

Answer = Callable[[Command], Any]


class Server:
    """Answers commands from a script, and counts what is open."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.commands: list[Command] = []
        self.closed: list[str] = []
        self.fails: Exception | None = None
        self.hangs = False


class _Wire:
    server: Server

    @classmethod
    async def open(cls, client: Redis) -> _Wire:
        if cls.server.fails is not None:
            raise cls.server.fails
        if cls.server.hangs:
            await asyncio.sleep(1e6)
        return cls()

    async def exchange(self, commands: list[Command]) -> list[Any]:
        self.server.commands += commands
        return [self.server.answer(command) for command in commands]

    async def aclose(self) -> None:
        self.server.closed.append("aclose")

    async def give_back(self) -> None:
        self.server.closed.append("give_back")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(lambda command: NOTHING if command.script is USAGE else -1)
    monkeypatch.setattr(_Wire, "server", made, raising=False)
    monkeypatch.setattr(store, "Wire", _Wire)
    return made


def made(**options: Any) -> RedisQuotaStore:
    return RedisQuotaStore.from_url("redis://nowhere", **options)


def replies(said: dict[str, Any], otherwise: Any) -> Answer:
    """Different replies for some operations."""
    return lambda command: next((reply for name, reply in said.items() if f"/{name}}}" in command.keys[0]), otherwise)


def test_usage_is_that_of_each_operation(server: Server) -> None:
    """Would show one operation's numbers for another, a pause that is over, or free slots that are none."""
    server.answer = replies(
        {
            SCHEDULE: [5_000_000, 7, 9_000_000, 6_000_000, 2500, b"10/30030000"],
            "calendars.list": [5_000_000, 90, 3_000_000, 11_000_000, -1, b"60/60060000"],
            "calendars.create": [5_000_000, 1, 4_000_000, 3_000_000, -1, b""],
        },
        NOTHING,
    )
    seen = run(made(prefix="p").usage("w"))
    assert list(seen) == list(OPERATIONS)
    assert seen[SCHEDULE] == LaneStatistics(Quota(10, 30.0), taken=7, free=3, paused=4.0, pace=2.5)
    assert seen["calendars.list"] == LaneStatistics(Quota(60, 60.0), taken=90, free=0, paused=6.0)
    plain = base_quota("calendars.create")
    assert seen["calendars.create"] == LaneStatistics(plain, taken=1, free=plain.limit - 1)
    assert {command.script for command in server.commands} == {USAGE}
    assert server.commands[0].keys[0].startswith("p:{w/")
    assert server.closed == ["aclose"]


def test_resume_names_what_it_ended(server: Server) -> None:
    """Would name operations that were not paused, leave out those whose pace was slower, or tell microseconds."""
    server.answer = replies({SCHEDULE: 20_000_000, "calendars.list": 0}, -1)
    assert run(made().resume("w")) == {"calendars.list": 0.0, SCHEDULE: 20.0}
    assert len(server.commands) == len(OPERATIONS)
    assert {command.script for command in server.commands} == {RESUME}
    server.commands.clear()
    assert run(made().resume("w", SCHEDULE)) == {SCHEDULE: 20.0}
    assert run(made().resume("w", "calendars.create")) == {}
    assert len(server.commands) == 2
    with pytest.raises(ConfigurationError, match="operation must be one of"):
        run(made().resume("w", "schedule"))
    assert len(server.commands) == 2


def test_what_redis_refuses_is_told_apart_from_what_it_does_not_answer(server: Server) -> None:
    """Would send an operator to look for a network fault where a permission is missing, or the other way round."""
    for happened, text in (
        (NoPermissionError("this user has no permissions to run 'info'"), "Redis refuses: this user.*docs/redis.md"),
        (ConnectionError("connection reset"), "Redis does not answer: connection reset"),
        (OSError("no route"), "Redis does not answer: no route"),
        (ResponseError("LOADING Redis is loading"), "Redis does not answer: LOADING"),
    ):
        server.fails = happened
        with pytest.raises(QuotaStoreUnavailableError, match=text) as caught:
            run(made().usage("w"))
        assert caught.value.__cause__ is happened
    assert server.closed == []
    server.fails = None
    server.answer = replies({SCHEDULE: ResponseError("WRONGTYPE Operation against a key")}, NOTHING)
    with pytest.raises(QuotaStoreUnavailableError, match="Redis refuses: WRONGTYPE"):
        run(made().usage("w"))
    assert server.closed == ["aclose"]


def test_redis_that_is_silent_is_not_waited_for(server: Server) -> None:
    """Would let an operator's command hang, or say nothing of how long it waited."""
    server.hangs = True

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(QuotaStoreUnavailableError, match=rf"does not answer: not within {OUTAGE_TIMEOUT:g} s"):
            await made().usage("w")
        return loop.time() - began

    assert run(main()) == pytest.approx(OUTAGE_TIMEOUT, abs=0.01)


def test_client_of_the_caller_is_not_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would close the connections of a program that lends its client, or leave open what the store made."""
    closed: list[Redis] = []

    async def aclose(self: Redis, close_connection_pool: bool | None = None) -> None:
        closed.append(self)

    monkeypatch.setattr(Redis, "aclose", aclose)
    client = Redis()
    run(RedisQuotaStore(client).usage("w"))
    assert (server.closed, closed) == (["give_back"], [])
    run(made().usage("w"))
    assert (server.closed, len(closed)) == (["give_back", "aclose"], 1)
    assert closed[0] is not client


def test_client_of_the_caller_serves_one_loop() -> None:
    """Would use the connections of one event loop in another, which hang there; or refuse the next loop for ever."""
    lent, loops = RedisQuotaStore(Redis()), [VirtualTimeLoop(), VirtualTimeLoop()]

    async def open_lane(where: RedisQuotaStore) -> RedisLane:
        lane = where.open("w", SCHEDULE, None)
        lane.leave(None)
        return lane

    loops[0].run_until_complete(open_lane(lent))
    with pytest.raises(ConfigurationError, match="belongs to one event loop"):
        loops[1].run_until_complete(open_lane(lent))
    loops[0].close()
    ours = made()
    assert loops[1].run_until_complete(open_lane(lent)) is loops[1].run_until_complete(open_lane(lent))
    again = VirtualTimeLoop()
    assert again.run_until_complete(open_lane(ours)) is not loops[1].run_until_complete(open_lane(ours))
    for loop in (again, loops[1]):
        loop.close()


def test_unused_lanes_are_forgotten_a_few_at_a_time() -> None:
    """Would keep a lane for each customer, look at all of them with each session, or forget one that is in use."""

    async def main() -> None:
        where = made()
        quota = Quota(10, 60.0)
        kept = where.open("kept", SCHEDULE, quota)
        for number in range(3 * FORGET_AT_ONCE):
            where.open(f"w{number}", SCHEDULE, None).leave(None)
        loop = where._loops.get()
        assert len(loop.lanes) <= FORGET_AT_ONCE + 2
        assert set(loop.idle) == set(loop.lanes)
        assert where.open("kept", SCHEDULE, quota) is kept
        kept.leave(quota)
        kept.leave(quota)
        held = [where.open(f"held{number}", SCHEDULE, None) for number in range(20)]
        assert {f"held{number}" for number in range(20)} <= {workspace for workspace, _ in loop.lanes}
        for lane in held:
            lane.leave(None)
        for number in range(20):
            where.open(f"later{number}", SCHEDULE, None).leave(None)
        assert len(loop.lanes) <= FORGET_AT_ONCE + 2

    run(main())


def test_terms_of_a_store() -> None:
    """Would grant slots that the local reserves of other processes use, or with leases that end too early."""

    async def main() -> None:
        shared = made(local_reserve=3, processes=4, longest_request=20.0, hold_new=True)
        terms = shared._terms(Quota(100, 60.0))
        assert (terms.limit, terms.hold_new, terms.per) == (88, True, 60_060_000)
        assert terms.lease == pytest.approx((20.0 + 5.0 + 60.06) * 1e6)
        plain = made()._terms(Quota(100, 60.0))
        assert (plain.limit, plain.hold_new) == (100, False)
        assert (made().longest_request, made()._patience, made(patience=0)._patience) == (60.0, math.inf, 0)
        with pytest.raises(ConfigurationError, match="which leaves nothing to share"):
            made(local_reserve=25, processes=4).open("w", SCHEDULE, Quota(100, 60.0))

    run(main())


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "{"},
        {"prefix": "a}"},
        {"prefix": 1},
        {"longest_request": 0},
        {"local_reserve": -1},
        {"processes": 0},
        {"patience": -1},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    """Would fail in the middle of an outage, or keep the keys of a quota on several nodes of a cluster."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        made(**options)
    with pytest.raises(ConfigurationError, match="client must be"):
        RedisQuotaStore("redis://nowhere")  # type: ignore[arg-type]


def test_what_is_not_said_is_the_same_for_every_client(server: Server) -> None:
    """Would share another limit, or another lease, with the processes that name their server by its URL, and overrun it."""

    async def main() -> None:
        quota = Quota(100, 60.0)
        lent, ours = RedisQuotaStore(Redis()), made()
        assert lent._terms(quota) == ours._terms(quota)
        assert lent._terms(quota).lease == pytest.approx((60.0 + 5.0 + 60.06) * 1e6)
        for reserving in (RedisQuotaStore(Redis(), local_reserve=3), made(local_reserve=3)):
            assert reserving._terms(quota).limit == 97  # of one process
            assert reserving._reserve.size == 3
        assert lent._reserve.size == ours._reserve.size == 0
        assert repr(lent) == repr(ours) == "<RedisQuotaStore prefix='recall'>"

    run(main())
    assert repr(made(prefix="p")) == "<RedisQuotaStore prefix='p'>"
    named = [
        {name: one.default for name, one in signature(each).parameters.items() if one.kind is one.KEYWORD_ONLY}
        for each in (RedisQuotaStore.__init__, RedisQuotaStore.from_url)
    ]
    assert named[0] == named[1]


def test_cluster_is_reached_by_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would send the commands of all quotas to one node of a cluster, or to its client, which knows nothing of detours."""
    asked: list[tuple[Cluster, int]] = []

    async def answer(self: Cluster, commands: list[Command], seconds: float) -> list[Any]:
        asked.append((self, len(commands)))
        return [NOTHING] * len(commands)

    monkeypatch.setattr(Cluster, "run", answer)

    async def main() -> None:
        lent = RedisQuotaStore(RedisCluster(startup_nodes=[ClusterNode("one", 7001)]))
        for where, port in ((lent, 7001), (RedisQuotaStore.from_url("redis+cluster://one:7002"), 7002)):
            lane = where.open("w", SCHEDULE, None)
            assert isinstance(where._loops.get().link, ClusterLinks)
            assert where.open("w", SCHEDULE, None) is lane
            assert set(await where.usage("w")) == set(OPERATIONS)
            cluster, count = asked[-1]
            assert ([node.port for node in cluster.first], count) == ([port], len(OPERATIONS))
            for _ in range(2):
                lane.leave(None)
            await lane.flush()

    run(main())


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> ScriptedRedis:
    redis = ScriptedRedis()
    monkeypatch.setattr(store, "Link", partial(Link, open_wire=redis.open))
    return redis


def test_closed_store_has_said_how_its_slots_ended(redis: ScriptedRedis) -> None:
    """Would leave slots in use until their leases end, or the connection open, though the program closed the store."""

    async def main() -> None:
        where = made()
        lanes = [where.open(workspace, SCHEDULE, None) for workspace in "vw"]
        slots = [await lane.admit() for lane in lanes]
        redis.commands.clear()
        for slot in slots:
            slot.unused()
        await where.aclose()
        assert {command.keys[0] for command in redis.commands if command.script is SETTLE} == {
            Keys("recall", workspace, SCHEDULE).slots for workspace in "vw"
        }
        assert (redis.wires, redis.ended) == ([], ["aclose"])
        (await lanes[0].admit()).answered()  # its session is open
        assert len(redis.wires) == 1
        for lane in lanes:
            lane.leave(None)
            await lane.flush()
        assert redis.wires == []

    run(main())


def test_slots_of_lanes_that_are_closed_are_reported_to_another_server(redis: ScriptedRedis) -> None:
    """Would keep silent about what the process has sent, when Redis was replaced by one that knows nothing of it."""

    async def main() -> None:
        where = made()
        lane = where.open("w", SCHEDULE, None)
        other = where.open("v", SCHEDULE, None)
        (await lane.admit()).answered()
        lane.leave(None)
        await lane.flush()
        redis.commands.clear()
        redis.run = "another"
        redis.break_off()
        await asyncio.sleep(1.0)
        reports = [command for command in redis.commands if command.keys[0] == Keys("recall", "w", SCHEDULE).slots]
        assert [command.script for command in reports] == [ACQUIRE]
        assert (asked(reports[0]).run, asked(reports[0]).epoch) == ("another", "1-a/run")
        other.leave(None)
        await other.flush()

    run(main())


def test_connections_of_closed_loops_are_forgotten() -> None:
    """Would keep the connections of every event loop that a worker has ever run."""
    where = made()

    async def use() -> None:
        where.open("w", SCHEDULE, None).leave(None)
        assert len(where._loops.values()) == 1

    for _ in range(3):
        run(use())
