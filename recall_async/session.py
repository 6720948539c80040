"""`RecallSession`: what a program opens, calls and closes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self
from uuid import UUID

import aiohttp
from yarl import URL

from . import checks
from .address import parse_base_url
from .caller import Client
from .errors import ConfigurationError
from .events import Listener, Observers, log_as_the_environment_says
from .limits.contract import LaneStatistics, QuotaStore
from .limits.local.store import LocalQuotaStore
from .limits.quota import Priority, Quota, check_quotas
from .models import Calendar
from .operations import OTHER
from .resources.bots import Bots
from .resources.calendar_events import CalendarEvents
from .resources.calendars import Calendars
from .resources.free import free_request
from .retry import RetryPolicy
from .secrecy import Secret
from .transport import Transport

if TYPE_CHECKING:  # what a program does not use costs nothing when it starts
    from .bulk.actions import Action
    from .bulk.doubts import Doubts
    from .bulk.journal import Journal
    from .bulk.progress import Progress
    from .bulk.run import BulkRun
    from .outage import Outage
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
    - `base_url`: in place of the region's; or else `RECALL_BASE_URL`, unless a `region` is given. Plain http only to
      loopback hosts.
    - `workspace`: the name under which quotas are shared; by default each pair of base URL and key has its own. Keys of one
      workspace share its quota on the server: give their sessions one name.
    - `quotas`: by operation name, where the provider granted other limits, or a job is to go at another pace.
    - `quota_store`: where the quotas' state is kept; by default in this process.
    - `retry`: how often and how patiently a call is tried again.
    - `timeout`: seconds for one attempt.
    - `http`: an `aiohttp.ClientSession` to send with, which the caller closes; or a function that makes one when the session
      opens, which is closed with the session. Its own middlewares are not run.
    - `on_event`: a function, or several, that are told what the session does: attempts, waits and why, retries, pauses. See
      `recall_async.events`.
    - `keep_extra`: keep the fields of answers that this version does not know, as `extra` of events and calendars.

    Raises `ConfigurationError` for an invalid argument. https://docs.recall.ai/reference/authentication
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
        keep_extra: bool = False,
        on_event: Listener | Iterable[Listener] | None = None,
    ) -> None:
        log_as_the_environment_says()
        given, api_key = _sealed(api_key), None  # nor do the frames of a traceback show it
        key = _check_api_key(given)
        url = _address(region, base_url)
        checks.seconds("timeout", timeout)
        if retry is not None:
            checks.instance("retry", retry, RetryPolicy, "a RetryPolicy, such as RetryPolicy(attempts=3)")
        if quotas is not None:
            checks.instance("quotas", quotas, Mapping, "a mapping from operation names to Quota(limit, per)")
        if workspace is not None:
            checks.text("workspace", workspace)
        if http is not None and not callable(http) and not hasattr(http, "request"):
            raise checks.invalid("http", "an aiohttp.ClientSession, or a function that makes one", http)
        store = LocalQuotaStore() if quota_store is None else quota_store
        if not hasattr(store, "longest_request") or not callable(getattr(store, "open", None)):
            raise checks.invalid("quota_store", "a store of quotas, such as RedisQuotaStore.from_url(...)", store)
        if timeout > store.longest_request:
            raise ConfigurationError(
                f"timeout must be at most the quota store's longest_request of {store.longest_request:g} s, got {timeout:g}"
            )
        self._client = Client(
            Transport(url, key, float(timeout), http),
            store,
            workspace or hashlib.sha256(f"{url}\0{key}".encode()).hexdigest()[:16],
            check_quotas(quotas),
            retry or RetryPolicy(),
            keep_extra=checks.flag("keep_extra", keep_extra),
            observers=Observers(on_event),
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
        doubts: Doubts | None = None,
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
        - `doubts`: counts the refusals in a row of several runs together.

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
            doubts=doubts,
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
        tag: bool = False,
    ) -> Plan:
        """Decide what is to be done so that every event has the bot that `policy` says. Nothing is sent yet.

        - `policy`: a `RecordingPolicy`, or any function of an event and its calendar that gives a `BotSpec` or `None`.
        - `calendars`: calendars or their ids; by default all of the workspace.
        - `updated_since`: look only at events that changed since then, such as the last plan's `watermark`, and at
          calendars that were connected since then.
        - `lead_time`: seconds that must be left for a new bot; by default the policy's attribute `lead_time`, or none.
        - `refresh`: schedule bots again that are right, with a `bot_config` that may have changed: the API does not show it.
        - `remove_foreign`: remove also bots whose key the policy's scheme cannot have made.
        - `tag`: schedule bots with tags in their `metadata` (`recall_async.tagged`). A plan of all events then lists the
          bots to come, and schedules those again whose tags tell of another `bot_config` (`new configuration`).

        A plan is made of complete lists only: an error while listing is raised, and so is what the policy raises.
        Raises `ConfigurationError`, or any other `RecallError`. docs/sync.md
        """
        from .sync.planner import Planner

        planner = Planner(
            self._client, policy, refresh=refresh, lead_time=lead_time, remove_foreign=remove_foreign, tag=tag
        )
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

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        quota: str = OTHER,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Send a request that has no method of its own, such as `request("GET", "/api/v1/bot/...")`, and return its JSON.

        - `path`: what follows the host, beginning with `/api/`.
        - `body`: is sent as JSON.
        - `quota`: the operation whose quota it uses; by default `request`, which has 60 requests a minute unless the
          session's `quotas` name another.

        Retries, deadlines and errors are as everywhere. Returns `None` for an empty response.
        """
        request = free_request(method, path, query, body, quota)
        return await self._client.call(
            request,
            priority=priority,
            until=self._client.until(deadline),
            retry=retry,
            idempotency_key=idempotency_key,
        )

    def statistics(self) -> dict[str, LaneStatistics]:
        """Slots, waiting calls and counters of every operation, by its name. Cheap enough to poll.

        They are of all sessions that share the lane; an operation that this one has not called yet is shown as unused.
        """
        return self._client.statistics()

    def outage(self) -> Outage | None:
        """The outage of the server for whose end bulk work of the workspace waits; `None` while there is none."""
        return self._client.outage()

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

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a RecallSession cannot be copied or pickled: open one wherever you need one")

    def __repr__(self) -> str:
        if not hasattr(self, "_client"):  # as a debugger sees it when the arguments were wrong
            return "<RecallSession>"
        state = "closed" if self.closed else "open"
        return f"<RecallSession {self._client.transport.base_url} workspace={self.workspace} {state}>"


