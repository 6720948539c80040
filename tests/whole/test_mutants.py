"""The runs find faults: the client with a guard taken out is found out within a few seeds."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from recall_async import CalendarSyncer, RecallError, attempts, sending
from recall_async.bulk import earlier, journal, order
from recall_async.limits.contract import Slot
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.window import Window
from recall_async.sending import Sending
from recall_async.transport import Transport
from recall_async.workspace import KeyLocks
from tests.whole.run import run

SEEDS = 150


def slots_come_back_at_once(patch: pytest.MonkeyPatch) -> None:
    """An answered request keeps its slot for a window."""
    patch.setattr(Window, "answered", lambda self, now: self.unused())


def lost_requests_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A request without an answer keeps its slot."""
    patch.setattr(Slot, "lost", lambda self, grace: self.unused())


def lost_requests_have_no_grace(patch: pytest.MonkeyPatch) -> None:
    """A request without an answer may be counted after it was given up."""
    lost = Slot.lost
    patch.setattr(Slot, "lost", lambda self, grace: lost(self, 0.0))


def nobody_pauses(patch: pytest.MonkeyPatch) -> None:
    """A 429 holds back the others."""
    patch.setattr(Slot, "rejected", lambda self, retry_after: self.answered())


def pauses_are_short(patch: pytest.MonkeyPatch) -> None:
    """A `Retry-After` is a floor."""
    rejected = Slot.rejected
    patch.setattr(Slot, "rejected", lambda self, retry_after: rejected(self, retry_after / 2))


def keys_are_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Calls with one deduplication key go one after the other."""
    patch.setattr(KeyLocks, "take", lambda self, key: True)
    patch.setattr(KeyLocks, "release", lambda self, key: None)


def keys_stay_with_the_cancelled(patch: pytest.MonkeyPatch) -> None:
    """Whoever is cancelled lets the next one have the key."""
    release = KeyLocks.release

    def only_when_well(self: KeyLocks, key: str) -> None:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            release(self, key)

    patch.setattr(KeyLocks, "release", only_when_well)


def aiohttp_sends_again(patch: pytest.MonkeyPatch) -> None:
    """One attempt is one request."""
    handled = Sending.__call__

    def again(self: Sending, request: Any, handler: Any) -> Any:
        self._begun = False
        return handled(self, request, handler)

    patch.setattr(Sending, "__call__", again)


def nobody_waits_for_the_window(patch: pytest.MonkeyPatch) -> None:
    """The window guarantees the quota."""
    patch.setattr(Window, "opens", lambda self, now, ceiling: now)


def answers_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    """Those who wait for an answer are looked at when it comes."""
    end = LocalLane._end

    def sleepily(self: LocalLane, *args: Any) -> None:
        self._dispatch = lambda: None  # type: ignore[method-assign]
        end(self, *args)
        del self._dispatch

    patch.setattr(LocalLane, "_end", sleepily)


def deadlines_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A call ends at its deadline."""
    admit = LocalLane.admit

    def without(self: LocalLane, priority: Any, start: float, until: float, **options: Any) -> Any:
        return admit(self, priority, start, math.inf, **options)

    patch.setattr(LocalLane, "admit", without)


def attempts_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    """An answer is waited for `timeout` seconds."""
    made = Transport.__init__

    def patient(self: Transport, *args: Any) -> None:
        made(self, *args)
        self._timeout = type(self._timeout)(total=900.0)

    patch.setattr(Transport, "__init__", patient)


def journals_are_not_written(patch: pytest.MonkeyPatch) -> None:
    """What is done is not done again."""
    patch.setattr(journal.JournalFile, "append", lambda self, line: None)


def history_is_bunk(patch: pytest.MonkeyPatch) -> None:
    """What the journal has is left out only if it is what shall be done."""
    patch.setattr(earlier, "identity_of", lambda action: (str(action.event_id), "remove", None, None))


def order_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    """Actions on one event keep their order."""

    def add(self: order.ConflictQueue, item: order.Item) -> None:
        self.waiting += 1
        self.ready.appendleft(item)

    patch.setattr(order.ConflictQueue, "add", add)


def gateways_prove_everything(patch: pytest.MonkeyPatch) -> None:
    """A gateway's answer does not say that the request was counted."""
    patch.setattr(attempts, "UNPROVEN", frozenset())


def every_409_renews_the_key(patch: pytest.MonkeyPatch) -> None:
    """A request that may have taken effect is repeated with its own key."""
    decide = attempts.decide
    patch.setattr(attempts, "decide", lambda *args, **options: decide(*args, **{**options, "in_doubt": False}))


def answers_nobody_asked_for_are_taken(patch: pytest.MonkeyPatch) -> None:
    """What came over a connection before anything was asked is no answer."""
    patch.setattr(sending._Response, "start", aiohttp.ClientResponse.start)


MUTANTS = [
    answers_nobody_asked_for_are_taken,
    gateways_prove_everything,
    slots_come_back_at_once, lost_requests_are_not_counted, lost_requests_have_no_grace, nobody_pauses, pauses_are_short,
    keys_are_not_locked, keys_stay_with_the_cancelled, aiohttp_sends_again, nobody_waits_for_the_window,
    answers_wake_nobody, deadlines_are_forgotten, attempts_have_no_limit, journals_are_not_written, history_is_bunk,
    order_does_not_matter,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_client_that_renews_its_key_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would miss what it takes three attempts in a row to see."""
    every_409_renews_the_key(monkeypatch)
    assert any(run(seed).complaints for seed in range(1, 3000))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_syncer_that_takes_failed_syncs_for_done_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would miss what it takes a fault in the last sync of an event to see."""
    apply: Any = CalendarSyncer._apply

    async def without(self: CalendarSyncer, calendar_id: str, plan: object) -> set[str]:
        try:
            return await apply(self, calendar_id, plan)  # type: ignore[no-any-return]
        except RecallError:
            return set()

    monkeypatch.setattr(CalendarSyncer, "_apply", without)
    assert any(run(seed).complaints for seed in range(850, 1100))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # runs that break down leave their sessions open
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_client_without_a_guard_is_found_out(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would take a run that judges nothing for one that finds nothing."""
    mutant(monkeypatch)
    found = any(_finds_something(seed) for seed in range(1, SEEDS + 1))
    gc.collect()
    assert found, f"{mutant.__doc__} Without it, {SEEDS} runs are well."


def _finds_something(seed: int) -> bool:
    try:
        return bool(run(seed).complaints)
    except Exception:  # noqa: BLE001  # a run that breaks down has found something, too
        return True
