"""What follows from each outcome of a request, line by line of the API's documentation; no network, no clock."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import errors
from recall_async.advice import api_error
from recall_async.answers import Response, retry_after, told
from recall_async.operations import SCHEDULE_BOT
from recall_async.retry import (
    GiveUp,
    Retry,
    RetryBudget,
    RetryPolicy,
    decide,
)

OPERATION = "calendar_events.schedule_bot"
POLICY = RetryPolicy()
NOON = datetime(2025, 6, 10, 12, 0, tzinfo=UTC)
ENDED = b'{"code": "invalid", "message": "Invalid", "errors": {"non_field_errors": ["This event has ended."]}}'
DISPATCHED = b'{"code": "cannot_delete_bot", "detail": "Cannot delete a bot that was dispatched."}'


def failed(response: Response, attempt: int = 1) -> errors.APIError:
    return api_error(SCHEDULE_BOT, attempt, response, retry_after(response.headers, NOON))


def after(
    happened: Response | errors.RecallError, attempt: int = 1, jitter: float = 0.5, *, in_doubt: bool = False
) -> Retry | GiveUp:
    if isinstance(happened, Response):
        happened = failed(happened, attempt)
    return decide(POLICY, attempt, happened, jitter=jitter, in_doubt=in_doubt)


def answer(status: int, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


RAISED = [
    (400, b"{}", errors.BadRequestError),
    (400, ENDED, errors.EventEndedError),
    (400, DISPATCHED, errors.BotAlreadyDispatchedError),
    (401, b"{}", errors.AuthenticationError),
    (402, b"{}", errors.InsufficientCreditError),
    (403, b"<html>blocked</html>", errors.RequestBlockedError),
    (404, b"{}", errors.NotFoundError),
    (405, b"{}", errors.BotAlreadyDispatchedError),
    (500, b"", errors.ServerError),
    (501, b"", errors.ServerError),
    (505, b"", errors.ServerError),
    (520, b"", errors.ServerError),
    *((status, b"", errors.APIError) for status in (301, 302, 303, 304, 307, 308, 406, 410, 418, 422, 451)),
]


@pytest.mark.parametrize(("status", "body", "kind"), RAISED)
def test_what_is_raised_at_once(status: int, body: bytes, kind: type[errors.APIError]) -> None:
    """Would retry what a retry cannot mend, such as a 405 for ever, or raise it as something else."""
    verdict = after(answer(status, body, retry_after="1"))
    assert isinstance(verdict, GiveUp)
    assert type(verdict.error) is kind
    assert verdict.pause is None
    assert (verdict.error.operation, verdict.error.attempts, verdict.error.status) == (OPERATION, 1, status)


RETRIED: list[tuple[Any, bool, type[errors.RecallError]]] = [
    (409, True, errors.ConflictError),
    (429, False, errors.RateLimitedError),
    (502, False, errors.ServerError),
    (503, False, errors.ServerError),
    (504, False, errors.ServerError),
    (507, True, errors.BotPoolExhaustedError),
    (errors.ConnectionFailedError("reset"), False, errors.ConnectionFailedError),
    (errors.AttemptTimeoutError("timeout"), False, errors.AttemptTimeoutError),
]


@pytest.mark.parametrize(("happened", "new_key", "kind"), RETRIED)
def test_what_is_tried_again(happened: Any, new_key: bool, kind: type[errors.RecallError]) -> None:
    """Would give up where the documentation says to retry, or repeat a cached 409 or 507 with the old key."""
    verdict = after(answer(happened) if isinstance(happened, int) else happened)
    assert isinstance(verdict, Retry)
    assert verdict.new_key is new_key
    assert type(verdict.error) is kind
    assert verdict.error.attempts == (1 if isinstance(happened, int) else 0)  # the loop counts where nothing came


def test_a_409_after_an_unknown_outcome() -> None:
    """Would make two calendars of one create: the first is being worked on, and a new key hides that from the API."""
    verdict = after(answer(409), in_doubt=True)
    assert isinstance(verdict, Retry)
    assert not verdict.new_key
    bots = after(answer(507), in_doubt=True)
    assert isinstance(bots, Retry)
    assert bots.new_key  # the answer to the first is known: it is this one, and it is kept


def test_what_is_useless_to_repeat() -> None:
    """Would look up a name for five seconds that does not exist."""
    failure = errors.ConnectionFailedError("no such name")
    failure.permanent = True
    assert after(failure) == GiveUp(failure)


def test_a_retry_after_of_nothing_does_not_spend_all_attempts() -> None:
    """Would give up after two seconds, since each of five 429s asks to come back at once."""
    pauses = [after(answer(429, retry_after="0"), attempt=n, jitter=1.0).pause for n in range(1, 6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("happened", [case[0] for case in RETRIED])
def test_attempts_are_bounded(happened: Any) -> None:
    """Would try for ever, or once too little: the last attempt raises, with the number of attempts."""
    happened = answer(happened) if isinstance(happened, int) else happened
    assert isinstance(after(happened, attempt=POLICY.attempts - 1), Retry)
    last = after(happened, attempt=POLICY.attempts)
    assert isinstance(last, GiveUp)
    assert last.error.attempts in (0, POLICY.attempts)


def test_the_last_429_still_pauses_the_lane() -> None:
    """Would let everybody else run into a pause that only the call that gave up has heard of."""
    last = after(answer(429, retry_after="7"), attempt=POLICY.attempts)
    assert isinstance(last, GiveUp)
    assert last.pause == 7.0
    assert isinstance(last.error, errors.RateLimitedError)
    assert last.error.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "seconds", "waits", "pauses"),
    [
        (429, "17", 0.0, 17.0),
        (502, "17", 17.0, None),
        (503, "17", 17.0, None),
        (504, "17", 17.0, None),
        (409, "17", 17.0, None),
        (507, "17", 17.0, None),
        (507, "120", 120.0, None),
        (507, None, 30.0, None),
        (507, "0", 0.0, None),
    ],
)
def test_where_the_wait_is_made(status: int, seconds: str | None, waits: float, pauses: float | None) -> None:
    """Would let the lane run on through a 429, hold everybody for one call's 503, or forget the 30 s of a 507."""
    verdict = after(answer(status, **({"retry_after": seconds} if seconds is not None else {})))
    assert isinstance(verdict, Retry)
    assert (verdict.after, verdict.pause) == (waits, pauses)


