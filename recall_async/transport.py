"""One attempt over aiohttp: it sends one request, once, and gives back the answer or the reason why there is none.

It follows no redirect, sends the key to no other origin, and reads no more than it must.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress

import aiohttp
from aiohttp import hdrs
from multidict import istr
from yarl import URL

from .address import same_origin
from .answers import Answer
from .errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectionFailedError,
    RecallError,
    ResponseDecodeError,
    SessionClosedError,
)
from .secrecy import Secret
from .version import VERSION

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer that are read at the most; a page of 100 events has about half a million."""
MAX_ERROR = 2**16
"""Bytes of an error's body that are kept."""
IDEMPOTENCY_KEY = istr("Idempotency-Key")


def new_idempotency_key() -> str:
    """A random UUID, at half of what `uuid4` costs; not from `random`, which a program may have seeded."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


class Attempt:
    """How far a request has come, whatever ends it.

    It is a client middleware of aiohttp, because aiohttp sends a request a second time, unasked, when a connection that
    it kept open turns out to be closed: https://docs.aiohttp.org/en/stable/client_advanced.html#client-middleware
    """

    __slots__ = ("_request", "answered")

    def __init__(self) -> None:
        self._request: aiohttp.ClientRequest | None = None
        self.answered = False
        """The head of the answer has arrived."""

    @property
    def sent(self) -> bool:
        """Bytes may have left."""
        return self._request is not None and self._request.response is not None

    def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> Awaitable[aiohttp.ClientResponse]:
        if self._request is not None:
            raise aiohttp.ServerDisconnectedError
        self._request = request
        return handler(request)


HTTP = aiohttp.ClientSession | Callable[[], aiohttp.ClientSession]
"""What a caller sends with: a session of his own, or a function that makes one when it is needed."""


class Transport:
    """Sends requests to one origin with one key."""

    def __init__(self, base_url: URL, api_key: Secret, timeout: float, http: HTTP | None) -> None:
        self.base_url = base_url
        self._prefix = base_url.raw_path.rstrip("/")
        self._headers: dict[str, str] = {
            hdrs.ACCEPT: "application/json",
            hdrs.AUTHORIZATION: Secret(f"Token {api_key}"),
            hdrs.USER_AGENT: f"recall_async/{VERSION} aiohttp/{aiohttp.__version__}",
        }
        self._api_key = api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self.timeout = timeout
        self._http = None if callable(http) else http
        self._make_http = http if callable(http) else None
        self._owned: aiohttp.ClientSession | None = None
        self._adds_headers = http is not None

    def open(self) -> None:
        """Be ready to send in the running event loop."""
        if self._http is None and self._make_http is not None:
            self._http = self._owned = self._make_http()
        elif self._http is None:
            # No limit on connections: who waits, waits in the lane, where the order is kept and pauses are obeyed.
            self._http = self._owned = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=self._timeout,
            )

    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._owned is not None:
            await self._owned.close()

    def abandon(self) -> None:
        """Drop the connections from where nothing can be awaited."""
        if self._owned is not None and (connector := self._owned.connector) is not None:
            self._owned.detach()
            closing = connector.close()
            # The module `warnings` goes before what a program's globals still hold.
            quiet = nullcontext() if sys.is_finalizing() else warnings.catch_warnings(action="ignore")
            with quiet, suppress(StopIteration):
                closing.__await__().send(None)  # as far as it goes without waiting, which closes the sockets

    def url(self, path: str, query: dict[str, str] | None = None) -> URL:
        """The URL of an operation's path."""
        url = self.base_url.with_path(self._prefix + path, encoded=True)
        return url.with_query(query) if query else url

    def same_origin(self, link: str) -> URL:
        """Where a link that the API gave leads on this session's origin. Raises `ValueError` if it leads elsewhere."""
        url = same_origin(self.base_url, link)
        if url is None:
            raise ValueError(
                f"the API gave a link that leads to another origin or nowhere, {self.masked(link)[:200]!r}; the key is "
                f"not sent there: this session talks to {self.base_url.origin()}"
            )
        return url

    async def send(
        self,
        attempt: Attempt,
        method: str,
        url: URL,
        *,
        body: bytes | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """The answer to one request. `timeout` in seconds, if it is to be shorter than the session's.

        Raises `ConnectionFailedError` or `AttemptTimeoutError` where none came, `ResponseDecodeError` for one that is too
        large, and `SessionClosedError` or `ConfigurationError` where the aiohttp session cannot send.
        """
        assert self._http is not None
        headers = self._headers.copy() if self._adds_headers else {}
        if body is not None:
            headers[hdrs.CONTENT_TYPE] = "application/json"
        if idempotency_key is not None:
            headers[IDEMPOTENCY_KEY] = idempotency_key
        limit = self._timeout
        if timeout is not None and timeout < self.timeout:
            # aiohttp would round it up to a whole second.
            limit = aiohttp.ClientTimeout(total=timeout, ceil_threshold=math.inf)
        try:
            response = await self._http.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
                raise_for_status=False,
                middlewares=(attempt,),
            )
            attempt.answered = True
            try:
                if response.status < 300:
                    measured = (response.content_length or math.inf) <= MAX_ANSWER
                    plain = measured and hdrs.CONTENT_ENCODING not in response.headers
                    content = await (response.read() if plain else _read_parts(response))
                    # Headers are read where an error is explained, and nowhere else.
                    return Answer(response.status, {}, content)
                content = _without(self._api_key.encode(), await _read_error(response))
                told = {name.lower(): self.masked(value) for name, value in response.headers.items()}
                return Answer(response.status, told, content)
            finally:
                response.release()
        except TimeoutError:
            failure: RecallError = AttemptTimeoutError(f"no answer within {limit.total:g} s from {url.origin()}")
        except (aiohttp.ClientError, OSError) as error:
            reason = self.masked(str(error)) or type(error).__name__
            failure = ConnectionFailedError(f"no answer from {url.origin()}: {reason}")
        except (ValueError, RuntimeError) as error:
            if self._http.closed:
                failure = SessionClosedError("the aiohttp session that was passed as http= is closed")
            else:
                failure = ConfigurationError(self.masked(f"nothing can be sent to {url.origin()}: {error}"))
        # Not from aiohttp's exception, nor in its context: both it and its frames hold the headers that were sent.
        raise failure

    def masked(self, text: str) -> str:
        """The text without the API key, should a server have sent it back."""
        return text.replace(self._api_key, "***")


async def _read_parts(response: aiohttp.ClientResponse) -> bytes:
    """A body of which is not known how large it will be."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            response.close()
            raise ResponseDecodeError(f"the answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """As much of an error's body as there is, up to `MAX_ERROR` bytes."""
    body = bytearray()
    # The status and how long to wait are known, whatever becomes of the body.
    with suppress(aiohttp.ClientError, OSError):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= MAX_ERROR:
                response.close()
                break
    return bytes(body[:MAX_ERROR])


def _without(key: bytes, body: bytes) -> bytes:
    """The body without the key, and without the part of a key in which it was cut off."""
    body = body.replace(key, b"***")
    part = next((n for n in range(len(key) - 1, 3, -1) if body.endswith(key[:n])), 0)
    return body[: len(body) - part]
