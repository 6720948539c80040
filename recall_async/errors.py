"""Every exception that reaches a caller.

    RecallError
    ├── APIError                       the API answered, and the answer is not the one asked for
    │   ├── BadRequestError            400
    │   │   └── EventEndedError        400, the meeting is over
    │   ├── AuthenticationError        401
    │   ├── InsufficientCreditError    402
    │   ├── RequestBlockedError        403
    │   ├── NotFoundError              404
    │   ├── BotAlreadyDispatchedError  405, or 400 with code cannot_delete_bot
    │   ├── ConflictError              409
    │   ├── RateLimitedError           429
    │   ├── BotPoolExhaustedError      507
    │   └── ServerError                every other 5xx
    ├── ConnectionFailedError          no answer: DNS, refused, reset, cut off in the middle
    ├── AttemptTimeoutError            no answer within `timeout` (also a TimeoutError)
    ├── DeadlineExceededError          the call's `deadline` cannot be met (also a TimeoutError)
    ├── QuotaStoreUnavailableError     the store of a shared quota does not answer
    ├── ServerUnavailableError         the server was away for longer than bulk work waits for it
    ├── ResponseDecodeError            an answer that is not what the API documents
    ├── JobError                       a job spread over machines that cannot go on (recall_async.jobs)
    ├── WebhookVerificationError       a delivery that is not authentic (also a ValueError)
    ├── WebhookDecodeError             an authentic delivery that cannot be decoded (also a ValueError)
    ├── JournalError                   the file of a bulk job cannot be used or written
    ├── SessionClosedError             the session was closed (also a RuntimeError)
    └── ConfigurationError             the program asks for what cannot be (also a ValueError)

Two class attributes say what a program may do with an error: `may_pass` (worth another try later) and `stops_jobs`
(every further call would meet it). All errors survive `pickle` and `copy`, so that they can cross process boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .secrecy import one_line


class RecallError(Exception):
    """The root of everything this package raises on purpose."""

    may_pass: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything: `if error.may_pass: requeue()`."""
    stops_jobs: ClassVar[bool] = False
    """Whether every further call of the session would meet the same, so that a job of many calls ends."""

    def __init__(self, message: str = "", *, operation: str | None = None, attempts: int = 0) -> None:
        super().__init__(one_line(message))
        self.operation = operation
        """The operation's name, such as `calendar_events.schedule_bot`."""
        self.attempts = attempts
        """How many requests were sent on behalf of the call."""


class APIError(RecallError):
    """The API answered with an error: https://docs.recall.ai/reference/errors"""

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        attempts: int = 0,
        status: int = 0,
        code: str | None = None,
        detail: str | None = None,
        errors: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.status = status
        self.code = code
        """The API's machine-readable code, where the body has one."""
        self.detail = detail
        """What the API says, in one line."""
        self.errors: dict[str, Any] = dict(errors or {})
        """The API's complaints by field, where the body has them."""
        self.headers: dict[str, str] = dict(headers or {})
        self.body = body
        self.retry_after = retry_after
        """Seconds that the server asked us to wait, if it did."""


class BadRequestError(APIError):
    """400: the request is wrong; sending it again changes nothing."""


class EventEndedError(BadRequestError):
    """400: the meeting is over, so no bot can be sent to it."""


class AuthenticationError(APIError):
    """401: the key is wrong, or it belongs to another region."""

    stops_jobs: ClassVar[bool] = True


class InsufficientCreditError(APIError):
    """402: the workspace has no credit left."""


class RequestBlockedError(APIError):
    """403: a firewall in front of the API refused the request."""


class NotFoundError(APIError):
    """404: no such calendar event or calendar in this workspace and region."""


class BotAlreadyDispatchedError(APIError):
    """405, or 400 with code `cannot_delete_bot`: the bot is on its way or in the meeting.

    `recall.bots.leave_call(bot_id)` ends its call.
    """


class ConflictError(APIError):
    """409: the same deduplication or idempotency key is being worked on."""

    may_pass: ClassVar[bool] = True


class RateLimitedError(APIError):
    """429: the quota is used up, by somebody outside this quota's lane; `retry_after` says for how long."""

    may_pass: ClassVar[bool] = True


class BotPoolExhaustedError(APIError):
    """507: no bot is free for a meeting that is about to start."""

    may_pass: ClassVar[bool] = True


class ServerError(APIError):
    """Another 5xx: the API failed."""

    may_pass: ClassVar[bool] = True


class ConnectionFailedError(RecallError):
    """No answer: the name did not resolve, the connection was refused, reset, or cut in the middle of the answer."""

    may_pass: ClassVar[bool] = True
    permanent: bool = False
    """The same would happen again at once, so it was not tried again: an unknown host name, a certificate."""


class AttemptTimeoutError(RecallError, TimeoutError):
    """No answer within the session's `timeout`. Whether the request took effect is unknown."""

    may_pass: ClassVar[bool] = True


class DeadlineExceededError(RecallError, TimeoutError):
    """The call cannot be finished within its `deadline`, or was not."""

    may_pass: ClassVar[bool] = True

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        attempts: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.retry_after = retry_after
        """Seconds until the quota could have had room, where that is what the deadline was too short for."""


class QuotaStoreUnavailableError(RecallError):
    """The store that holds a shared quota cannot be reached, so no request may be sent."""

    may_pass: ClassVar[bool] = True


class ServerUnavailableError(RecallError):
    """The server has been away for longer than a job waits for it (`max_outage`); what was not finished can be resumed."""

    may_pass: ClassVar[bool] = True
    stops_jobs: ClassVar[bool] = True


class ResponseDecodeError(RecallError):
    """An answer that is not what the API documents; the message names the operation and the path in the document."""


class WebhookVerificationError(RecallError, ValueError):
    """A webhook delivery that cannot be trusted."""


class WebhookDecodeError(RecallError, ValueError):
    """An authentic webhook delivery that cannot be decoded: log it and answer it with a 2xx, or it will be repeated."""

    event: str | None = None
    """The kind of the delivery, where that could be read."""
    message_id: str | None = None
    """The id of the delivery."""


class JournalError(RecallError):
    """The file in which a bulk job notes what it has done cannot be used or written."""

    stops_jobs: ClassVar[bool] = True


class SessionClosedError(RecallError, RuntimeError):
    """The session is closed: its calls in flight end with this, and so do later ones."""

    stops_jobs: ClassVar[bool] = True


class ConfigurationError(RecallError, ValueError):
    """The session was asked for something that cannot be; nothing was sent."""
