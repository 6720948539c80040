"""The exceptions: one tree, whatever fails below is one of ours, and all of them travel."""

from __future__ import annotations

import copy
import inspect
import pickle
import socket
import ssl
import warnings
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

import recall_async
from recall_async import (
    APIError,
    AttemptTimeoutError,
    ConfigurationError,
    ConnectionFailedError,
    RateLimitedError,
    RecallError,
    RecallSession,
    RetryPolicy,
    SessionClosedError,
    errors,
)

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        ("BadRequestError", (APIError,)),
        ("EventEndedError", (errors.BadRequestError,)),
        ("AuthenticationError", (APIError,)),
        ("InsufficientCreditError", (APIError,)),
        ("RequestBlockedError", (APIError,)),
        ("NotFoundError", (APIError,)),
        ("BotAlreadyDispatchedError", (APIError,)),
        ("ConflictError", (APIError,)),
        ("RateLimitedError", (APIError,)),
        ("BotPoolExhaustedError", (APIError,)),
        ("ServerError", (APIError,)),
        ("APIError", (RecallError,)),
        ("ConnectionFailedError", (RecallError,)),
        ("AttemptTimeoutError", (RecallError, TimeoutError)),
        ("DeadlineExceededError", (RecallError, TimeoutError)),
        ("QuotaStoreUnavailableError", (RecallError,)),
        ("ResponseDecodeError", (RecallError,)),
        ("WebhookVerificationError", (RecallError, ValueError)),
        ("WebhookDecodeError", (RecallError, ValueError)),
        ("SessionClosedError", (RecallError, RuntimeError)),
        ("ConfigurationError", (RecallError, ValueError)),
        ("RecallError", (Exception,)),
    ],
)
def test_tree(kind: str, parents: tuple[type[Exception], ...]) -> None:
    """Would not be caught by what a program catches: the tree is public, and drawn at the top of its file."""
    assert getattr(errors, kind).__bases__ == parents
    assert kind in (errors.__doc__ or "")


def test_every_error_is_exported() -> None:
    """Would have an error that a program cannot name."""
    assert {kind.__name__ for kind in KINDS} <= set(recall_async.__all__)


def test_all_is_complete_and_sorted() -> None:
    """Would export a name that does not exist, or hide one that was imported to be used."""
    assert recall_async.__all__ == sorted(recall_async.__all__)
    assert len(set(recall_async.__all__)) == len(recall_async.__all__)
    for name in recall_async.__all__:
        assert getattr(recall_async, name).__name__ == name
    assert set(recall_async.__all__) <= set(dir(recall_async))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, *(
    lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in (2, 5)
)])  # fmt: skip
def test_errors_travel(kind: type[RecallError], travel: Any) -> None:
    """Would lose its attributes, or fail to load, between processes."""
    details: dict[str, Any] = {"operation": "calendar_events.retrieve", "attempts": 3}
    if issubclass(kind, APIError):
        details |= {
            "status": 429,
            "code": "throttled",
            "detail": "Slow down",
            "errors": {"field": ["wrong"]},
            "headers": {"retry-after": "7"},
            "body": b"{}",
            "retry_after": 7.0,
        }
    error = kind("it failed", **details)
    error.add_note("a note")
    there = travel(error)
    assert type(there) is kind
    assert str(there) == "it failed"
    assert (
        vars(there)
        == vars(error)
        == details | {"__notes__": ["a note"]} | ({"retry_after": None} if kind is errors.DeadlineExceededError else {})
    )


class _Failing:
    """Stands for an `aiohttp.ClientSession` whose requests fail."""

    closed = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def request(self, *args: Any, **options: Any) -> None:
        raise self._error