def test_429_without_retry_after_pauses_for_a_backoff() -> None:
    """Would send again at once, and with it everybody who waits."""
    verdict = after(answer(429), attempt=3, jitter=1.0)
    assert isinstance(verdict, Retry)
    assert verdict.pause == POLICY.delay(3, 1.0) == 2.0


def test_a_429_that_names_its_wait_is_not_held_back_longer() -> None:
    """Would pause a lane for seconds of backoff where the server asked for one second."""
    verdict = after(answer(429, retry_after="1"), attempt=4, jitter=1.0)
    assert isinstance(verdict, Retry)
    assert verdict.pause == 1.0


def test_a_409_is_in_doubt_only_if_the_caller_says_so() -> None:
    """Would repeat a cached 409 with its key until the attempts are used up."""
    verdict = decide(POLICY, 1, failed(answer(409)), jitter=0.5)
    assert isinstance(verdict, Retry)
    assert verdict.new_key


@given(
    status=st.sampled_from([409, 429, 502, 503, 504, 507]),
    seconds=st.integers(0, 10**12),
    attempt=st.integers(1, 10),
    jitter=st.floats(0, 1),
)
def test_retry_after_is_a_floor(status: int, seconds: int, attempt: int, jitter: float) -> None:
    """Would come back before the server allows it, whatever the backoff, its cap, its jitter or the size of the number."""
    verdict = decide(
        RetryPolicy(attempts=11, backoff_cap=1.0), attempt, failed(answer(status, retry_after=str(seconds))),
        jitter=jitter,
    )  # fmt: skip
    assert isinstance(verdict, Retry)
    assert max(verdict.after, verdict.pause or 0.0) >= min(seconds, 1e9)


@given(attempt=st.integers(1, 60), jitter=st.floats(0, 1), backoff=st.floats(0, 60), cap=st.floats(0, 600))
def test_jitter_comes_after_the_cap(attempt: int, jitter: float, backoff: float, cap: float) -> None:
    """Would make all capped retries fire together, or wait longer than the cap."""
    policy = RetryPolicy(backoff=backoff, backoff_cap=cap)
    limit = min(cap, backoff * 2.0 ** (attempt - 1))
    delay = policy.delay(attempt, jitter)
    assert delay == pytest.approx(limit * (1 + jitter) / 2)
    assert delay <= cap


