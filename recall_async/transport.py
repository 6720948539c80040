"""One attempt over aiohttp: it sends one request, once, and gives back the response or the reason why there is none.

It follows no redirect, sends the key to no other origin, and reads no more than it must.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext, suppress
from typing import Any
from weakref import ref

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, istr
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
from .operations import Request
from .secrecy import KeyMask, Secret, one_line
from .version import VERSION

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


def new_idempotency_key() -> str:
    """Make a random UUID, at half of what `uuid4` costs; not from `random`, which a program may have seeded."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


_used: set[ref[object]] = set()
"""The connections over which requests were sent. Sessions may share an aiohttp session, and so its connections."""


class Sending:
    """One attempt to send a request: how far it has come, whatever ends it.

    It is a client middleware of aiohttp, because aiohttp sends a request a second time, unasked, when a connection that
    it kept open turns out to be closed: https://docs.aiohttp.org/en/stable/client_advanced.html#client-middleware
    """

    __slots__ = ("_begun", "connections", "on_429", "response", "wire")

    connections: Connections
    """Those of its session."""

    def __init__(self, on_429: Callable[[Mapping[str, str]], None] | None = None) -> None:
        self.on_429: Callable[[Mapping[str, str]], None] | None = on_429
        """Called with the headers of a 429 before its body is read."""
        self._begun = False
        self.response: aiohttp.ClientResponse | None = None
        """Exists from the moment at which bytes may have left."""
        self.wire: asyncio.BaseTransport | None = None
        """The connection that the request went over."""

    @property
    def sent(self) -> bool:
        """True if bytes may have left."""
        return self.response is not None

    @property
    def status(self) -> int | None:
        """The response's status, as soon as its head has arrived."""
        return None if self.response is None else self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, as soon as they have arrived."""
        return {} if self.response is None or self.response.status is None else self.response.headers

    def hang_up(self) -> None:
        """Close the connection: what comes over it need not be the response to what was asked."""
        if self.wire is not None:
            self.wire.close()

    def close(self) -> None:
        """Let go of the response, which refers to this object: objects in a circle are not freed at once."""
        self.response = self.on_429 = self.wire = None

    def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> Awaitable[aiohttp.ClientResponse]:
        if self._begun:
            raise aiohttp.ServerDisconnectedError
        self._begun = True
        request.response_class = self._begin_response  # type: ignore[assignment]
        return handler(request)

    def _begin_response(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
        """Create the object for the response. aiohttp does this when it has begun to send the request."""
        response = self.response = _Response(*args, **options)
        response.sending = self
        return response


class _Response(aiohttp.ClientResponse):
    """Notes its connection, and refuses what came over it before anything was asked."""

    sending: Sending

    def start(self, connection: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        protocol, sending = connection.protocol, self.sending
        if protocol is not None:
            sending.wire = protocol.transport
            if ref(protocol) not in _used:
                _used.add(ref(protocol, _used.discard))
                sending.connections.moved = time.monotonic()
            # Nothing of the response can be there yet: the loop has not turned since the request was written.
            elif protocol.should_close and protocol.exception() is None:
                raise aiohttp.ClientConnectionError("the connection held a response that no request had asked for")
        return aiohttp.ClientResponse.start(self, connection)


JSON: Mapping[str, str] = {hdrs.CONTENT_TYPE: "application/json"}


class _JSON(aiohttp.Payload):
    """The body of a request. aiohttp's own payload for bytes builds its headers anew for each request."""

    headers = CIMultiDict(JSON)
    autoclose = True  # there is nothing to close
    size: int = 0

    def __init__(self, body: bytes) -> None:  # not the base class's, for the same reason
        self._bytes = body
        self.size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._bytes.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self._bytes

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._bytes)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await writer.write(self._bytes)


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
            hdrs.USER_AGENT: f"recall_async/{VERSION} aiohttp/{aiohttp.__version__}",
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
        body = None if request.body is None else _JSON(request.body)
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
            failure: RecallError = error
            failure.__traceback__ = None
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
        if (flaw := _flaw(error)) is not None:
            return ResponseDecodeError(
                f"{origin} sent a response that is not valid HTTP, or that cannot be decompressed ({flaw}). {effect} "
                "Check whether base_url leads to the API, and the proxies on the way."
            )
        if isinstance(error, aiohttp.ClientError | OSError):
            failure = ConnectionFailedError(f"no answer from {origin}: {self.mask.text(_reason(error))}. {effect}")
            failure.permanent = _is_permanent(error)
            return failure
        if self._http is not None and self._http.closed:
            return SessionClosedError("the aiohttp session that was passed as http= is closed: open a new one")
        return ConfigurationError(self.mask.text(f"nothing can be sent to {origin}: {error}"))


def _flaw(error: BaseException) -> str | None:
    """What is wrong with a response that is not HTTP, without what it holds; `None` if the error is another one."""
    cause = error.__cause__
    if not isinstance(cause, HttpProcessingError):
        return None
    text = cause.message
    if isinstance(error, aiohttp.ClientPayloadError) and text.startswith("Not enough data"):
        return None  # it was cut off
    return re.split(r"[:'\"\n(]| b'", text.strip())[0].strip()[:80].lower() or "malformed"


def _reason(error: BaseException) -> str:
    reason = _reason_alone(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the connection with {error.status} ({one_line(error.message, 100)})"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port} cannot be reached: {reason}"
    return reason


def _reason_alone(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = error.certificate_error
        return (
            f"its TLS certificate is not valid ({getattr(said, 'verify_message', '') or said}). Check base_url, the "
            "certificates of this system, and proxies that open TLS connections"
        )
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        reason = (getattr(cause, "reason", None) or str(cause)).replace("_", " ").lower()
        return f"TLS failed ({reason}). Check whether base_url is an https address"
    if isinstance(cause, socket.gaierror):
        name = one_line(str(getattr(error, "host", "")), 100)
        return f"the name {name} cannot be looked up ({cause.strerror}). Check base_url, the proxy and the DNS"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection before it answered"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed in the middle of the answer"
    number = cause.errno if isinstance(cause, OSError) else None
    text = os.strerror(number) if number is not None and number > 0 else str(error)
    return one_line(text, 200) or type(error).__name__


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return True
    cause = getattr(error, "os_error", error)
    return isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN


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
