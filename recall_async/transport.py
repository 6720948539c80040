"""One attempt over aiohttp: it sends one request, once, and gives back the response or the reason why there is none.

It follows no redirect, sends the key to no other origin, and reads no more than it must.
"""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import aiohttp
from aiohttp import hdrs
from multidict import istr
from yarl import URL

from .address import same_origin
from .advice import effect_of
from .answers import Response, told
from .checks import invalid
from .connections import Connections
from .errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectionFailedError,
    RecallError,
    ResponseDecodeError,
    SessionClosedError,
)
from .no_response import flaw_of, is_permanent, is_refused, reason_of
from .operations import Request
from .secrecy import KeyMask, Secret, one_line
from .sending import JSON, Body, Sending
from .version import __version__

MAX_ANSWER = 64 * 2**20
"""Bytes of a response that are read at the most; a page of 100 events has about half a million."""
MAX_ERROR = 2**16
"""Bytes of an error's body that are kept."""
KEPT = 75.0
"""Seconds for which an unused connection is kept: longer than a window of the quota, so that the next burst of a paced job
needs no new ones. A server may close it earlier, which aiohttp notices."""
IDEMPOTENCY_KEY = istr("Idempotency-Key")

HTTP = aiohttp.ClientSession | Callable[[], aiohttp.ClientSession]
"""What to send with: the user's own session, or a function that makes one when it is needed."""


