"""`RecallSession`: the client that a program opens, calls and closes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self
from uuid import UUID

import aiohttp

from . import checks
from .caller import Client
from .errors import ConfigurationError
from .events import Listener
from .limits.contract import LaneStatistics, QuotaStore
from .limits.local.store import LocalQuotaStore
from .limits.quota import Priority, Quota, check_quotas
from .models import Calendar
from .operations import OTHER
from .outage import MAX_OUTAGE, Outage
from .reporting import log_as_the_environment_says
from .resources.bots import Bots
from .resources.calendar_events import CalendarEvents
from .resources.calendars import Calendars
from .resources.free import free_request
from .retry import RetryPolicy
from .settings import Region, api_key_of, base_url_of, sealed
from .transport import Transport

if TYPE_CHECKING:  # import at run time only what the program uses
    from .bulk.actions import Action
    from .bulk.doubts import Doubts
    from .bulk.journal import Journal
    from .bulk.progress import Progress
    from .bulk.run import BulkRun
    from .stopping import StopSignal
    from .sync.memory import ChangeHistory
    from .sync.plan import Plan
    from .sync.policy import Policy

RECHECK = 15.0
"""Seconds after which `apply` reads events again: an action may wait longer for the quota."""


class RecallSession:
    """A client of one workspace of Recall.ai's Calendar V2 API, for one event loop.

    Use it with `async with`, or call `await aclose()` at the end. All sessions with the same `workspace` in an event
    loop share the workspace's quotas.

    - `api_key`: default `RECALL_API_KEY`. It is never shown, and sent only to the origin of `base_url`.
    - `region`: a `Region` or its name; default `RECALL_REGION`, otherwise `us-east-1`.
    - `base_url`: replaces the region's base URL; default `RECALL_BASE_URL`, unless `region` is given. Plain http is
      allowed only for loopback hosts.
    - `workspace`: the name under which sessions share quotas; by default each pair of base URL and key has its own.
      All keys of one workspace share its quota on the server: pass the same name to their sessions.
    - `quotas`: quotas by operation name, if the provider granted other limits or a job needs another pace.
    - `quota_store`: where to store the quotas' state; by default in this process.
    - `retry`: the `RetryPolicy` of calls.
    - `timeout`: seconds for one attempt.
    - `http`: an `aiohttp.ClientSession` to use, which the caller closes; or a function that creates one when the
      session opens, which the session closes. Its own middlewares are not run.
    - `max_connections`: the most connections at once. Further calls wait before they use a slot of the quota; bulk calls
      leave an eighth of the connections to interactive calls. By default 100, and interactive calls open further ones
      if the server answers nothing on these for half a second. With `http=`, also the limit of its connector.
    - `on_event`: one or several functions that receive the session's events: attempts, waits with their reasons,
      retries, pauses. See `recall_async.events`.
    - `keep_extra`: keep response fields that this version does not know, as `extra` of events and calendars.

    Raises `ConfigurationError` for an invalid argument. https://docs.recall.ai/reference/authentication
    """

    calendar_events: CalendarEvents
    """Calendar events and their bots."""
    calendars: Calendars
    """Calendars."""
    bots: Bots
    """Bots: the status of scheduled bots."""

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
        max_connections: int | None = None,
        keep_extra: bool = False,
        on_event: Listener | Iterable[Listener] | None = None,
    ) -> None:
        log_as_the_environment_says()
        given, api_key = sealed(api_key), None  # a traceback must not show the key either
        key = api_key_of(given)
        url = base_url_of(region, base_url)
        checks.seconds("timeout", timeout)
        if max_connections is not None:
            checks.whole("max_connections", max_connections, at_least=1)
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
            Transport(url, key, float(timeout), http, max_connections),
            store,
            workspace or hashlib.sha256(f"{url}\0{key}".encode()).hexdigest()[:16],
            check_quotas(quotas),
            retry or RetryPolicy(),
            keep_extra=checks.flag("keep_extra", keep_extra),
            on_event=on_event,
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
        """True if the session was closed."""
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
        """Perform many actions, and yield one outcome per action: `async for outcome in recall.bulk(actions)`.

        A collection is sorted, soonest event first. Any other iterable, also an asynchronous one, keeps its order and
        is read as needed, so it may have any length; its `len()`, if it has one, is the total. Actions on one event
        keep their order, and actions with the same deduplication key are never in flight at the same time. Bulk
        actions leave slots for interactive calls and have no deadline.

        - `concurrency`: the most actions in progress at once, 64 by default.
        - `journal`: a file that records every finished action. A job that is restarted with it does the remaining ones.
        - `on_progress`: called with a `Progress` after each action. If it raises, the job ends.
        - `stop`: a `StopSignal` that ends the job gently, as the run's `stop()` does.
        - `max_outage`: seconds to wait for a server that is unavailable, with one request at a time; an hour by
          default. Then the job ends with `ServerUnavailableError`, and can be resumed.
        - `doubts`: counts the refusals in a row of several runs together; `JobQueue` uses it.

        A failed action is also an outcome. An error with `stops_jobs` (an invalid key, a closed session, a journal
        that cannot be written) or five 402 or 403 in a row end the job: the requests in flight finish, their outcomes
        are returned, and then the error is raised, with a note that says how many actions remain. An exception of the
        iterable is raised in the same way. Raises `ConfigurationError`.
        https://docs.recall.ai/docs/calendar-v2-scheduling-guide
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
        history: ChangeHistory | str | os.PathLike[str] | None = None,
    ) -> Plan:
        """Decide which requests give every event the bot that `policy` wants. The plan changes nothing by itself.

        - `policy`: a `RecordingPolicy`, or any function of an event and its calendar that returns a `BotSpec` or
          `None`.
        - `calendars`: calendars or their ids; by default all calendars of the workspace.
        - `updated_since`: read only events that changed since then, such as the last plan's `watermark`, and
          calendars that were connected since then.
        - `lead_time`: a meeting gets a new bot only if it begins in at least this many seconds; by default the
          policy's `lead_time`, or 0.
        - `refresh`: schedule bots again that are right, because their `bot_config` may have changed: the API does not
          show it.
        - `remove_foreign`: also remove bots whose key the policy's scheme cannot have made.
        - `tag`: schedule bots with tags in their `metadata` (`recall_async.tagged`). A plan of all events then lists
          the upcoming bots, and reschedules those whose tags show another `bot_config` (`new configuration`).
        - `history`: a `FileHistory`, or its path: what this and other processes did before. Without it, only this
          process's changes are known.

        A plan needs complete lists: an error while listing is raised, as are the policy's exceptions. Raises
        `ConfigurationError`, or any other `RecallError`. docs/sync.md
        """
        from .sync.history import history_of
        from .sync.planner import Planner

        planner = Planner(
            self._client,
            policy,
            refresh=refresh,
            lead_time=lead_time,
            remove_foreign=remove_foreign,
            tag=tag,
            history=history_of(history),
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
        history: ChangeHistory | str | os.PathLike[str] | None = None,
        stop: StopSignal | None = None,
        max_outage: float = MAX_OUTAGE,
    ) -> BulkRun:
        """Apply a plan and yield an outcome per request: `async for outcome in recall.apply(plan)`.

        The soonest event goes first. Each event is read again at most `recheck` seconds before its request is queued.
        A request is skipped, and its outcome says why, if its event has changed since the plan was made, is already as
        it should be, has begun, or was changed by a later plan. With `recheck=None` only the clock is checked.
        `history` is as in `plan`; the plan's changes are added to it. The other parameters and the errors are those of
        `bulk`; a journal belongs to one plan. docs/sync.md
        """
        from .bulk.run import BulkRun
        from .sync.apply import Application, id_of
        from .sync.history import history_of
        from .sync.plan import Plan

        checks.instance("plan", plan, Plan, "a Plan, made by RecallSession.plan or Plan.from_json")
        recheck = None if recheck is None else checks.seconds("recheck", recheck)
        application = Application(
            plan,
            self.calendar_events,
            self.workspace,
            recheck,
            resumable=journal is not None,
            history=history_of(history),
        )
        return BulkRun(
            self._client,
            application,
            concurrency=concurrency,
            journal=journal,
            on_progress=on_progress,
            stop=stop,
            max_outage=max_outage,
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
        """Send a request without a method of its own, such as `request("GET", "/api/v1/bot/...")`, and return its JSON.

        - `path`: the URL's path, beginning with `/api/`.
        - `body`: sent as JSON.
        - `quota`: the operation whose quota it uses; by default `request`, with 60 requests per minute unless the
          session's `quotas` name another.

        Retries, deadlines and errors are as for other methods. Returns `None` for an empty response.
        """
        request = free_request(method, path, query, body, quota)
        return await self._client.call(
            request, priority=priority, deadline=deadline, retry=retry, idempotency_key=idempotency_key
        )

    def statistics(self) -> dict[str, LaneStatistics]:
        """Return slots, waiting calls and counters by operation name. Cheap enough to poll.

        They include all sessions that share the lane. An operation that this session has not called is shown as unused.
        """
        return self._client.statistics()

    def outage(self) -> Outage | None:
        """The outage whose end the workspace's bulk jobs wait for; `None` while there is none."""
        return self._client.outage()

    async def aclose(self, timeout: float | None = None) -> None:
        """Close the session. Calls in flight raise `SessionClosedError`. Further calls of `aclose` do nothing.

        With a `timeout`, in seconds, calls in flight and those that wait for the quota may finish until then; the log
        names the operations of the others. Further calls raise `SessionClosedError` at once.
        """
        await self._client.aclose(timeout)

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
        if not hasattr(self, "_client"):  # a debugger may show a session whose arguments were invalid
            return "<RecallSession>"
        state = "closed" if self.closed else "open"
        return f"<RecallSession {self._client.transport.base_url} workspace={self.workspace} {state}>"
