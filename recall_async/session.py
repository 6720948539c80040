"""`RecallSession`: what a program opens, calls and closes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import UUID

import aiohttp

from . import checks
from .address import parse_base_url
from .caller import Client
from .errors import ConfigurationError
from .limits.contract import LaneStatistics, QuotaStore
from .limits.local.store import LocalQuotaStore
from .limits.quota import Quota, check_quotas
from .models import Calendar
from .resources.bots import Bots
from .resources.calendar_events import CalendarEvents
from .resources.calendars import Calendars
from .retry import RetryPolicy
from .secrecy import Secret
from .transport import Transport

if TYPE_CHECKING:  # what a program does not use costs nothing when it starts
    from .bulk.actions import Action
    from .bulk.journal import Journal
    from .bulk.progress import Progress
    from .bulk.run import BulkRun
    from .stopping import StopSignal
    from .sync.plan import Plan
    from .sync.policy import Policy

MAX_OUTAGE = 3600.0
"""Seconds for which a job waits for a server that is away."""
RECHECK = 60.0
"""Seconds after which `apply` looks again for events that changed: an action may wait longer than that for the quota."""


class Region(StrEnum):
    """Where a workspace lives; each region has keys of its own: https://docs.recall.ai/docs/regions"""

    US_EAST_1 = "us-east-1"
    US_WEST_2 = "us-west-2"
    EU_CENTRAL_1 = "eu-central-1"
    AP_NORTHEAST_1 = "ap-northeast-1"

    @property
    def base_url(self) -> str:
        """The address of the region's API."""
        return f"https://{self.value}.recall.ai"


