"""Every way in which the sandbox can be told to go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from recall_async.sandbox import Fault
from tests.sandbox.conftest import CALENDARS, REMOVE, RETRIEVE, SCHEDULE, Api, moment, until_counted


async def test_a_status_happens_as_often_as_told(api: Api) -> None:
    """A test could not make a request fail exactly n times, or would hit other operations."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, status=503, times=2, headers={"Retry-After": "1"})
    assert (await api.event(event))["bots"] == []
    replies = [await api.schedule(event, "key") for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 503, 200]
    assert [reply.headers.get("Retry-After") for reply in replies] == ["1", "1", None]
    assert "detail" in replies[0].body
    assert api.counts(SCHEDULE) == {"accepted": 1, "throttled": 0, "conflicted": 0, "rejected": 2, "peak": 3}


async def test_a_fault_without_a_number_lasts_until_cleared(api: Api) -> None:
    """An outage could not be played."""
    api.sandbox.fault(status=502, times=None)
    event = api.upcoming()[0]["id"]
    statuses = [(await api.schedule(event, "key")).status, (await api.remove(event)).status]
    api.sandbox.clear_faults()
    assert [*statuses, (await api.schedule(event, "key")).status] == [502, 502, 200]


async def test_any_answer_can_be_given(api: Api) -> None:
    """Documented error bodies, a firewall's page or a foreign `next` link could not be played."""
    path = f"{CALENDARS}{api.sandbox.snapshot()['calendars'][0]['id']}/access-token/"
    api.sandbox.fault("calendars.create_access_token", status=400, code="bad_refresh_token")
    assert (await api.send("POST", path)).body["code"] == "bad_refresh_token"
    api.sandbox.fault("calendars.list", status=200, body={"next": "http://elsewhere.example/", "results": []})
    assert (await api.send("GET", CALENDARS)).body["next"] == "http://elsewhere.example/"
    api.sandbox.fault("calendars.list", status=403, body="<html>blocked</html>")
    reply = await api.send("GET", CALENDARS)
    assert (reply.status, reply.body) == (403, "<html>blocked</html>")
    assert reply.headers["Content-Type"] == "text/html"
    api.sandbox.fault("calendars.list", status=200, body=b'{"results": ')
    with pytest.raises(ValueError):
        await api.send("GET", CALENDARS)


@pytest.mark.parametrize("status", [405, 400])
async def test_removal_can_be_refused_in_both_ways(api: Api, status: int) -> None:
    """The two answers to a bot that was already dispatched could not be played."""
    event = api.upcoming()[0]["id"]
    await api.schedule(event, "key")
    api.sandbox.fault(REMOVE, status=status, code="cannot_delete_bot")
    reply = await api.remove(event)
    assert (reply.status, reply.body["code"]) == (status, "cannot_delete_bot")
    assert len((await api.event(event))["bots"]) == 1


@pytest.mark.parametrize("applied", [False, True])
async def test_an_error_before_or_after_the_effect(api: Api, applied: bool) -> None:
    """The unknown outcome of a 503 could not be played in both variants."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, status=503, applied=applied)
    assert (await api.schedule(event, "key", idempotency_key="a")).status == 503
    assert len((await api.event(event))["bots"]) == applied
    repeat = await api.schedule(event, "key", idempotency_key="a")
    assert repeat.status == 200
    assert ("Idempotent-Replayed" in repeat.headers) is applied


@pytest.mark.parametrize("applied", [False, True])
async def test_a_reset_before_or_after_the_effect(api: Api, applied: bool) -> None:
    """A lost answer could not be played in both variants."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, kind="reset", applied=applied)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await api.schedule(event, "key")
    assert len((await api.event(event))["bots"]) == applied
    assert api.counts(SCHEDULE) == {"accepted": int(applied), "throttled": 0, "conflicted": 0, "rejected": 0, "peak": 1}


