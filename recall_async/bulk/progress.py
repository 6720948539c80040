"""The progress of a bulk job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..limits.contract import LaneStatistics
from ..operations import REMOVE_BOT, SCHEDULE_BOT
from ..outage import Outage
from .actions import Action, Outcome, ScheduleBot, Status

RECENT = 256
"""The number of finished actions from which recent values are computed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a bulk job."""

    done: int
    failed: int
    skipped: int
    resumed: int
    """The number of these that the journal had from an earlier run."""
    total: int | None
    """The number of actions; `None` if the input has no length."""
    rate: float
    """Recent actions per second, without those that sent no request."""
    taken: int
    """Used slots of the quota, by all clients, for the operation with the most remaining actions."""
    limit: int
    """The number of slots of that quota."""
    waited: float
    """Average seconds that recent actions waited before and between their requests."""
    paused: float
    """Seconds for which a 429 still pauses all requests."""
    eta: float | None
    """Seconds until the job is done if only the quota limits it; `None` while `total` is `None`."""

    outage: Outage | None = None
    """The outage whose end the job waits for; `None` while the server is available."""
    store_silent: float = 0.0
    """Seconds for which Redis, which has the quota, has not answered while actions wait for it; 0 while it answers."""

    @property
    def finished(self) -> int:
        """The number of actions with an outcome."""
        return self.done + self.failed + self.skipped

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.done} done, {self.failed} failed, {self.skipped} skipped{of}"


def operation_of(action: Action) -> str:
    """Return the name of the operation that performs the action."""
    return SCHEDULE_BOT.name if isinstance(action, ScheduleBot) else REMOVE_BOT.name


class Tally:
    """Counts the outcomes of a job. Times are in seconds and never go back."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._counts: dict[Status, int] = {"done": 0, "failed": 0, "skipped": 0}
        self._resumed = 0
        self._kinds = {SCHEDULE_BOT.name: 0, REMOVE_BOT.name: 0}
        self._times: deque[float] = deque(maxlen=RECENT)
        self._sent = dict.fromkeys(self._kinds, 0)
        self._waited = 0.0

    def count(self, outcome: Outcome, now: float) -> None:
        """Count an outcome at `now`."""
        self._counts[outcome.status] += 1
        self._kinds[operation_of(outcome.action)] += 1
        if outcome.resumed:
            self._resumed += 1
        elif outcome.attempts:
            self._times.append(now)
            self._sent[operation_of(outcome.action)] += 1
            self._waited += (outcome.waited - self._waited) / min(len(self._times), RECENT // 8)

    @property
    def counts(self) -> dict[Status, int]:
        """The number of outcomes so far, by status."""
        return self._counts

    @property
    def unfinished(self) -> int | None:
        """The number of actions without an outcome; `None` while `total` is `None`."""
        return None if self.total is None else max(0, self.total - sum(self._counts.values()))

    def at_the_end(self) -> str:
        """Return the final message of a stopped job."""
        counts = ", ".join(f"{number} {status}" for status, number in self._counts.items())
        left = "the" if self.unfinished is None else self.unfinished
        return f"The bulk job stopped with {counts}; {left} others are unfinished."

    def progress(
        self,
        now: float,
        statistics: Callable[[str], LaneStatistics],
        *,
        outage: Outage | None = None,
        known: int = 0,
        in_flight: int = 0,
    ) -> Progress:
        """Return a snapshot.

        `statistics` returns an operation's lane; `known` counts the actions without requests, `in_flight` the job's own
        requests in flight.
        """
        seen = sum(self._kinds.values())
        left = None if self.total is None else max(0, self.total - seen)
        to_send = None if left is None else max(0, left - known)
        lanes = {name: statistics(name) for name, count in self._kinds.items() if count or not seen}
        # Assume the same mix of operations for the remaining actions as so far.
        share = {name: self._kinds[name] / seen if seen else 1.0 for name in lanes}
        most = max(lanes, key=lambda name: share[name])
        seconds = [
            self._seconds(now, name, lane, (to_send or 0) * share[name], in_flight * share[name])
            for name, lane in lanes.items()
        ]
        paused = max(lane.paused for lane in lanes.values())
        silent = max(lane.store_silent for lane in lanes.values())
        since = self._times[0] if self._times else now
        return Progress(
            **self._counts,
            resumed=self._resumed,
            total=self.total,
            rate=(len(self._times) - 1) / (now - since) if now > since else 0.0,
            taken=lanes[most].taken,
            limit=lanes[most].quota.limit,
            waited=self._waited,
            paused=paused,
            eta=None if to_send is None or outage is not None or silent else to_send and paused + max(seconds),
            outage=outage,
            store_silent=silent,
        )

    def _seconds(self, now: float, operation: str, lane: LaneStatistics, requests: float, in_flight: float) -> float:
        """Return the seconds for which the quota makes so many unfinished requests of an operation wait.

        Those in flight do not wait any more.
        """
        waiting = max(0.0, requests - in_flight)
        steadily = waiting / min(lane.quota.rate, lane.pace or lane.quota.rate)
        if lane.pace is not None or lane.paused:
            return steadily
        # After a burst, all its slots are freed together, so the quota determines the time.
        sent = max(self._sent[operation] + round(in_flight), lane.taken)
        planned = lane.quota.seconds_for(sent + round(waiting)) - lane.quota.seconds_for(sent)
        last_sent = now if in_flight or not self._times else self._times[-1]
        left = planned - (now - last_sent)
        if left > 0 or not self._times:
            return left
        if planned:
            return steadily
        # The quota is no limit now: the pace is that of the last moments, without the wait before a burst.
        burst = min(len(self._times), RECENT // 8)
        return min(steadily, waiting * (self._times[-1] - self._times[-burst]) / max(1, burst - 1))
