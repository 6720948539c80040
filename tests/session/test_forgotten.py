"""Sessions that nobody closes: one warning in our words, no other, and nothing that stays behind."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from typing import Any

import aiohttp
import pytest

from recall_async import Quota, RecallSession
from tests.session.conftest import API_KEY
from tests.session.scripted_server import ScriptedServer

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE = "calendar_events.schedule_bot"


async def schedule(recall: RecallSession) -> Any:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")


async def used(server: ScriptedServer, **settings: Any) -> RecallSession:
    recall = RecallSession(API_KEY, base_url=server.url, **settings)
    await schedule(recall)
    return recall


def dropped(recall: list[Any]) -> list[warnings.WarningMessage]:
    """What is warned about when the only reference to something goes."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        recall.clear()
        gc.collect()
        gc.collect()
    return warned


async def test_never_closed(server: ScriptedServer) -> None:
    """Would not tell, tell twice, or let aiohttp tell too, in words that mean nothing to our users."""
    (watched,) = dropped([await used(server, on_event=lambda event: None)])
    (warned,) = dropped([await used(server)])
    assert warned.category is watched.category is ResourceWarning
    assert "RecallSession" in str(warned.message)
    assert "async with" in str(warned.message)
    assert API_KEY not in str(warned.message)


async def test_never_closed_with_a_session_of_the_caller(server: ScriptedServer) -> None:
    """Would close the caller's session, or not tell."""
    async with aiohttp.ClientSession() as http:
        assert len(dropped([await used(server, http=http)])) == 1
        assert not http.closed


async def test_dropped_while_its_resource_is_kept(server: ScriptedServer) -> None:
    """Would warn too early, or let aiohttp warn, where a program keeps `session.calendar_events` and not the session."""
    events = RecallSession(API_KEY, base_url=server.url).calendar_events
    assert (await events.remove_bot(EVENT_ID)).id == EVENT_ID
    held = [events]
    del events
    (warned,) = dropped(held)
    assert "RecallSession" in str(warned.message)


async def test_closed_or_unused_sessions_do_not_warn(server: ScriptedServer) -> None:
    """Would warn of sessions that hold nothing."""
    recall = await used(server)
    await recall.aclose()
    held = [recall, RecallSession(API_KEY)]
    del recall
    assert dropped(held) == []


async def test_lanes_of_a_dropped_session_are_free(server: ScriptedServer, workspace: str) -> None:
    """Would refuse another quota for ever because of a session that is gone."""
    dropped([await used(server, workspace=workspace, quotas={SCHEDULE: Quota(100)})])
    async with RecallSession(API_KEY, base_url=server.url, workspace=workspace, quotas={SCHEDULE: Quota(50)}) as recall:
        await schedule(recall)
        assert recall.statistics()[SCHEDULE].quota == Quota(50)


PROGRAMS = {
    "never closed": ["ResourceWarning: the RecallSession"],
    "closed": [],
    "interrupted": ["ResourceWarning: the RecallSession"],
    "kept beyond its loop": ["ResourceWarning: the RecallSession"],
    "kept to the end": ["ResourceWarning: the RecallSession"],
}
PROGRAM = """
import asyncio, sys
sys.path.insert(0, ".")
from recall_async import RecallSession
from tests.session.scripted_server import ScriptedServer, silence

async def main(how):
    async with ScriptedServer() as server:
        recall = RecallSession("key", base_url=server.url)
        await recall.calendar_events.retrieve("497f6eca-6276-4993-bfeb-53cbbbba6f08")
        if how == "closed":
            await recall.aclose()
        if how.startswith("kept"):
            globals()["kept"] = recall
        if how == "interrupted":
            server.script(silence)
            asyncio.create_task(recall.calendar_events.retrieve("497f6eca-6276-4993-bfeb-53cbbbba6f08"))
            await server.arrived(2)

asyncio.run(main(sys.argv[1]))
if sys.argv[1] == "kept beyond its loop":
    del kept
"""


@pytest.mark.parametrize("how", PROGRAMS)
def test_end_of_a_program(how: str) -> None:
    """Would fail, or print anything but the one warning, when a program ends without closing its session."""
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
    signs = re.compile("Warning(?!: Enable tracemalloc)|Error|nclosed")
    warned = [line for line in ended.stderr.splitlines() if signs.search(line)]
    assert len(warned) == len(PROGRAMS[how]), ended.stderr
    assert all(expected in line for expected, line in zip(PROGRAMS[how], warned, strict=True)), ended.stderr
