"""The exceptions of this package.

    RecallError
    ├── APIError                       the API responded with an error
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
    ├── ConnectionFailedError          no response: DNS, refused, reset, closed in the middle
    ├── AttemptTimeoutError            no response within `timeout` (also a TimeoutError)
    ├── DeadlineExceededError          the call's `deadline` cannot be met (also a TimeoutError)
    ├── QuotaStoreUnavailableError     the store of a shared quota is unavailable
    ├── ServerUnavailableError         the server was unavailable for longer than a bulk job waits
    ├── ResponseDecodeError            a response that differs from the API's documentation
    ├── JobError                       a job over several machines cannot continue (recall_async.jobs)
    │   ├── MissingJobError            there is no such job
    │   └── JobStoreUnavailableError   its Redis does not respond
    ├── WebhookVerificationError       a delivery that is not authentic (also a ValueError)
    ├── WebhookDecodeError             an authentic delivery that cannot be decoded (also a ValueError)
    ├── JournalError                   the file of a bulk job cannot be used or written
    ├── SessionClosedError             the session was closed (also a RuntimeError)
    └── ConfigurationError             invalid argument or configuration (also a ValueError)

Three attributes help to handle an error: `may_pass` (a later retry may succeed), `retry_after` (seconds until then, or
`None`) and `stops_jobs` (every further call would fail with it). All errors support `pickle` and `copy`, so they can
cross process boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .secrecy import one_line


class RecallError(Exception):
    """The base class of this package's exceptions."""

    may_pass: ClassVar[bool] = False
    """True if the same call may succeed later without any change: `if error.may_pass: requeue()`."""
    stops_jobs: ClassVar[bool] = False
    """True if every further call of the session would fail with this error, so a bulk job ends."""
    retry_after: float | None = None
    """Seconds to wait before the call is repeated, if they are known: from `Retry-After`, or from the quota."""

    def __init__(self, message: str = "", *, operation: str | None = None, attempts: int = 0) -> None:
        super().__init__(one_line(message))
        self.operation = operation
        """The operation's name, such as `calendar_events.schedule_bot`."""
        self.attempts = attempts
        """The number of requests that were sent for the call."""


class APIError(RecallError):
    """The API responded with an error: https://docs.recall.ai/reference/errors"""

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
        """The API's machine-readable code, if the body has one."""
        self.detail = detail
        """The API's message, in one line."""
        self.errors: dict[str, Any] = dict(errors or {})
        """The API's messages by field, if the body has them."""
        self.headers: dict[str, str] = dict(headers or {})
        self.body = body
        self.retry_after = retry_after


class BadRequestError(APIError):
    """400: the request is invalid. Sending it again would fail, too."""


class EventEndedError(BadRequestError):
    """400: the meeting has ended, so it cannot get a bot."""


class AuthenticationError(APIError):
    """401: the API key is invalid, or belongs to another region."""

    stops_jobs: ClassVar[bool] = True


class InsufficientCreditError(APIError):
    """402: the workspace has no credit left."""


class RequestBlockedError(APIError):
    """403: a firewall in front of the API refused the request."""


class NotFoundError(APIError):
    """404: no such calendar event or calendar in this workspace and region."""


class BotAlreadyDispatchedError(APIError):
    """405, or 400 with code `cannot_delete_bot`: the bot is joining the meeting or in it.

    `recall.bots.leave_call(bot_id)` makes it leave.
    """


class ConflictError(APIError):
    """409: another request with the same deduplication or idempotency key is in progress."""

    may_pass: ClassVar[bool] = True


class RateLimitedError(APIError):
    """429: clients outside this quota's lane have used up the quota; `retry_after` says for how long."""

    may_pass: ClassVar[bool] = True


class BotPoolExhaustedError(APIError):
    """507: no bot is free for a meeting that is about to start."""

    may_pass: ClassVar[bool] = True


class ServerError(APIError):
    """Another 5xx: the API failed."""

    may_pass: ClassVar[bool] = True


class ConnectionFailedError(RecallError):
    """No response: the host name did not resolve, or the connection was refused, reset, or closed too early."""

    may_pass: ClassVar[bool] = True
    permanent: bool = False
    """True for an error that a retry cannot fix, so there was none: an unknown host name, an invalid certificate."""
    refused: bool = False
    """True if nothing listens at the address, or at that of the proxy: the last attempt sent nothing."""


class AttemptTimeoutError(RecallError, TimeoutError):
    """No response within the session's `timeout`. The request may have taken effect."""

    may_pass: ClassVar[bool] = True


class DeadlineExceededError(RecallError, TimeoutError):
    """The call did not finish within its `deadline`, or cannot."""

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


class QuotaStoreUnavailableError(RecallError):
    """The store of a shared quota is unavailable, so no request may be sent."""

    may_pass: ClassVar[bool] = True


class ServerUnavailableError(RecallError):
    """The server was unavailable for longer than a job waits (`max_outage`). The job can be resumed."""

    may_pass: ClassVar[bool] = True
    stops_jobs: ClassVar[bool] = True


class ResponseDecodeError(RecallError):
    """A response differs from the API's documentation. The message names the operation and the path in the document."""


class WebhookVerificationError(RecallError, ValueError):
    """A webhook delivery is not authentic."""


class WebhookDecodeError(RecallError, ValueError):
    """An authentic webhook delivery cannot be decoded: log it and respond with a 2xx, or it will be repeated."""

    event: str | None = None
    """The kind of the delivery, if it could be read."""
    message_id: str | None = None
    """The id of the delivery."""


class JournalError(RecallError):
    """The journal file of a bulk job cannot be used or written."""

    stops_jobs: ClassVar[bool] = True


class SessionClosedError(RecallError, RuntimeError):
    """The session is closed. Its calls in flight and all later calls raise this error."""

    stops_jobs: ClassVar[bool] = True


class ConfigurationError(RecallError, ValueError):
    """An argument or the configuration is invalid. No request was sent."""
