"""`Idempotency-Key`, and requests that meet while one of them is being worked on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sandbox.conftest import CALENDARS, EVENTS, REMOVE, SCHEDULE, Api, Reply, until_counted

CALENDAR = {
    "oauth_client_id": "id",
    "oauth_client_secret": "secret",
    "oauth_refresh_token": "refresh",
    "platform": "google_calendar",
}


async def test_a_repeat_gets_the_first_answer_whatever_its_body(api: Api) -> None:
    """A retried request would take effect twice."""
    first, second = (event["id"] for event in api.upcoming()[:2])
    original = await api.schedule(first, "one", idempotency_key="a")
    repeat = await api.schedule(first, "two", idempotency_key="a")
    assert repeat.body == original.body
    assert repeat.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in original.headers
    assert (await api.event(first))["bots"] == original.body["bots"]
    assert (await api.schedule(second, "two", idempotency_key="b")).body["id"] == second
    assert api.counts(SCHEDULE)["peak"] == 3


async def test_a_key_counts_for_one_method_and_path(api: Api) -> None:
    """A key that is used on another path would get the answer of the first."""
    first, second = (event["id"] for event in api.upcoming()[:2])
    await api.schedule(first, "one", idempotency_key="a")
    assert (await api.schedule(second, "two", idempotency_key="a")).body["id"] == second
    document = {"deduplication_key": "three", "bot_config": {}}
    path = f"{EVENTS}{first.upper()}/bot"
    again = await api.send("POST", path, json=document, headers={"Idempotency-Key": "a"})
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_removing_takes_part_in_409(api: Api) -> None:
    """A client that removes and schedules bots of one key at the same time would not notice."""
    one, two = (event["id"] for event in api.upcoming()[:2])
    await api.schedule(one, "same")
    api.sandbox.fault(REMOVE, kind="hang")
    removal = asyncio.create_task(api.remove(one))
    await until_counted(api, REMOVE, 1)
    assert (await api.schedule(two, "same")).body["code"] == "deduplication_conflict"
    assert (await api.remove(one)).status == 409
    assert (await api.schedule(two, "other")).status == 200
    api.sandbox.release()
    assert (await removal).body["bots"] == []
    assert (await api.schedule(two, "same")).status == 200


async def test_answers_are_kept_for_an_hour(api: Api) -> None:
    """A key would be remembered for ever, or forgotten while clients still retry with it."""
    created = [await api.send("POST", CALENDARS, json=CALENDAR, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    assert created[0].body == created[1].body
    api.clock.seconds += 3599
    again = await api.send("POST", CALENDARS, json=CALENDAR, headers={"Idempotency-Key": "a"})
    assert again.body == created[0].body
    api.clock.seconds += 1
    late = await api.send("POST", CALENDARS, json=CALENDAR, headers={"Idempotency-Key": "a"})
    assert late.body["id"] != created[0].body["id"]


async def test_patch_honours_the_key_and_delete_does_not(api: Api) -> None:
    """Keys would be honoured for other methods than the API's."""
    calendar = api.sandbox.snapshot()["calendars"][0]["id"]
    headers = {"Idempotency-Key": "a"}
    await api.send("PATCH", f"{CALENDARS}{calendar}/", json={"oauth_email": "a@example.com"}, headers=dict(headers))
    repeat = await api.send("PATCH", f"{CALENDARS}{calendar}/", json={"oauth_email": "b@example.com"}, headers=headers)
    assert repeat.body["oauth_email"] == "a@example.com"
    event = api.upcoming()[0]["id"]
    for _ in range(2):
        await api.schedule(event, "key")
        await api.send("DELETE", f"{EVENTS}{event}/bot/", headers={"Idempotency-Key": "b"})
    assert (await api.event(event))["bots"] == []


@pytest.mark.parametrize(
    ("status", "kept"),
    [(400, True), (404, True), (507, True), (401, False), (409, False), (429, False), (500, False), (503, False)],
)
async def test_which_answers_are_kept(api: Api, status: int, kept: bool) -> None:
    """A client that reuses its key after a 507 would get through, or one that keeps it after a 503 would not."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, status=status)
    assert (await api.schedule(event, "key", idempotency_key="a")).status == status
    assert (await api.schedule(event, "key", idempotency_key="a")).status == (status if kept else 200)
    assert (await api.schedule(event, "key", idempotency_key="b")).status == 200


async def test_a_repeat_while_the_first_is_in_progress_gets_409(api: Api) -> None:
    """Clients would not learn that their first attempt is still under way."""
    one, two = (event["id"] for event in api.upcoming()[:2])
    api.sandbox.fault(SCHEDULE, kind="hang")
    first = asyncio.create_task(api.schedule(one, "one", idempotency_key="a"))
    await until_counted(api, SCHEDULE, 1)
    conflict = await api.schedule(one, "two", idempotency_key="a")
    assert (conflict.status, conflict.body["code"]) == (409, "idempotency_conflict")
    assert (await api.schedule(two, "three", idempotency_key="a")).status == 200
    api.sandbox.release()
    assert (await first).status == 200
    assert (await api.schedule(one, "two", idempotency_key="a")).body == (await first).body
    assert api.counts(SCHEDULE)["conflicted"] == 1


async def test_parallel_requests_with_one_deduplication_key_get_409(api: Api) -> None:
    """A client that races against itself would not notice; neither other keys nor removes may be held up."""
    one, two = (event["id"] for event in api.upcoming()[:2])
    api.sandbox.fault(SCHEDULE, kind="hang")
    first: asyncio.Task[Reply] = asyncio.create_task(api.schedule(one, "same"))
    await until_counted(api, SCHEDULE, 1)
    conflict = await api.schedule(two, "same")
    assert (conflict.status, conflict.body["code"]) == (409, "deduplication_conflict")
    assert (await api.schedule(two, "other")).status == 200
    assert (await api.remove(two)).status == 200
    api.sandbox.release()
    assert (await first).status == 200
    assert (await api.schedule(two, "same")).status == 200
    assert api.counts(SCHEDULE) == {"accepted": 3, "throttled": 0, "conflicted": 1, "rejected": 0, "peak": 4}
    assert api.counts(REMOVE)["accepted"] == 1


async def test_the_key_is_held_until_the_answer_leaves(api: Api) -> None:
    """Requests that overlap only while the first answer is on its way would not race."""
    one, two = (event["id"] for event in api.upcoming()[:2])
    api.sandbox.fault(SCHEDULE, kind="hang", applied=True)
    first = asyncio.create_task(api.schedule(one, "same"))
    await until_counted(api, SCHEDULE, 1)
    assert len((await api.event(one))["bots"]) == 1
    assert (await api.schedule(two, "same")).status == 409
    api.sandbox.release()
    assert (await first).status == 200


async def test_an_abandoned_request_gives_its_keys_back(api: Api) -> None:
    """A client that gives up would lock its keys for ever."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, kind="hang")
    first: asyncio.Task[Any] = asyncio.create_task(api.schedule(event, "key", idempotency_key="a"))
    await until_counted(api, SCHEDULE, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    api.sandbox.release()
    reply = await api.schedule(event, "key", idempotency_key="a")
    while reply.status == 409:
        reply = await api.schedule(event, "key", idempotency_key="a")
    assert reply.headers["Idempotent-Replayed"] == "true"
