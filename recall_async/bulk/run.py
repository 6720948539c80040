"""`BulkRun`, the return value of `RecallSession.bulk`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Sized
from logging import DEBUG
from types import TracebackType
from typing import Any, Self

from .. import checks
from ..caller import Client
from ..errors import RecallError
from ..events import JobProgressed
from ..limits.loops import current_loop
from ..outage import MAX_OUTAGE
from ..stopping import StopSignal
from .actions import Action, Outcome
from .doubts import Doubts
from .engine import Engine
from .journal import Journal
from .progress import Progress, Tally

CONCURRENCY = 64
"""The default number of actions in progress at once: enough for 300 requests per second of 0.2 s each."""

logger: logging.Logger = logging.getLogger("recall_async")

NEVER_STARTED = "a bulk run was never started, so nothing was sent: use `async for outcome in run`, or `await run`"


class BulkRun(AsyncIterator[Outcome]):
    """Iterate over the outcomes of a bulk job, one per action, as each action finishes.

    The job begins when the first outcome is fetched, and continues while outcomes are fetched. `aclose()` and the end
    of an `async with` end it at once; so does leaving the `async for` if no other reference to the run exists. If
    outcomes are no longer fetched, the job finishes the actions that it has begun, and pauses. `await run` performs what
    remains of the job and returns its final `Progress`. A run that is dropped before any of this sends nothing and warns.

    - `actions`: may include outcomes, for actions that need no request; they are returned unchanged.
    - `stop`: a signal that ends the job as `stop()` does.
    - `max_outage`: seconds to wait for a server that is unavailable.
    - `job`: the id that marks the journal's lines; lines of another job are rejected.
    - `on_outcome`: called with each outcome before it is returned.
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
        job: str | None = None,
        doubts: Doubts | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        max_outage: float = MAX_OUTAGE,
    ) -> None:
        if not isinstance(actions, Iterable | AsyncIterable):
            raise checks.invalid("actions", "an iterable of actions", actions)
        concurrency = CONCURRENCY if concurrency is None else checks.whole("concurrency", concurrency, at_least=1)
        if on_progress is not None:
            checks.callback("on_progress", on_progress, "a Progress")
        if journal is not None and not isinstance(journal, Journal):
            journal = Journal(journal)
        total = _length(actions)
        self._path = None if journal is None else journal.path
        self._stop = StopSignal(stop)
        self._engine = Engine(
            caller,
            actions,
            concurrency,
            journal,
            soonest_first=total is not None and isinstance(actions, Collection),
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
        """A snapshot of the job's progress."""
        engine = self._engine
        return self._tally.progress(
            self._now(), engine.statistics, outage=engine.outage(), known=engine.known, in_flight=engine.in_flight
        )

    def stop(self, timeout: float | None = None) -> None:
        """Stop the job gently: send nothing more, finish the requests in flight, then end the `async for`.

        The job waits at most `timeout` seconds for the requests in flight, then logs their events. With a journal, the
        log says what is left.
        """
        if timeout is not None and self._engine.loop is not None:
            timeout = checks.seconds("timeout", timeout, zero=True)
            self._engine.loop.call_later(timeout, self._engine.time_out, timeout)
        self._engine.stop()

    async def aclose(self) -> None:
        """End the job at once. Finished actions are in the journal. Further calls do nothing."""
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Progress]:
        return self._finish().__await__()

    async def _finish(self) -> Progress:
        async with self:
            async for _ in self:
                pass
        return self.progress

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
            elif isinstance(error, asyncio.CancelledError):  # Ctrl-C: it is in the traceback
                error.add_note(f"{self._tally.at_the_end()}{self._how_to_resume()}")
            await self.aclose()
            raise
        if self._stop.is_set and self._path is not None and self._tally.unfinished != 0:
            logger.info("%s%s", self._tally.at_the_end(), self._how_to_resume())
            self._path = None
        raise StopAsyncIteration

    def _how_to_resume(self) -> str:
        return "" if self._path is None else f" To resume it, run it again with the journal {self._path}"

    def _tell(self) -> None:
        if self._client.report.wants(DEBUG):
            tally = self._tally
            progressed = JobProgressed(workspace=self._client.workspace, **tally.counts, total=tally.total)
            self._client.report.tell(progressed)

    def _now(self) -> float:
        return time.monotonic() if self._engine.loop is None else self._engine.loop.time()

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is None:
            return
        if engine.loop is None:
            if engine.untouched:
                warnings.warn(NEVER_STARTED, RuntimeWarning, stacklevel=2)
            return
        if engine.loop.is_closed():
            engine.close()
        elif current_loop() is engine.loop:
            engine.abandon()
        else:
            engine.loop.call_soon_threadsafe(engine.abandon)


def _length(actions: object) -> int | None:
    if not isinstance(actions, Sized):
        return None
    try:
        return len(actions)
    except TypeError:  # a progress bar has a length only if the wrapped input has one
        return None
