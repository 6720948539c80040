"""Apply a plan as a bulk job. Each request is checked again just before it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from ..bulk.actions import Action, Outcome, RemoveBot, ScheduleBot, event_of
from ..callbacks import FailureLog
from ..errors import ConfigurationError
from ..models import CalendarEvent
from ..resources.calendar_events import CalendarEvents
from ..resources.tags import digest_of
from .decide import CHANGES, Decision, bots_to_come
from .memory import MAX_REPEATS, SETTLING_TIME, ChangeHistory, Memory, memory_of
from .plan import Plan
from .recheck import ALREADY, PLAN_AGAIN, Recheck

FLAPPING = (
    f"flapping: the same change was made to this event {MAX_REPEATS} times and did not last; skipped until it changes"
)


class Application:
    """One run of a plan: yields the requests to send, and records their outcomes.

    Raises `ConfigurationError` for a plan with two decisions about one event.
    """

    def __init__(
        self,
        plan: Plan,
        events: CalendarEvents,
        workspace: str,
        recheck: float | None,
        *,
        resumable: bool,
        history: ChangeHistory | None = None,
    ) -> None:
        self._decisions: dict[str, Decision] = {}
        for decision in plan.decisions:
            if decision.kind in CHANGES or decision.reason == "flapping":
                if decision.event_id in self._decisions:
                    raise ConfigurationError(f"the plan must decide once on each event, got two on {decision.event_id}")
                self._decisions[decision.event_id] = decision
        self._plan = plan
        self._workspace = workspace
        self._recheck = Recheck(plan, events, recheck)
        self._resumable = resumable
        self._history = history
        self._failures = FailureLog()

    @property
    def _memory(self) -> Memory:
        return memory_of(self._workspace)

    def __len__(self) -> int:
        """Return the number of outcomes that the run will yield."""
        return sum(len(decision.actions) or 1 for decision in self._decisions.values())

    async def __aiter__(self) -> AsyncIterator[Action | Outcome]:
        """Yield the plan's requests, soonest event first, and a skipped outcome for each request that is outdated."""
        if self._history is not None:
            await self._memory.read(self._history)
        for decision in self._decisions.values():
            if decision.reason == "flapping":
                yield _skipped(_unwanted(decision), FLAPPING)
                continue
            reason = self._why_superseded(decision) or await self._recheck.why_outdated(decision)
            if reason is ALREADY and self._resumable:
                # Either the journal has its outcome, or it was the last request before a crash.
                *others, last = decision.actions
                for action in others:
                    yield _skipped(action, ALREADY)
                yield last
                continue
            for action in decision.actions:
                yield action if reason is None else _skipped(action, reason)

    def note(self, outcome: Outcome) -> None:
        """Record an outcome in the workspace's memory."""
        decision = self._decisions.get(event_of(outcome.action))
        if decision is None or outcome.status != "done" or outcome.action != decision.action:
            return
        now = datetime.now(UTC)
        self._look_at_bots(decision, outcome.event)
        known = self._memory.planned_at(decision.event_id, now)
        if outcome.resumed and known is not None and known >= self._plan.made_at:
            return  # it was not made again
        shown = outcome.event is None or decision.kind == "remove" or bots_to_come(outcome.event, now)
        awaited_until = None if shown else now + timedelta(seconds=SETTLING_TIME)
        change = self._memory.done(decision, self._plan.made_at, awaited_until=awaited_until)
        if self._history is not None and not outcome.resumed:
            try:
                self._history.add(change)
            except Exception as error:  # noqa: BLE001  # a program's own history may raise anything
                self._failures.add(f"the history {self._history.name}: a change could not be added", error)

    def _look_at_bots(self, decision: Decision, event: CalendarEvent | None) -> None:
        """Record which bot the response shows for the event, and whether the API changed the key of an existing bot."""
        memory, key = self._memory, decision.deduplication_key
        memory.not_in_order(decision.event_id)
        if event is None or key is None or decision.kind == "remove":
            return
        before = {bot.bot_id: bot.deduplication_key for bot in decision.bots}
        for bot in event.bots:
            if bot.deduplication_key == key:
                if decision.tag:
                    memory.digests[bot.bot_id] = digest_of(decision.bot_config)
                memory.in_order(event.id, key, bot.bot_id, event.start_time)
                if not decision.detach and before.get(bot.bot_id, key) != key:
                    memory.in_place = True

    def _why_superseded(self, decision: Decision) -> str | None:
        later = self._memory.planned_at(decision.event_id, datetime.now(UTC))
        if later is None or later <= self._plan.made_at:
            return None
        return f"a later plan, made at {later.isoformat()}, was applied to this event: {PLAN_AGAIN}"


def id_of(plan: Plan) -> str:
    """Return an identifier of the plan's content: equal plans have the same."""
    return blake2b(plan.to_json().encode(), digest_size=8).hexdigest()


def _unwanted(decision: Decision) -> Action:
    """Return the request that is skipped because its event is flapping."""
    times = (decision.start_time, decision.end_time)
    if decision.deduplication_key is None:
        return RemoveBot(decision.event_id, *times)
    return ScheduleBot(decision.event_id, decision.deduplication_key, decision.bot_config, *times)


def _skipped(action: Action, reason: str) -> Outcome:
    return Outcome(action, None, None, 0, 0.0, reason)
