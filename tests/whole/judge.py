"""Whether what the client told agrees with what the server saw."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator

from recall_async import RecallError, RemoveBot, SessionClosedError
from tests.whole.faults import Fault
from tests.whole.people import Job, Office, Story, bots_of
from tests.whole.server import Asked, Server

SLACK = 0.05
"""Seconds by which a deadline may be missed."""


def judge(
    office: Office, server: Server, timeout: float, delay: float, *, strangers: bool, shared: bool = False
) -> list[str]:
    """What is wrong; nothing, if the client keeps its word. With `strangers`, the quota is not the client's alone.

    With a `shared` quota the sessions are processes, which hear of each other's pauses a little later.
    """
    return [
        *(_throttle(server) if not strangers else ()),
        *_pauses(server, delay, shared=shared),
        *_patience(server, timeout),
        *(complaint for story in office.stories for complaint in _story(office, server, story)),
        *_unasked(office, server),
        *_final(office, server),
        *(complaint for job in office.jobs for complaint in _job(server, job)),
        *(complaint for owner in office.owners for complaint in owner.complaints),
    ]


def _throttle(server: Server) -> Iterator[str]:
    for asked in server.refused:
        yield f"the quota of {asked.operation} was overrun at {asked.sent_at:.3f} s"


def _pauses(server: Server, delay: float, *, shared: bool) -> Iterator[str]:
    """After a 429 no request of the operation leaves until its time has come."""
    by_operation = defaultdict(list)
    for asked in server.asked:
        by_operation[asked.operation].append(asked)
    for asked in server.asked:
        if asked.status != 429 or asked.retry_after is None or asked.answered_at is None:
            continue
        known = asked.answered_at + 2 * delay + SLACK  # told to the client, and what it had let go is sent
        if asked.end.closed_at is not None and asked.end.closed_at < known:
            continue
        for other in by_operation[asked.operation]:
            if (
                asked.process == other.process or not shared
            ) and known < other.sent_at < asked.answered_at + asked.retry_after:
                yield f"{asked.operation} was sent at {other.sent_at:.3f} s in the pause from {asked.answered_at:.3f} s"


def _patience(server: Server, timeout: float) -> Iterator[str]:
    """No request is waited for longer than the session's timeout, and none with the same key is sent meanwhile."""
    for asked in server.asked:
        last = asked.sent_at + timeout + SLACK
        if (asked.answered_at or last) > last and not (asked.end.closed_at is not None and asked.end.closed_at <= last):
            yield f"{asked.operation}, sent at {asked.sent_at:.3f} s, was waited for longer than {timeout} s"
    for asked in server.clashes:
        yield f"{asked.body['deduplication_key']} was in flight twice at {asked.sent_at:.3f} s"


def _story(office: Office, server: Server, story: Story) -> Iterator[str]:
    what = f"{story.operation} {story.nonce} from {story.begun:.3f} s"
    if story.ended is None:
        yield f"{what} never ended"
        return
    if isinstance(story.error, asyncio.CancelledError) and not story.cancelled:
        yield f"{what} was cancelled by nobody"
    if isinstance(story.error, SessionClosedError) and not office.closings:
        yield f"{what} was told of a closed session, but none was closed"
    if story.deadline is not None and story.ended > story.begun + story.deadline + SLACK:
        yield f"{what} with a deadline of {story.deadline:.3f} s took {story.ended - story.begun:.3f} s"
    if story.nonce is None or story.operation in ("calendar_events.retrieve", "calendar_events.list"):
        if story.operation == "calendar_events.list" and story.done:
            names = [event.id for event in story.answer]
            if names != list(server.events):
                yield f"{what} gave {len(names)} of {len(server.events)} events"
        return
    requests = list(_requests(server, story))
    if story.attempts is not None and len(requests) > story.attempts:
        yield f"{what} told of {story.attempts} requests; there were {len(requests)}"
    effects = [asked for asked in requests if asked.effect_at is not None]
    if story.done and not any(asked.effect_at <= story.ended for asked in effects if asked.effect_at):
        yield f"{what} is done, without an effect"
    if story.without_effect and effects:
        yield f"{what} took effect, but failed with {story.error!r}"
    if len(effects) > 1 and story.operation != "calendar_events.remove_bot":
        yield f"{what} took effect {len(effects)} times"
    if story.done and story.operation == "calendar_events.schedule_bot" and story.nonce not in bots_of(story.answer):
        yield f"{what} was answered without its bot"


