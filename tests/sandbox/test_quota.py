"""The strict sliding window, alone and over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async.operations import OPERATIONS
from recall_async.sandbox import RecallSandbox
from recall_async.sandbox.quota import SlidingWindow
from tests.sandbox.conftest import CALENDARS, EVENTS, RETRIEVE, SCHEDULE, Api, Clock


@given(
    limit=st.integers(1, 5),
    gaps=st.lists(st.sampled_from([0.0, 0.125, 0.25, 1.0, 2.5, 9.75, 10.0, 11.0]), max_size=60),
)
def test_no_window_holds_more_than_the_limit(limit: int, gaps: list[float]) -> None:
    """The server would let too many through, refuse one too early, or report a peak that was not there."""
    clock = Clock()
    window = SlidingWindow(limit, 10.0, clock)
    counted: list[float] = []
    for gap in gaps:
        clock.seconds += gap
        in_window = [moment for moment in counted if moment > clock.seconds - 10.0]
        seconds = window.count()
        assert (seconds is None) is (len(in_window) < limit)
        if seconds is None:
            counted.append(clock.seconds)
        else:
            free_at = in_window[-limit] + 10.0
            assert free_at <= clock.seconds + seconds < free_at + 1.0
    largest = max((sum(end - 10.0 < moment <= end for moment in counted) for end in counted), default=0)
    assert window.peak == largest


@pytest.mark.parametrize("quota", [(0, 60.0), (-1, 60.0), (1, 0.0)])
def test_impossible_quotas_are_refused(quota: tuple[int, float]) -> None:
    """A sandbox that can answer nothing would start."""
    with pytest.raises(ValueError, match="quota"):
        RecallSandbox(quotas={SCHEDULE: quota})


def test_quotas_of_unknown_operations_are_refused() -> None:
    """A misspelt operation would leave its quota as it was."""
    with pytest.raises(ValueError, match=r"calendar_event\.list"):
        RecallSandbox(quotas={"calendar_event.list": (1, 1.0)})


def limits(sandbox: RecallSandbox) -> dict[str, tuple[int, float]]:
    return {name: (window.limit, window.per) for name, window in sandbox._settings.windows(time.monotonic).items()}


def test_quotas_are_the_documented_ones_times_their_scale() -> None:
    """The real quotas would not be enforced, or `--quota-scale` would not scale them."""
    assert limits(RecallSandbox()) == {name: (operation.limit, 60.0) for name, operation in OPERATIONS.items()}
    assert limits(RecallSandbox(quota_scale=20))[SCHEDULE] == (12000, 60.0)
    assert limits(RecallSandbox(quotas={SCHEDULE: (60, 6.0)}, quota_scale=2))[SCHEDULE] == (60, 6.0)
    with pytest.raises(ValueError, match="quota"):
        RecallSandbox(quota_scale=0.001)


async def test_throttled_until_the_window_moves_on(start: Callable[..., Any]) -> None:
    """`Retry-After` would be missing, shorter than needed, or counted from throttled requests."""
    api: Api = await start(quotas={RETRIEVE: (2, 6.0)})
    path = f"{EVENTS}{api.upcoming()[0]['id']}/"
    assert (await api.send("GET", path)).status == 200
    api.clock.seconds += 0.5
    assert (await api.send("GET", path)).status == 200
    for _ in range(3):
        reply = await api.send("GET", path)
        assert reply.status == 429
        assert reply.headers["Retry-After"] == "6"
        assert "throttled" in reply.body["detail"]
    api.clock.seconds += 5.4
    assert (await api.send("GET", path)).headers["Retry-After"] == "1"
    api.clock.seconds += 0.1
    assert (await api.send("GET", path)).status == 200
    assert (await api.send("GET", path)).status == 429
    assert api.counts(RETRIEVE) == {"accepted": 3, "throttled": 5, "conflicted": 0, "rejected": 0, "peak": 2}


async def test_quotas_are_per_operation_and_shared_by_the_keys_of_a_workspace(start: Callable[..., Any]) -> None:
    """A second key would come with a quota of its own, or one operation would eat another's quota."""
    api: Api = await start(quotas={RETRIEVE: (1, 60.0)}, api_keys=["second"])
    path = f"{EVENTS}{api.upcoming()[0]['id']}/"
    assert (await api.send("GET", path)).status == 200
    assert (await api.send("GET", path, headers={"Authorization": "Token second"})).status == 429
    assert (await api.send("GET", EVENTS)).status == 200
    assert (await api.remove(api.upcoming()[0]["id"])).status == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Token", "Token wrong", "wrong", "Bearer sandbox-key", "Tokensandbox-key", "Token Token sandbox-key"],
)
async def test_wrong_keys_get_401_and_cost_no_quota(start: Callable[..., Any], authorization: str | None) -> None:
    """A wrong key, or a key in a form that the API does not take, would pass; or strangers would use up the quota."""
    api: Api = await start(quotas={"calendars.list": (1, 60.0)})
    headers = {} if authorization is None else {"Authorization": authorization}
    async with api.http.get(api.sandbox.url + CALENDARS, headers=headers) as response:
        assert response.status == 401
    assert (await api.send("GET", CALENDARS)).status == 200


@pytest.mark.parametrize(
    "authorization", ["Token sandbox-key", "sandbox-key", "token sandbox-key", "Token sandbox-key ", " sandbox-key"]
)
async def test_keys_with_and_without_their_prefix(api: Api, authorization: str) -> None:
    """Clients that leave the optional prefix out could not be tried."""
    assert (await api.send("GET", CALENDARS, headers={"Authorization": authorization})).status == 200


async def test_rejected_requests_are_counted(start: Callable[..., Any]) -> None:
    """Requests that end in 400 or 404 would be free, which they are not."""
    api: Api = await start(quotas={RETRIEVE: (1, 60.0), SCHEDULE: (1, 60.0)})
    assert (await api.send("GET", f"{EVENTS}nothing/")).status == 404
    assert (await api.send("GET", f"{EVENTS}nothing/")).status == 429
    assert (await api.schedule(api.upcoming()[0]["id"], "")).status == 400
    assert (await api.schedule(api.upcoming()[0]["id"], "key")).status == 429


async def test_counting_point_lies_between_the_latencies(start: Callable[..., Any]) -> None:
    """A request would be counted before its first latency or after its second: tests of limiters would prove nothing."""
    api: Api = await start()
    seconds: list[float] = []

    async def delay(wanted: float) -> None:
        seconds.append(wanted)
        peaks.append(api.counts(RETRIEVE)["peak"])

    peaks: list[int] = []
    server = api.sandbox._server
    assert server is not None
    server._delay = delay  # type: ignore[assignment, method-assign]
    api.sandbox.set_latency(0.25, 0.5)
    await api.event(api.upcoming()[0]["id"])
    assert (seconds, peaks) == ([0.25, 0.5], [0, 1])


async def test_latency_is_fixed_or_from_a_range(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The knob would be ignored, or its range left."""
    api: Api = await start(latency=(0.001, (0.002, 0.004)))
    server = api.sandbox._server
    assert server is not None
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(20):
        await server._delay(server.latency[0])
        await server._delay(server.latency[1])
    assert set(slept[::2]) == {0.001}
    assert all(0.002 <= seconds <= 0.004 for seconds in slept[1::2])
    assert len(set(slept[1::2])) > 1