async def test_a_truncated_body(api: Api) -> None:
    """An answer that breaks off could not be played: announced in full, half of it sent, then closed."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, kind="truncate")
    with pytest.raises(aiohttp.ClientPayloadError):
        await api.schedule(event, "key")
    assert len((await api.event(event))["bots"]) == 1
    api.sandbox.fault(RETRIEVE, kind="truncate")
    host, _, port = api.sandbox.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = api.sandbox.api_key
    writer.write(
        f"GET /api/v2/calendar-events/{event}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Token {key}\r\n\r\n".encode()
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    announced = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert len(body) == announced // 2 > 0


async def test_hung_requests_wait_until_released(api: Api) -> None:
    """A server that says nothing could not be played."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, kind="hang")
    task = asyncio.create_task(api.schedule(event, "key"))
    await until_counted(api, SCHEDULE, 1)
    assert (await api.event(event))["bots"] == []
    assert not task.done()
    api.sandbox.release()
    assert len((await task).body["bots"]) == 1


async def test_the_sandbox_stops_although_a_request_hangs(start: Callable[..., Any]) -> None:
    """A test that ends while a request hangs would hang too."""
    api: Api = await start(faults=[Fault(kind="hang", times=None)])
    task = asyncio.create_task(api.event(api.upcoming()[0]["id"]))
    await until_counted(api, RETRIEVE, 1)
    await asyncio.wait_for(api.sandbox.__aexit__(None, None, None), 5)
    await asyncio.gather(task, return_exceptions=True)


async def test_uncounted_faults_cost_no_quota(start: Callable[..., Any]) -> None:
    """A failure in front of the API, which its quota never sees, could not be played."""
    api: Api = await start(quotas={SCHEDULE: (1, 60.0)})
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, status=502, counted=False, times=3)
    statuses = [(await api.schedule(event, "key")).status for _ in range(5)]
    assert statuses == [502, 502, 502, 200, 429]


async def test_throttled_requests_use_no_fault_up(start: Callable[..., Any]) -> None:
    """A fault that is meant for a counted request would be spent on a 429."""
    api: Api = await start(quotas={SCHEDULE: (1, 60.0)})
    event = api.upcoming()[0]["id"]
    await api.schedule(event, "key")
    api.sandbox.fault(SCHEDULE, status=502)
    assert (await api.schedule(event, "key")).status == 429
    api.clock.seconds += 60
    assert (await api.schedule(event, "key")).status == 502


async def test_faults_with_a_probability_repeat_with_the_seed(start: Callable[..., Any]) -> None:
    """Random faults would be always, never, or different in each run."""

    async def statuses(seed: int) -> list[int]:
        api: Api = await start(seed=seed)
        event = api.upcoming()[0]["id"]
        api.sandbox.fault(RETRIEVE, status=503, times=None, probability=0.5)
        return [(await api.send("GET", f"/api/v2/calendar-events/{event}/")).status for _ in range(30)]

    first = await statuses(7)
    assert set(first) == {200, 503}
    assert await statuses(7) == first
    assert await statuses(8) != first


async def test_no_bots_for_meetings_about_to_start(api: Api) -> None:
    """507 could not be played, or would hit meetings that start later."""
    soon, *_, late = api.upcoming()
    seconds = (moment(soon["start_time"]) - api.clock.now()).total_seconds()
    api.sandbox.exhaust_bots(within=seconds + 1, retry_after=3)
    reply = await api.schedule(soon["id"], "soon", idempotency_key="a")
    assert (reply.status, reply.headers["Retry-After"]) == (507, "3")
    assert (await api.schedule(late["id"], "late")).status == 200
    api.sandbox.exhaust_bots(within=seconds)
    assert (await api.schedule(soon["id"], "soon", idempotency_key="b")).status == 200
    api.sandbox.exhaust_bots(within=seconds + 1)
    reply = await api.schedule(soon["id"], "soon", idempotency_key="c")
    assert (reply.status, reply.headers.get("Retry-After")) == (507, None)
    api.sandbox.exhaust_bots(within=0)
    assert (await api.schedule(soon["id"], "soon", idempotency_key="d")).status == 200
    assert (await api.schedule(soon["id"], "soon", idempotency_key="a")).status == 507


@pytest.mark.parametrize(
    "settings", [{"operation": "calendar_events.bot"}, {"kind": "explode"}, {"kind": "truncate", "applied": False}]
)
def test_impossible_faults_are_refused(settings: dict[str, Any]) -> None:
    """A misspelt fault would never happen, and its test would prove nothing."""
    with pytest.raises(ValueError):
        Fault(**settings)