def test_backoff_of_very_many_attempts() -> None:
    """Would overflow in the two-thousandth retry of a patient policy."""
    assert RetryPolicy(attempts=10_000).delay(9_999, 1.0) == 30.0


def test_backoff_doubles_up_to_its_cap() -> None:
    """Would retry an outage at a constant pace."""
    policy = RetryPolicy(attempts=10, backoff=0.5, backoff_cap=3.0)
    verdicts = [decide(policy, n, failed(answer(503)), jitter=1.0) for n in range(1, 6)]
    assert [verdict.after for verdict in verdicts if isinstance(verdict, Retry)] == [0.5, 1.0, 2.0, 3.0, 3.0]


HOUR_OFF = format_datetime(NOON + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": " 5 "}, 5.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "0005"}, 5.0),
        ({"retry-after": HOUR_OFF}, 3600.0),
        ({"retry-after": HOUR_OFF, "date": format_datetime(NOON + timedelta(minutes=59), usegmt=True)}, 60.0),
        ({"retry-after": HOUR_OFF, "date": "yesterday"}, 3600.0),
        ({"retry-after": "Tuesday, 10-Jun-25 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Tue Jun 10 12:00:30 2025"}, 30.0),
        ({"retry-after": format_datetime(NOON - timedelta(hours=1), usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "+5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "0x10"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "5, 5"}, None),
        ({"retry-after": "\u0665"}, None),
        ({"retry-after": "1 2 3 4 5 6"}, None),
        ({"retry-after": "Tue, 10 Jun 2025 25:61:00 GMT"}, None),
        ({"retry-after": "Tue, 10 Jun 99999 12:00:00 GMT"}, None),
        ({"retry-after": "Tue, 10 Jun 2025 12:00:00 +99999999999999999999"}, None),
        ({"retry-after": "9" * 400}, 1e9),
    ],
)
def test_retry_after_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Would misread a wait in seconds or as a date, with or without the server's own clock, or take garbage for one."""
    assert retry_after(headers, NOON) == seconds


@settings(max_examples=150)
@given(
    value=st.text(max_size=40)
    | st.from_regex(r"\A\w{3}, \d{1,3} (Jan|Feb|Jun) -?\d{1,6} \d{1,3}:\d{1,3}:\d{1,3} ([+-]\d{1,20}|GMT|\w*)\Z")
    | st.from_regex(r"\A\d{1,400}\.?\d{0,20}\Z"),
    date=st.none() | st.text(max_size=40),
)
def test_retry_after_never_fails(value: str, date: str | None) -> None:
    """Would lose a call to a header: whatever is in it, it is nothing or a finite number of seconds, not below 0."""
    seconds = retry_after({"retry-after": value} | ({} if date is None else {"date": date}), NOON)
    assert seconds is None or 0.0 <= seconds < math.inf


def test_only_429_is_free_of_the_budget() -> None:
    """Would spend the budget for outages on waits that the lane bounds already, or retry outages for free."""
    costs = {case[0]: after(answer(case[0])).costs for case in RETRIED if isinstance(case[0], int)}  # type: ignore[union-attr]
    assert costs == {409: True, 429: False, 502: True, 503: True, 504: True, 507: True}


def test_an_outage_does_not_multiply_the_load() -> None:
    """Would send up to five requests per call while every request fails."""
    policy, budget, retries = RetryPolicy(budget=20, budget_ratio=0.1), RetryBudget(), 0
    for call in range(6000):  # ten minutes at 600 a minute
        now = call / 10
        budget.earn(policy)
        for _ in range(policy.attempts - 1):
            if not budget.spend(policy, now):
                break
            retries += 1
    assert 6000 * 0.1 < retries <= 20 + 6000 * 0.1 + 10 * 20


def test_budget_comes_back() -> None:
    """Would make a workspace give up at the first failure for ever after one outage."""
    policy, budget = RetryPolicy(budget=4, budget_ratio=0.5), RetryBudget()
    assert [budget.spend(policy, 0.0) for _ in range(5)] == [True] * 4 + [False]
    assert budget.spend(policy, 14.9) is False
    assert budget.spend(policy, 15.1) is True
    budget.earn(policy)
    budget.earn(policy)
    assert budget.spend(policy, 15.1) is True
    assert [budget.spend(policy, 1000.0) for _ in range(5)] == [True] * 4 + [False]


def test_calls_restore_the_budget_and_save_nothing_up() -> None:
    """Would keep back a retry that calls have earned, or save up a quiet day's earnings for the next outage."""
    policy, budget = RetryPolicy(budget=1, budget_ratio=0.5), RetryBudget()
    for _ in range(100):
        budget.earn(policy)
    assert [budget.spend(policy, 1.0) for _ in range(2)] == [True, False]
    budget.earn(policy)
    budget.earn(policy)
    assert [budget.spend(policy, 1.0) for _ in range(2)] == [True, False]


def test_what_is_spent_is_never_less_than_nothing() -> None:
    """Would save up what calls earn after an outage, or begin in debt."""
    policy, budget = RetryPolicy(budget=2, budget_ratio=0.3), RetryBudget()
    assert budget.spent == 0.0
    assert budget.spend(policy, 0.0)
    for _ in range(10):
        budget.earn(policy)
    assert budget.spent == 0.0
    assert [budget.spend(policy, 0.0) for _ in range(3)] == [True, True, False]


def test_no_budget_no_retries() -> None:
    """Would retry although the policy says not to."""
    assert RetryBudget().spend(RetryPolicy(budget=0), 0.0) is False


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": 2.5},
        {"attempts": math.nan},
        {"attempts": "5"},
        {"attempts": None},
        *({name: value} for name in ("backoff", "backoff_cap", "budget", "budget_ratio")
          for value in (-1, math.nan, math.inf, "1", None)),
        {"deadline": 0},
        {"deadline": -1},
        {"deadline": math.nan},
        {"deadline": "5"},
    ],
)  # fmt: skip
def test_policies_that_cannot_be(values: dict[str, Any]) -> None:
    """Would let a policy through that retries for ever, or fails in the middle of the first outage."""
    with pytest.raises(errors.ConfigurationError, match=next(iter(values))):
        RetryPolicy(**values)


