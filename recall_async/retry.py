"""What to do with what happened to a request: try again, when and how, or give up.

`decide` is a pure function and the only place with rules. The table below is the API's documentation, line by line:
https://docs.recall.ai/reference/errors, https://docs.recall.ai/reference/rate-limits and
https://docs.recall.ai/reference/idempotency. Two rules keep it true: a `Retry-After` is a floor and never shortened,
and jitter is applied after the cap.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from . import errors
from .errors import APIError, ConfigurationError, RecallError


class Answer(NamedTuple):
    """What the server answered to one attempt."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


class Key(Enum):
    """Which idempotency key the next attempt carries."""

    SAME = auto()
    NEW = auto()


class Wait(Enum):
    """What the next attempt waits for."""

    BACKOFF = auto()
    """A backoff of its own, and `Retry-After` if that is longer."""
    LANE = auto()
    """The pause that the whole lane makes."""
    POOL = auto()
    """`Retry-After`, or else `BOT_POOL_WAIT` seconds."""


class Rule(NamedTuple):
    """A line of the table for answers after which the request is sent again."""

    wait: Wait
    key: Key


BOT_POOL_WAIT = 30.0
NO_ANSWER = 0
"""Stands for a status where none came."""

RETRIED: dict[int, Rule] = {
    NO_ANSWER: Rule(Wait.BACKOFF, Key.SAME),
    409: Rule(Wait.BACKOFF, Key.NEW),
    429: Rule(Wait.LANE, Key.SAME),
    502: Rule(Wait.BACKOFF, Key.SAME),
    503: Rule(Wait.BACKOFF, Key.SAME),
    504: Rule(Wait.BACKOFF, Key.SAME),
    507: Rule(Wait.POOL, Key.NEW),
}