class RecallSession:
    """A client of one workspace of Recall.ai's Calendar V2 API, for one event loop.

    Use it with `async with`, or `await aclose()` it. Its calls keep to the workspace's quotas together with those of every
    other session in the event loop that names the same `workspace`.

    - `api_key`: or else `RECALL_API_KEY`. It is never shown, and sent to the origin of `base_url` only.
    - `region`: a `Region` or its name; or else `RECALL_REGION`, or else `us-east-1`.
    - `base_url`: in place of the region's; or else `RECALL_BASE_URL`. Plain http only to loopback hosts.
    - `workspace`: the name under which quotas are shared; by default each pair of base URL and key has its own. Keys of one
      workspace share its quota on the server: give their sessions one name.
    - `quotas`: by operation name, where the provider granted other limits, or a job is to go at another pace.
    - `quota_store`: where the quotas' state is kept; by default in this process.
    - `retry`: how often and how patiently a call is tried again.
    - `timeout`: seconds for one attempt.
    - `http`: an `aiohttp.ClientSession` to send with, which the caller closes; or a function that makes one when the session
      opens, which is closed with the session. Its own middlewares are not run.

    Raises `ConfigurationError` for what cannot be. https://docs.recall.ai/reference/authentication
    """

    calendar_events: CalendarEvents
    """Calendar events, and the bots on them."""
    calendars: Calendars
    """Calendars."""
    bots: Bots
    """Bots: what became of those that were scheduled."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        region: Region | str | None = None,
        base_url: str | None = None,
        workspace: str | None = None,
        quotas: Mapping[str, Quota] | None = None,
        quota_store: QuotaStore | None = None,
        retry: RetryPolicy | None = None,
        timeout: float = 30.0,
        http: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None = None,
    ) -> None:
        if isinstance(api_key, str):
            api_key = Secret(api_key)  # also in the frames of a traceback
        key = _check_api_key(api_key)
        in_region = _check_region(region).base_url
        url = parse_base_url(base_url or os.environ.get("RECALL_BASE_URL") or in_region)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise ConfigurationError(f"timeout is {timeout!r}: it is a number of seconds above 0")
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ConfigurationError(f"retry is {retry!r}: write RetryPolicy(attempts=...)")
        if quotas is not None and not isinstance(quotas, Mapping):
            raise ConfigurationError(f"quotas is {quotas!r}: it is a mapping from operation names to Quota(limit, per)")
        if workspace is not None and (not isinstance(workspace, str) or not workspace):
            raise ConfigurationError(f"workspace is {workspace!r}: it is a name")
        store = quota_store or LocalQuotaStore()
        if timeout > store.longest_request:
            raise ConfigurationError(
                f"timeout is {timeout:g} s, but the quota store counts on requests that take {store.longest_request:g} s "
                "at the most: give it a larger longest_request"
            )
        self._client = Client(
            Transport(url, key, float(timeout), http),
            store,
            workspace or hashlib.sha256(f"{url}\0{key}".encode()).hexdigest()[:16],
            check_quotas(quotas),
            retry or RetryPolicy(),
        )
        self.calendar_events = CalendarEvents(self._client)
        self.calendars = Calendars(self._client)
        self.bots = Bots(self._client)

    @property
    def workspace(self) -> str:
        """The name under which the session's quotas are shared."""
        return self._client.workspace

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._client.closed

    def bulk(
        self,
        actions: Iterable[Action] | AsyncIterable[Action],
        *,
        concurrency: int | None = None,
        journal: Journal | str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        stop: StopSignal | None = None,
        max_outage: float = MAX_OUTAGE,
    ) -> BulkRun:
        """One outcome per action, as each is finished: `async for outcome in recall.bulk(actions)`.

        A collection goes soonest event first. Any other iterable, asynchronous ones too, goes in its own order and is read
        as it is needed, so that it can be of any length; `len()` of it, where there is one, is the total. Actions on one
        event keep their order, and those with one deduplication key are never in flight together. All of them leave room
        for interactive calls, and none has a deadline.

        - `concurrency`: actions at work at once, 64 by default.
        - `journal`: a file that tells of every finished action. The job that is started again with it does the rest.
        - `on_progress`: is called with a `Progress` after each action. What it raises ends the job.
        - `stop`: a `StopSignal` that ends the job well, as the run's `stop()` does.
        - `max_outage`: seconds for which a server that is away is waited for, with one request at a time; an hour by
          default. Then the job ends with `ServerUnavailableError`, and can be resumed.

        A failed action is an outcome like any other. An error with `stops_jobs` (a refused key, a closed session, a journal
        that cannot be written) ends the job, and so do five 402 or 403 in a row: it is raised when what was in flight is
        finished and handed out, and a note says how much was not done. What the iterable raises is passed on likewise.
        Raises `ConfigurationError`. https://docs.recall.ai/docs/calendar-v2-scheduling-guide
        """
        from .bulk.run import BulkRun

        return BulkRun(
            self._client,
            actions,
            concurrency=concurrency,
            journal=journal,
            on_progress=on_progress,
            stop=stop,
            max_outage=max_outage,
        )

    async def plan(
        self,
        *,
        policy: Policy,
        calendars: Iterable[str | UUID | Calendar] | None = None,
        updated_since: datetime | str | None = None,
        lead_time: float | timedelta | None = None,
        refresh: bool = False,
        remove_foreign: bool = False,
    ) -> Plan:
        """Decide what is to be done so that every event has the bot that `policy` says. Nothing is sent yet.

        - `policy`: a `RecordingPolicy`, or any function of an event and its calendar that gives a `BotSpec` or `None`.
        - `calendars`: calendars or their ids; by default all of the workspace.
        - `updated_since`: look only at events that changed since then, such as the last plan's `watermark`, and at
          calendars that were connected since then.
        - `lead_time`: seconds that must be left for a new bot; by default the policy's attribute `lead_time`, or none.
        - `refresh`: schedule bots again that are right, with a `bot_config` that may have changed: the API does not show it.
        - `remove_foreign`: remove also bots whose key the policy's scheme cannot have made.

        A plan is made of complete lists only: an error while listing is raised, and so is what the policy raises.
        Raises `ConfigurationError`, or any other `RecallError`. docs/sync.md
        """
        from .sync.planner import Planner

        planner = Planner(self._client, policy, refresh=refresh, lead_time=lead_time, remove_foreign=remove_foreign)
        return await planner.plan(calendars, updated_since)

    def apply(
        self,
        plan: Plan,
        *,
        concurrency: int | None = None,
        journal: Journal | str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        recheck: float | None = RECHECK,
        stop: StopSignal | None = None,
        max_outage: float = MAX_OUTAGE,
    ) -> BulkRun:
        """One outcome for each request of a plan, soonest event first: `async for outcome in recall.apply(plan)`.

        Each event is looked at again before its turn, and again after `recheck` seconds. What changed since the plan was
        made, is as it should be already, has begun, or was changed by a later plan is skipped, and its outcome says so. With
        `recheck=None` only the clock is looked at. The other parameters, and the errors, are those of `bulk`; a journal
        belongs to one plan. docs/sync.md
        """
        from .bulk.run import BulkRun
        from .sync.apply import Application, id_of
        from .sync.plan import Plan

        checks.instance("plan", plan, Plan, "a Plan, made by RecallSession.plan or Plan.from_json")
        recheck = None if recheck is None else checks.seconds("recheck", recheck)
        application = Application(plan, self.calendar_events, self.workspace, recheck, resumable=journal is not None)
        return BulkRun(
            self._client,
            application,
            concurrency=concurrency,
            journal=journal,
            on_progress=on_progress,
            stop=stop,
            max_outage=max_outage,
            total=len(application),
            in_order=True,
            job=None if journal is None else id_of(plan),
            on_outcome=application.note,
        )

    def statistics(self) -> dict[str, LaneStatistics]:
        """Slots, waiting calls and counters of every operation, by its name. Cheap enough to poll.

        They are of all sessions that share the lane; an operation that this one has not called yet is shown as unused.
        """
        return self._client.statistics()

    async def aclose(self) -> None:
        """Close the session. Calls in flight end with `SessionClosedError`; closing it again does nothing."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        self._client.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_client"):  # as a debugger sees it when the arguments were wrong
            return "<RecallSession>"
        state = "closed" if self.closed else "open"
        return f"<RecallSession {self._client.transport.base_url} workspace={self.workspace} {state}>"


def _check_api_key(key: str | None) -> Secret:
    if key is None:
        if "RECALL_API_KEY" not in os.environ:
            raise ConfigurationError("there is no API key: pass api_key=, or set RECALL_API_KEY")
        key = Secret(os.environ["RECALL_API_KEY"])
    if not isinstance(key, Secret) or not key.strip():
        raise ConfigurationError("the API key is empty")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError("the API key holds a line break, a space or another character that no key has")
    return key


def _check_region(given: Region | str | None) -> Region:
    name = given or os.environ.get("RECALL_REGION") or Region.US_EAST_1
    try:
        return Region(name)
    except ValueError:
        raise ConfigurationError(f"no region is called {name!r}; there are {', '.join(Region)}") from None