def _sealed(key: object) -> object:
    """The key, so that no representation shows it; of another type than text, the type alone."""
    return Secret(key) if isinstance(key, str) else None if key is None else type(key)


def _check_api_key(key: object) -> Secret:
    if key is None:
        if "RECALL_API_KEY" not in os.environ:
            raise ConfigurationError("api_key must be given, or RECALL_API_KEY be set: there is no API key")
        key = Secret(os.environ["RECALL_API_KEY"])
    if not isinstance(key, Secret):
        raise ConfigurationError(f"api_key must be a text, got {getattr(key, '__name__', key)}")
    if key.startswith("Token "):  # as it stands in the header
        key = Secret(key.removeprefix("Token "))
    if not key.strip():
        raise ConfigurationError("api_key must not be empty")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError("api_key must not hold a line break, a space or another character that no API key has")
    return key


def _address(region: Region | str | None, base_url: str | None) -> URL:
    """Where the API is. What the program says goes before what the environment says."""
    named = _check_region(region)
    if not base_url and not region:
        base_url = os.environ.get("RECALL_BASE_URL")
    return parse_base_url(base_url or named.base_url)


def _check_region(given: Region | str | None) -> Region:
    name = given or os.environ.get("RECALL_REGION") or Region.US_EAST_1
    try:
        return Region(name)
    except ValueError:
        raise checks.invalid("region", f"one of {', '.join(Region)}", name) from None