RAISED: dict[int, type[APIError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditError,
    403: errors.RequestBlockedError,
    404: errors.NotFoundError,
    405: errors.BotAlreadyDispatchedError,
    409: errors.ConflictError,
    429: errors.RateLimitedError,
    507: errors.BotPoolExhaustedError,
}

ADVICE: dict[type[APIError], str] = {
    errors.EventEndedError: "Leave out events whose end time has passed.",
    errors.AuthenticationError: "Either the key is wrong, or it belongs to another region: keys work in one region only.",
    errors.InsufficientCreditError: "Add credit to the workspace, then try again.",
    errors.RequestBlockedError: "A firewall in front of the API refused the request: look at its body and your network.",
    errors.NotFoundError: "Check the id, and that it belongs to this workspace and region.",
    errors.BotAlreadyDispatchedError: "The bot is on its way or in the meeting: end it with the Bot API's leave_call.",
    errors.ConflictError: "Another request with the same deduplication key is being worked on: try again later.",
    errors.RateLimitedError: "Somebody outside this session uses the workspace's quota too.",
    errors.BotPoolExhaustedError: "No bot is free this shortly before the meeting: try again, or schedule earlier.",
    errors.ServerError: "The API failed: try again later.",
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is tried again.

    `attempts` counts requests per call, the first included. The n-th retry waits up to `backoff` * 2**(n-1) seconds, at
    most `backoff_cap`, at least half of it. `deadline` is in seconds for the whole call, waiting for the quota included;
    a call's own `deadline=` goes before it. `budget` is how many retries a workspace may make at once: every call gives
    back `budget_ratio` of one and every minute gives back the whole budget, so that an outage does not multiply the load.
    A 429 costs no budget: the lane's pause bounds it.

    Raises `ConfigurationError` for values that make no policy.
    """

    attempts: int = 5
    backoff: float = 0.5
    backoff_cap: float = 30.0
    deadline: float | None = None
    budget: int = 100
    budget_ratio: float = 0.2

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(
                f"RetryPolicy.attempts is {self.attempts}: the first attempt counts, so at least 1"
            )
        for name in ("backoff", "backoff_cap", "budget", "budget_ratio"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigurationError(f"RetryPolicy.{name} is {value!r}: it cannot be negative or infinite")
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigurationError(f"RetryPolicy.deadline is {self.deadline!r}: it is a number of seconds above 0")

    def delay(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after the attempt with this number, from 1; `jitter` is a random number from 0 to 1."""
        capped = min(self.backoff_cap, self.backoff * 2.0 ** min(attempt - 1, 64))
        return capped * (1 + jitter) / 2


class RetryBudget:
    """A token bucket of retries. Times are in seconds and never go back."""

    __slots__ = ("_spent", "_when")

    def __init__(self) -> None:
        self._spent = 0.0
        self._when = -math.inf

    def earn(self, policy: RetryPolicy) -> None:
        """A call begins."""
        if self._spent:
            self._spent = max(0.0, self._spent - policy.budget_ratio)

    def spend(self, policy: RetryPolicy, now: float) -> bool:
        """Whether a retry may be made at `now`; if so it is counted."""
        if self._spent:
            self._spent = max(0.0, self._spent - (now - self._when) * policy.budget / 60)
        self._when = now
        if self._spent + 1 > policy.budget:
            return False
        self._spent += 1
        return True


class Done(NamedTuple):
    """The answer is the one that was asked for."""

    answer: Answer


class Retry(NamedTuple):
    """Send it again."""

    after: float
    """Seconds that this call waits before it asks for a slot."""
    key: Key
    pause: float | None
    """Seconds that the whole lane pauses, after a 429."""
    error: RecallError
    """What to raise if it does not come to that."""
    costs: bool
    """Whether it is paid from the retry budget."""


class GiveUp(NamedTuple):
    """Raise."""

    error: RecallError
    pause: float | None = None


def decide(
    policy: RetryPolicy,
    operation: str,
    attempt: int,
    happened: Answer | RecallError,
    *,
    jitter: float,
    now: datetime | None = None,
) -> Done | Retry | GiveUp:
    """What follows from the outcome of attempt number `attempt` (from 1).

    `happened` is the answer, or the error that stands for its absence. `jitter` is a random number from 0 to 1; `now` is
    the time against which a `Retry-After` that is a date is read when the answer itself has no `Date`.
    """
    if isinstance(happened, Answer):
        if 200 <= happened.status < 300:
            return Done(happened)
        status, after = happened.status, retry_after(happened.headers, now)
        error: RecallError = api_error(operation, attempt, happened, after)
    else:
        status, after, error = NO_ANSWER, None, happened
        error.operation, error.attempts = operation, attempt
    rule = RETRIED.get(status)
    if rule is None:
        return GiveUp(error)
    backoff = policy.delay(attempt, jitter)
    pause = None
    match rule.wait:
        case Wait.LANE:
            pause = backoff if after is None else after
            wait = 0.0
        case Wait.POOL:
            wait = BOT_POOL_WAIT if after is None else after
        case Wait.BACKOFF:
            wait = max(backoff, after or 0.0)
    if attempt >= policy.attempts:
        return GiveUp(error, pause)
    return Retry(wait, rule.key, pause, error, costs=rule.wait is not Wait.LANE)


def retry_after(headers: dict[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks us to wait, if it does: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text, re.ASCII):
        return float(text)
    when = _http_date(text)
    if when is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return max(0.0, (when - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def api_error(operation: str, attempt: int, answer: Answer, after: float | None = None) -> APIError:
    """The exception for an answer that is not a success."""
    code, detail, complaints = _explain(answer)
    kind = RAISED.get(answer.status) or (errors.ServerError if answer.status >= 500 else APIError)
    if answer.status == 400:
        if code == "cannot_delete_bot":
            kind = errors.BotAlreadyDispatchedError
        elif re.search(r"\bha(s|ve) (already )?ended\b|\balready (ended|over)\b", detail or "", re.IGNORECASE):
            kind = errors.EventEndedError
    advice = ADVICE.get(kind, "")
    if 300 <= answer.status < 400:
        advice = (
            f"It redirects to {answer.headers.get('location', 'nowhere')!r}, which is not followed: check base_url."
        )
    times = f" after {attempt} attempts" if attempt > 1 else ""
    said = f": {detail}" if detail else ""
    message = f"{operation} was answered {answer.status}{f' ({code})' if code else ''}{times}{said}"
    if after is not None:
        message += f" (Retry-After: {after:g} s)"
    return kind(
        f"{message}. {advice}".rstrip() if advice else message,
        operation=operation,
        attempts=attempt,
        status=answer.status,
        code=code,
        detail=detail,
        errors=complaints,
        headers=answer.headers,
        body=answer.body,
        retry_after=after,
    )


def _explain(answer: Answer) -> tuple[str | None, str | None, dict[str, Any]]:
    """The code, a line of text and the complaints by field, in whichever of its forms the API put them."""
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = re.sub(
            r"<(style|script|head)\b.*?</\1>|<[^>]*>", " ", answer.body.decode("utf-8", "replace"), flags=re.S
        )
        return None, " ".join(text.split())[:200] or None, {}
    if not isinstance(document, dict):
        return None, str(document)[:200], {}
    code = document.get("code")
    complaints = document.get("errors")
    if not isinstance(complaints, dict):
        known = ("code", "message", "detail", "errors")
        complaints = (
            {k: v for k, v in document.items() if k not in known} if complaints is None else {"errors": complaints}
        )
    lines = [str(document[name]) for name in ("message", "detail") if document.get(name)]
    for field, complaint in complaints.items():
        text = " ".join(map(str, complaint)) if isinstance(complaint, list) else str(complaint)
        lines.append(text if field == "non_field_errors" else f"{field}: {text}")
    return code if isinstance(code, str) else None, "; ".join(dict.fromkeys(line.rstrip(". ") for line in lines))[:500] or None, complaints
