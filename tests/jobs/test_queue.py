"""Jobs in Redis: submitted, worked on, asked about."""

from __future__ import annotations

from collections.abc import Callable

from recall_async import RecallSession, ScheduleBot
from recall_async.jobs import JobQueue
from recall_async.jobs.chunks import groups_of, read_actions
from recall_async.sandbox import RecallSandbox


def test_actions_are_read_as_they_were_written() -> None:
    """A bot whose name holds a line separator ends every worker that reads texts, not bytes, from Redis."""
    names = [f"one{character}two" for character in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0"]
    event_id = "00000000-0000-4000-8000-000000000001"
    given = [ScheduleBot(event_id, name, {"bot_name": name, name: [name]}) for name in names]
    (group,) = groups_of(given)
    for text in (b"\n".join(group.texts), b"\n".join(group.texts).decode()):
        assert read_actions(text) == given


async def test_job_is_done_and_accounted_for(
    jobs: JobQueue, session: Callable[..., RecallSession], actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would not do what was submitted, or tell something else of it."""
    status = await jobs.submit("tonight", actions, chunk_size=20)
    assert (status.total, status.done, status.submitted, status.finished) == (len(actions), 0, True, False)
    assert status.chunks_open == -(-len(actions) // 20)
    async with session() as recall:
        worked = await jobs.work(recall)
    assert worked.done == len(actions)
    assert worked.chunks == status.chunks_open
    status = await jobs.status("tonight")
    assert (status.done, status.failed, status.skipped) == (len(actions), 0, 0)
    assert (status.chunks_open, status.chunks_in_work, status.chunks_dead, status.finished) == (0, 0, 0, True)
    lines = [line async for line in jobs.results("tonight")]
    starts = {action.event_id: action.start_time for action in actions}
    assert [starts[line.event_id] for line in lines] == sorted(starts.values())
    assert {line.status for line in lines} == {"done"}
    assert len(sandbox.snapshot()["bots"]) == len(actions)