def aiohttp_errors() -> list[aiohttp.ClientError]:
    """One of each that aiohttp has."""
    url = URL("https://us-east-1.recall.ai/")
    head: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    connection = ConnectionKey("us-east-1.recall.ai", 443, True, True, None, None, None)
    arguments: list[tuple[type[aiohttp.ClientError], tuple[Any, ...]]] = [
        (client_exceptions.UnixClientConnectorError, ("/socket", connection, OSError(111, "refused"))),
        (client_exceptions.ClientConnectorCertificateError, (connection, ssl.SSLCertVerificationError("expired"))),
        (client_exceptions.ClientConnectorError, (connection, OSError(111, "refused"))),
        (client_exceptions.ClientResponseError, (RequestInfo(url, "GET", head, url), ())),
        (client_exceptions.ServerFingerprintMismatch, (b"a", b"b", "us-east-1.recall.ai", 443)),
        (client_exceptions.InvalidURL, (url, "odd")),
        (client_exceptions.ClientError, ()),
    ]
    kinds = {
        kind for kind in vars(client_exceptions).values()
        if inspect.isclass(kind) and issubclass(kind, aiohttp.ClientError)
    }  # fmt: skip
    return [
        kind(*next(given for parent, given in arguments if issubclass(kind, parent)))
        for kind in sorted(kinds, key=lambda kind: kind.__name__)
    ]


OTHERS: list[BaseException] = [
    TimeoutError(),
    OSError(24, "too many open files"),
    ConnectionResetError(104, "reset"),
    BrokenPipeError(32, "pipe"),
    ssl.SSLError(1, "wrong version number"),
    socket.gaierror(-2, "Name or service not known"),
]


@pytest.mark.parametrize("failure", [*aiohttp_errors(), *OTHERS], ids=lambda failure: type(failure).__name__)
async def test_every_failure_below_is_one_of_ours(failure: BaseException) -> None:
    """Would let an exception of aiohttp or of the system through, which no documentation of ours names."""
    http: Any = _Failing(failure)
    async with RecallSession("key", http=http, retry=RetryPolicy(attempts=3, backoff=0.0)) as recall:
        expected = AttemptTimeoutError if isinstance(failure, TimeoutError) else ConnectionFailedError
        with pytest.raises(expected) as caught:
            await recall.calendar_events.retrieve(EVENT_ID)
        useless = isinstance(failure, (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL, socket.gaierror))
        assert caught.value.operation == "calendar_events.retrieve"
        assert caught.value.attempts == (1 if useless else 3)
        assert "us-east-1.recall.ai" in str(caught.value)


async def test_http_session_that_was_closed() -> None:
    """Would raise aiohttp's bare RuntimeError when the caller's own session is closed."""
    async with aiohttp.ClientSession() as http:
        recall = RecallSession("key", http=http)
    async with recall:
        with pytest.raises(SessionClosedError, match="http"):
            await recall.calendar_events.retrieve(EVENT_ID)
        assert recall.statistics()["calendar_events.retrieve"].taken == 0


async def test_http_session_with_a_login_of_its_own() -> None:
    """Would raise aiohttp's bare ValueError about headers that the caller never wrote."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        login = aiohttp.BasicAuth("user", "password")
        http = aiohttp.ClientSession(auth=login)
    async with http, RecallSession("key", http=http) as recall:
        with pytest.raises(ConfigurationError, match="AUTHORIZATION"):
            await recall.calendar_events.retrieve(EVENT_ID)
        assert recall.statistics()["calendar_events.retrieve"].taken == 0


async def test_host_that_cannot_be_looked_up() -> None:
    """Would raise the codec's bare UnicodeError, and after as many attempts as for an outage."""
    async with RecallSession("key", base_url=f"https://{'a' * 64}.example") as recall:
        with pytest.raises(ConfigurationError, match="label") as caught:
            await recall.calendar_events.retrieve(EVENT_ID)
        assert caught.value.attempts == 1
        assert recall.statistics()["calendar_events.retrieve"].taken == 0


async def test_an_error_says_what_to_do() -> None:
    """Would leave whoever reads it without a next step."""
    error = RateLimitedError("x", retry_after=3.0)
    assert error.retry_after == 3.0
    for kind in KINDS:
        assert (kind.__doc__ or "").strip()
