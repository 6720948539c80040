"""`BulkRun`: what `RecallSession.bulk` returns."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Sized
from inspect import iscoroutinefunction
from logging import DEBUG
from types import TracebackType
from typing import Self

from .. import checks
from ..caller import Client
from ..errors import RecallError
from ..events import JobProgressed
from ..stopping import StopSignal
from .actions import Action, Outcome
from .doubts import Doubts
from .engine import Engine
from .journal import Journal
from .progress import Progress, Tally

CONCURRENCY = 64
"""Actions at work at once, if nothing else is said: enough for 300 requests a second of 0.2 s each."""

MAX_OUTAGE = 3600.0
"""Seconds for which a job waits for a server that is away."""


class BulkRun(AsyncIterator[Outcome]):
    """The outcomes of a bulk job, one for each action, as each is finished.

    The work begins with the first outcome that is asked for, and goes on while outcomes are fetched. `async with` and
    `aclose()` end it at once; so does leaving the `async for` over a run that nobody else holds. A run that is held but no
    longer fetched from finishes what it has begun, and rests.

    - `actions`: may hold outcomes, too, of what needs no request; they are handed out as they are.
    - `stop`: a signal that ends the job as `stop()` does.
    - `total`: how many there are, if `len()` does not tell; `in_order`: a collection is not sorted.
    - `max_outage`: seconds for which a server that is away is waited for.
    - `job`: what the journal's lines are marked with; lines of another job are refused.
    - `on_outcome`: is called with each outcome before it is handed out.
    """

    def __init__(
        self,
        caller: Client,
        actions: Iterable[Action | Outcome] | AsyncIterable[Action | Outcome],
        *,
        concurrency: int | None = None,
        journal: Journal | str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        stop: StopSignal | None = None,
        total: int | None = None,
        in_order: bool = False,
        job: str | None = None,
        doubts: Doubts | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        max_outage: float = MAX_OUTAGE,
    ) -> None:
        if not isinstance(actions, Iterable | AsyncIterable):
            raise checks.invalid("actions", "an iterable of actions", actions)
        concurrency = CONCURRENCY if concurrency is None else checks.whole("concurrency", concurrency, at_least=1)
        if on_progress is not None and (not callable(on_progress) or iscoroutinefunction(on_progress)):
            raise checks.invalid("on_progress", "a plain function that takes a Progress", on_progress)
        if journal is not None and not isinstance(journal, Journal):
            journal = Journal(journal)
        if total is None:
            total = _length(actions)
        collected = not in_order and total is not None and isinstance(actions, Collection)
        self._stop = StopSignal(stop)
        self._engine = Engine(
            caller,
            actions,
            concurrency,
            journal,
            soonest_first=collected,
            stop=self._stop,
            job=job,
            doubts=doubts,
            max_outage=checks.seconds("max_outage", max_outage, zero=True, endless=True),
        )
        self._client = caller
        self._tally = Tally(total)
        self._on_progress = on_progress
        self._on_outcome = on_outcome

    @property
    def progress(self) -> Progress:
        """Where the job is."""
        return self._tally.progress(
            self._now(), self._engine.statistics, outage=self._engine.outage(), known=self._engine.known
        )

    def stop(self, timeout: float | None = None) -> None:
        """End the job well: nothing more is sent, what is in flight is finished, and the `async for` ends after it.

        What is still in flight after `timeout` seconds is not waited for.
        """
        if timeout is not None and self._engine.loop is not None:
            timeout = checks.seconds("timeout", timeout, zero=True)
            self._engine.loop.call_later(timeout, self._engine.abort)
        self._engine.stop()

    async def aclose(self) -> None:
        """End the job at once; what is finished is in the journal. Doing it again does nothing."""
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        try:
            outcome = await self._engine.next()
            if outcome is not None:
                self._tally.count(outcome, self._now())
                if self._on_outcome is not None:
                    self._on_outcome(outcome)
                if self._on_progress is not None:
                    self._on_progress(self.progress)
                self._tell()
                return outcome
        except BaseException as error:
            if isinstance(error, RecallError):
                error.add_note(self._tally.at_the_end())
            await self.aclose()
            raise
        raise StopAsyncIteration

    def _tell(self) -> None:
        if self._client.observers.wants(DEBUG):
            tally = self._tally
            self._client.observers.tell(
                JobProgressed(
                    workspace=self._client.workspace,
                    **tally.counts,
                    total=tally.total,
                )
            )

    def _now(self) -> float:
        return time.monotonic() if self._engine.loop is None else self._engine.loop.time()

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is None or engine.loop is None:
            return
        if engine.loop.is_closed():
            engine.close()
        elif asyncio._get_running_loop() is engine.loop:
            engine.abandon()
        else:
            engine.loop.call_soon_threadsafe(engine.abandon)


def _length(actions: object) -> int | None:
    if not isinstance(actions, Sized):
        return None
    try:
        return len(actions)
    except TypeError:  # progress bars have a length only if what they wrap has one
        return None