def test_the_least_and_the_most_of_a_policy() -> None:
    """Would refuse a policy without retries, or one without a deadline."""
    assert RetryPolicy(attempts=1, backoff=0, backoff_cap=0, budget=0, budget_ratio=0, deadline=math.inf).attempts == 1


def test_defaults_are_those_of_the_documentation() -> None:
    """Would retry more or less often than documented."""
    documented = RetryPolicy(attempts=5, backoff=0.5, backoff_cap=30.0, deadline=None, budget=100, budget_ratio=0.2)
    assert RetryPolicy() == documented


def test_patience_is_the_sum_of_the_longest_waits() -> None:
    """Would end an outage too early for what other calls bear, count a wait after the last attempt, or count for ever."""
    assert RetryPolicy().patience == 0.5 + 1.0 + 2.0 + 4.0
    assert RetryPolicy(attempts=1).patience == 0.0
    assert RetryPolicy(attempts=10**12, backoff=1.0, backoff_cap=1.0).patience == 99.0


def test_policy_is_immutable() -> None:
    """Would let one session change the policy of another."""
    with pytest.raises(FrozenInstanceError):
        POLICY.attempts = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("waits", "seconds"),
    [
        (["1", "3", "2"], 3.0),
        (["1, 3,2"], 3.0),
        (["1", "Wed, 21 Oct 2015 07:28:00 GMT"], 60.0),
        (["Wed, 21 Oct 2015 07:28:00 GMT", "61"], 61.0),
        (["soon", "2"], 2.0),
        (["soon, 2"], None),
        (["1.5.2, 1"], 1.0),
    ],
)
def test_longest_of_several_retry_after_counts(waits: list[str], seconds: float | None) -> None:
    """Would come back too early where a proxy joins headers, or where the server's clock is not ours."""
    headers = [*(("Retry-After", wait) for wait in waits), ("Date", "Wed, 21 Oct 2015 07:27:00 GMT")]
    assert retry_after(told(headers, str)) == seconds
