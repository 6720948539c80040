"""The sandbox as a context manager: in the running event loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import web

from .faults import Fault, FaultKind
from .server import Delay, Server
from .settings import Settings, SharedBots, utc_now
from .webhooks import SECRET, HeaderNames, Webhooks

T = TypeVar("T")
API_KEY = "sandbox-key"
_NOT_STARTED = "the sandbox has not been started: use it as a context manager"


class RecallSandbox:
    """Run a local server that behaves like the API, with generated data.

    `async with RecallSandbox() as sandbox:` serves in the running event loop; `with` serves in a thread, for
    synchronous code. Every method may be called from any thread.

    - `events`, `calendars`: the number of each to generate. `seed`: selects the data.
    - `api_key`, `api_keys`: the accepted keys. `host`, `port`: where to listen; port 0 selects a free port.
    - `quota_scale`: a factor for the API's quotas. `quotas` replaces some of them: `{operation: (requests, seconds)}`.
    - `latency`: seconds before and after the point where a request is counted, each a number or a `(low, high)` range.
    - `faults`: the faults at the start and after each reset. `connect_after`: seconds for which a calendar is `connecting`.
    - `clock`: returns the seconds for quotas and idempotency keys. `now`: returns the time for data and bots.
    - `webhook_url`: where to send webhooks, signed with `webhook_secret`, with headers that begin with
      `webhook_headers` (`webhook` or `svix`).
    - `url_objects`: make some meeting URLs objects. `unusual`: the share of events with unusual invitations.
    - `shared_bots`: what happens when one of several events that share a bot is scheduled with another key: `detach` gives
      the event a bot of its own, `update` updates the bot in place, key included.
    - `documented`: send only what the API's reference documents, for clients that validate every response: URLs as
      strings, payloads with the documented fields, no events without a URL or time of day.

    Raises `ValueError` for invalid settings, `OSError` if the port is taken. docs/testing.md
    """

    def __init__(
        self,
        *,
        events: int = 500,
        calendars: int = 5,
        seed: int = 7,
        api_key: str = API_KEY,
        api_keys: Sequence[str] = (),
        quota_scale: float = 1.0,
        quotas: Mapping[str, tuple[int, float]] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: tuple[Delay, Delay] = (0.0, 0.0),
        faults: Sequence[Fault] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        webhook_url: str | None = None,
        webhook_secret: str = SECRET,
        webhook_headers: HeaderNames = "webhook",
        connect_after: float = 1.0,
        url_objects: bool = True,
        unusual: float = 0.0,
        shared_bots: SharedBots = "detach",
        documented: bool = False,
    ) -> None:
        self.api_key = api_key
        """The first API key that the sandbox accepts."""
        self.webhook_secret = webhook_secret
        """The secret that signs webhooks."""
        self._webhooks = webhook_url, webhook_secret, webhook_headers
        Webhooks(*self._webhooks)
        self._settings = Settings(
            events=events,
            calendars=calendars,
            seed=seed,
            quota_scale=quota_scale,
            quotas=quotas or {},
            faults=faults,
            clock=clock,
            now=now,
            connect_after=connect_after,
            url_objects=url_objects,
            unusual=unusual,
            shared_bots=shared_bots,
            documented=documented,
        )
        self._keys = (api_key, *api_keys)
        self._latency = latency
        self._address = (host, port)
        self._server: Server | None = None
        self._runner: web.ServerRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The base URL without a trailing slash. Raises `RuntimeError` before the sandbox has started."""
        if self._runner is None:
            raise RuntimeError(_NOT_STARTED)
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def report(self) -> dict[str, Any]:
        """Return the server's counters, as `GET /_sandbox/report` does. Also works after the sandbox has stopped."""
        return self._in_loop(lambda server: server.workspace.report())

    def snapshot(self) -> dict[str, Any]:
        """Return all `calendars`, `events` and `bots` (with `config` and `event_ids`) as JSON values, without a request."""

        def take(server: Server) -> dict[str, Any]:
            state = server.workspace.state
            events = [event.document for event in state.events.values()]
            documents = {
                "calendars": list(state.calendars.values()),
                "events": events,
                "bots": list(state.bots.values()),
            }
            result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(documents))
            return result

        return self._in_loop(take)

    def reset(self) -> None:
        """Start over with the data of the seed, no bots, empty quotas and counters, and the initial faults."""
        self._in_loop(lambda server: server.reset())

    def fault(
        self,
        operation: str | None = None,
        *,
        kind: FaultKind = "status",
        status: int = 503,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        code: str | None = None,
        times: int | None = 1,
        probability: float = 1.0,
        applied: bool | None = None,
        counted: bool = True,
    ) -> None:
        """Add a fault; the arguments are those of `Fault`."""
        fault = Fault(operation, kind, status, headers or {}, body, code, times, probability, applied, counted)
        self._in_loop(lambda server: server.workspace.faults.add(fault))

    def clear_faults(self) -> None:
        """Remove all faults, and release the requests that hang."""

        def clear(server: Server) -> None:
            server.workspace.faults.clear()
            server.release()

        self._in_loop(clear)

    def release(self) -> None:
        """Release the requests that a fault of kind `hang` holds."""
        self._in_loop(lambda server: server.release())

    def exhaust_bots(self, within: float, retry_after: int | None = None) -> None:
        """Answer 507 to schedule requests for meetings that start in less than `within` seconds. 0 ends it."""

        def exhaust(server: Server) -> None:
            state = server.workspace.state
            state.pool_exhausted_within = timedelta(seconds=within) if within else timedelta.min
            state.pool_headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

        self._in_loop(exhaust)

    def set_latency(self, before: Delay, behind: Delay) -> None:
        """Set the seconds that requests take before and after the point where they are counted."""
        self._in_loop(lambda server: setattr(server, "latency", (before, behind)))

    def mutate(self, number: int = 1) -> list[dict[str, Any]]:
        """Change the calendars' data `number` times, as `POST /_sandbox/mutate?n=` does, and return the changes."""
        return self._in_loop(lambda server: server.mutate(number))

    def revoke(self, calendar_id: str) -> None:
        """Withdraw the permission to read a calendar: it is disconnected, and its bots are removed."""
        self._in_loop(lambda server: server.revoke(calendar_id))

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clocks forward by `seconds`. Bots join and leave, and calendars connect, at their times.

        Raises `ValueError` for a negative number, NaN, or a time beyond the largest date.
        """
        self._in_loop(lambda server: server.advance(seconds))

    def fail_bot(self, bot_id: str, sub_code: str = "meeting_not_started") -> None:
        """Make a bot fail in the waiting room with this `sub_code`, unless it has already been admitted."""
        self._in_loop(lambda server: server.fail_bot(bot_id, sub_code))

    def write_raw(self, event_id: str, raw: Any) -> None:
        """Replace an event's `raw`, the payload of its calendar platform, as if the event had changed there."""

        self._in_loop(lambda server: server.write_raw(event_id, raw))

    def send_webhooks_to(self, url: str | None) -> None:
        """Send webhooks to this URL from now on; `None` stops them."""
        self._in_loop(lambda server: setattr(server.webhooks, "url", url))

    def webhooks(self) -> dict[str, int]:
        """Return how many webhooks were `delivered`, `failed` after all repeats, and are `pending`."""
        return self._in_loop(lambda server: server.webhooks.report())

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve_in_thread, args=(started,), name="recall-sandbox", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop, thread = self._stop, self._thread
        assert stop is not None
        assert thread is not None
        self._in_loop(lambda server: stop.set())
        thread.join()

    def _serve_in_thread(self, started: Future[None]) -> None:
        async def serve_until_stopped() -> None:
            self._stop = asyncio.Event()
            await self._start()
            started.set_result(None)
            await self._stop.wait()
            await self._close()

        try:
            asyncio.run(serve_until_stopped())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _start(self) -> None:
        server = Server(self._settings, self._keys, self._latency, Webhooks(*self._webhooks))
        runner = web.ServerRunner(
            web.Server(server.handle, access_log=None, auto_decompress=False), shutdown_timeout=1.0
        )
        await runner.setup()
        await web.TCPSite(runner, *self._address).start()
        self._address = runner.addresses[0][:2]
        self._server, self._runner, self._loop = server, runner, asyncio.get_running_loop()
        server.start()

    async def _close(self) -> None:
        assert self._server is not None
        assert self._runner is not None
        self._loop = None
        await self._server.aclose()
        await self._runner.cleanup()

    def _in_loop(self, work: Callable[[Server], T]) -> T:
        """Run `work` in the sandbox's event loop, so that no request is handled at the same time."""
        server, loop = self._server, self._loop
        if server is None:
            raise RuntimeError(_NOT_STARTED)
        if loop is None or loop is _running_loop():
            return work(server)

        async def run() -> T:
            return work(server)

        return asyncio.run_coroutine_threadsafe(run(), loop).result()


async def serve(sandbox: RecallSandbox, on_start: Callable[[RecallSandbox], None]) -> None:
    """Run the sandbox until cancelled. `on_start` is called when its URL is known."""
    async with sandbox:
        on_start(sandbox)
        await asyncio.Event().wait()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