class Transport:
    """Sends requests to one origin with one key."""

    def __init__(
        self, base_url: URL, api_key: Secret, timeout: float, http: HTTP | None, max_connections: int | None = None
    ) -> None:
        self.base_url = base_url
        self._prefix = base_url.raw_path.rstrip("/")
        self._headers: dict[str, str] = {
            hdrs.ACCEPT: "application/json",
            hdrs.AUTHORIZATION: Secret(f"Token {api_key}"),
            hdrs.USER_AGENT: f"recall_async/{__version__} aiohttp/{aiohttp.__version__}",
        }
        self.mask: KeyMask = KeyMask(api_key)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self.timeout = timeout
        self._http = None if callable(http) else http
        self._make_http = http if callable(http) else None
        self._owned: aiohttp.ClientSession | None = None
        self._adds_headers = http is not None
        self._max_connections = max_connections
        self.connections: Connections
        """There as soon as the session is open."""

    def open(self) -> None:
        """Be ready to send in the running event loop. Raises `ConfigurationError`."""
        if self._http is None and self._make_http is not None:
            made = self._make_http()
            if not isinstance(made, aiohttp.ClientSession):
                raise invalid("http", "an aiohttp.ClientSession, or a function that makes one", made)
            self._http = self._owned = made
        elif self._http is None:
            # No limit on connections: a call that waited here would hold a slot of the quota meanwhile.
            self._http = self._owned = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=self._timeout,
            )
        self.connections = Connections(self._most_connections())

    def _most_connections(self) -> float | None:
        """The limit on connections; `None` for the default. A user's aiohttp session has its own."""
        if not self._adds_headers:
            return self._max_connections
        connector = getattr(self._http, "connector", None)
        limits = (self._max_connections, getattr(connector, "limit", 0), getattr(connector, "limit_per_host", 0))
        return min((limit for limit in limits if limit), default=math.inf)

    async def aclose(self) -> None:
        """Close the connections, unless they are the user's."""
        if self._owned is not None:
            try:
                await self._owned.close()
            except asyncio.CancelledError:
                self.abandon()
                raise

    def abandon(self) -> None:
        """Drop the connections from where nothing can be awaited."""
        if self._owned is not None and (connector := self._owned.connector) is not None:
            self._owned.detach()
            closing = connector.close()
            # The module `warnings` goes before what a program's globals still hold.
            quiet = nullcontext() if sys.is_finalizing() else warnings.catch_warnings(action="ignore")
            with quiet, suppress(StopIteration):
                closing.__await__().send(None)  # as far as it goes without waiting, which closes the sockets

    def url(self, request: Request[Any]) -> URL:
        """Where a request is sent."""
        if request.link is not None:
            return request.link
        url = self.base_url.with_path(self._prefix + request.path, encoded=True)
        return url.with_query(request.query) if request.query else url

    def same_origin(self, link: str) -> URL:
        """Where a link that the API gave leads on this session's origin. Raises `ValueError` if it leads elsewhere."""
        url = same_origin(self.base_url, link)
        if url is None:
            raise ValueError(
                f"the API gave a link that leads to another origin or nowhere, {one_line(self.mask.text(link), 120)!r}; "
                f"the key is not sent there: this session talks to {self.base_url.origin()}"
            )
        return url

    async def send(
        self, attempt: Sending, request: Request[Any], idempotency_key: str | None = None, timeout: float | None = None
    ) -> Response:
        """Send a request once. `timeout` in seconds, if it is to be shorter than the session's.

        Raises `ConnectionFailedError` or `AttemptTimeoutError` where no response came, `ResponseDecodeError` for one that
        cannot be read, and `SessionClosedError` or `ConfigurationError` where the aiohttp session cannot send.
        """
        limit = self._timeout
        if timeout is not None and timeout < self.timeout:
            # aiohttp would round it up to a whole second.
            limit = aiohttp.ClientTimeout(total=timeout, ceil_threshold=math.inf)
        assert self._http is not None
        connections = attempt.connections = self.connections
        headers: dict[str, str] = {}
        if self._adds_headers:
            headers |= self._headers
            if request.body is not None:
                headers |= JSON
        if idempotency_key is not None:
            headers[IDEMPOTENCY_KEY] = idempotency_key
        body = None if request.body is None else Body(request.body)
        response: aiohttp.ClientResponse | None = None
        connections.in_flight += 1
        try:
            response = await self._http.request(
                request.operation.method,
                self.url(request),
                data=body,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
                raise_for_status=False,
                middlewares=(attempt,),
            )
            try:
                if response.status < 300:
                    measured = (response.content_length or math.inf) <= MAX_ANSWER
                    plain = measured and hdrs.CONTENT_ENCODING not in response.headers
                    content = await (response.read() if plain else _read_parts(response))
                    # Headers are read where an error is explained, and nowhere else.
                    return Response(response.status, {}, content)
                if response.status == 429 and attempt.on_429 is not None:
                    attempt.on_429(response.headers)
                return Response(
                    response.status, told(response.headers.items(), self.mask.text), await _read_error(response)
                )
            finally:
                if not response.closed:  # it is if it was read to its end
                    response.release()
        except ResponseDecodeError as error:
            failure: RecallError = ResponseDecodeError(
                f"{error}. {effect_of(request.operation)} Check whether base_url leads to the API."
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            failure = self._failure(error, attempt, request, limit.total)
        finally:
            connections.in_flight -= 1
            if connections.waiting.size:
                connections.on_release()
        # Not from aiohttp's exception, nor in its context: both it and its frames hold what was sent. Nor does this frame.
        headers, body, response = {}, None, None
        raise failure

    def _failure(self, error: Exception, attempt: Sending, request: Request[Any], seconds: float | None) -> RecallError:
        """Our exception for one of aiohttp or the system: what happened, whether it took effect, what to do."""
        origin = self.base_url.origin()
        effect = effect_of(request.operation) if attempt.sent else "Nothing was sent."
        if isinstance(error, TimeoutError):
            return AttemptTimeoutError(f"no answer within {seconds:g} s from {origin}. {effect}")
        if (flaw := flaw_of(error)) is not None:
            return ResponseDecodeError(
                f"{origin} sent a response that is not valid HTTP, or that cannot be decompressed ({flaw}). {effect} "
                "Check whether base_url leads to the API, and the proxies on the way."
            )
        if isinstance(error, aiohttp.ClientError | OSError):
            failure = ConnectionFailedError(f"no answer from {origin}: {self.mask.text(reason_of(error))}. {effect}")
            failure.permanent = is_permanent(error)
            failure.refused = is_refused(error)
            return failure
        if self._http is not None and self._http.closed:
            return SessionClosedError("the aiohttp session that was passed as http= is closed: open a new one")
        return ConfigurationError(self.mask.text(f"nothing can be sent to {origin}: {error}"))


async def _read_parts(response: aiohttp.ClientResponse) -> bytes:
    """Read a body whose size is not known beforehand."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            response.close()
            raise ResponseDecodeError(f"the answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """Read as much of an error's body as there is, up to `MAX_ERROR` bytes."""
    body = bytearray()
    # The status and how long to wait are known, whatever becomes of the body.
    with suppress(aiohttp.ClientError, OSError):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= MAX_ERROR:
                response.close()
                break
    return bytes(body[:MAX_ERROR])