def _requests(server: Server, story: Story) -> Iterator[Asked]:
    """What was sent for a call."""
    for asked in server.asked:
        if asked.operation != story.operation or (asked.target and asked.target != story.target):
            continue
        if asked.nonce is not None and asked.nonce != story.nonce:
            continue
        if story.ended is not None and story.begun <= asked.sent_at <= story.ended:
            yield asked


def _unasked(office: Office, server: Server) -> Iterator[str]:
    """Every request was sent for somebody, while they waited for it."""
    periods = defaultdict(list)
    for story in office.stories:
        periods[story.target].append((story.begun, story.ended or 0.0))
    for job in office.jobs:
        for action in job.actions:
            periods[str(action.event_id)] = job.periods
    for owner in office.owners:
        for target in (owner.calendar, *owner.events):
            periods[target] = owner.periods
    for asked in server.asked:
        if asked.target and not any(begun <= asked.sent_at <= ended for begun, ended in periods[asked.target]):
            yield f"{asked.operation} of {asked.target} was sent at {asked.sent_at:.3f} s for nobody"


def _is_straggler(asked: Asked) -> bool:
    """The request took effect when the client no longer waited for it."""
    assert asked.effect_at is not None
    gave_up = asked.end.closed_at is not None and asked.end.closed_at <= asked.effect_at
    return gave_up or asked.fault is Fault.GATEWAY_EARLY


def _final(office: Office, server: Server) -> Iterator[str]:
    """The last effect on an event is of the last call that is done."""
    by_event = defaultdict(list)
    for story in office.stories:
        if story.operation in ("calendar_events.schedule_bot", "calendar_events.remove_bot") and story.done:
            by_event[story.target].append(story)
    for target, stories in by_event.items():
        last = stories[-1]
        for asked in server.asked:
            if asked.target != target or asked.effect_at is None or _is_straggler(asked):
                continue
            if asked.sent_at < last.begun and asked.effect_at > (last.ended or 0.0):
                yield f"an earlier request undid {last.operation} {last.nonce}"


def _job(server: Server, job: Job) -> Iterator[str]:
    """A job that was run to its end without faults: one outcome for each action, and the bots that they make."""
    if not job.finished:
        yield f"a job was not finished: {job.errors[-1:]!r}"
        return
    if sorted(id(outcome.action) for outcome in job.outcomes) != sorted(map(id, job.actions)):
        yield "an action has no outcome, or several"
        return
    for error in job.errors:
        if not isinstance(error, RecallError | asyncio.CancelledError):
            yield f"a job ended with {error!r}"
    ends = {id(outcome.action): outcome for outcome in job.outcomes}
    expected: dict[str, dict[str, str]] = {str(action.event_id): {} for action in job.actions}
    doubtful = {asked.target for asked in server.asked if asked.effect_at is not None and _is_straggler(asked)}
    for action in job.actions:
        outcome, event = ends[id(action)], server.events[str(action.event_id)]
        if outcome.status == "done":
            bots = expected[str(action.event_id)]
            if isinstance(action, RemoveBot):
                bots.clear()
            else:
                bots[action.deduplication_key] = action.bot_config["bot_name"]
        elif outcome.status == "skipped":
            over = event.over or (action.start_time is not None and "the meeting" in (outcome.reason or ""))
            if not over:
                yield f"{action} was skipped: {outcome}"
        elif not (event.dispatched and isinstance(action, RemoveBot)):
            yield f"{action} failed without a reason: {outcome.error!r}"
    for target, bots in expected.items():
        if target not in doubtful and server.events[target].names != bots:
            yield f"event {target} has {server.events[target].names}; the outcomes say {bots}"
    yield from _again(server, job)


def _again(server: Server, job: Job) -> Iterator[str]:
    """What is in the journal is not done again, where it is the only thing that was to be done to its event."""
    if job.journal is None or job.torn:
        return
    actions = Counter(str(action.event_id) for action in job.actions)
    for told_at, outcome in job.told:
        target = str(outcome.action.event_id)
        if outcome.status != "done" or actions[target] > 1:
            continue
        if any(asked.target == target and asked.sent_at > told_at for asked in server.asked):
            yield f"{outcome.action} was done by {told_at:.3f} s, and then again"
