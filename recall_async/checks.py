"""Check arguments before a request is sent. Errors read "NAME must be ..., got ...".

Each check takes the name of the argument and its value. It returns the value in the form that the package uses. Errors show
an invalid value in one short line, and never show a secret.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from .errors import ConfigurationError
from .secrecy import one_line

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

MAX_SHOWN = 80
"""Maximum number of characters of an invalid value in a message."""
MAX_SECONDS = 1e9
"""About thirty years. Clocks and timers have limits."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = MAX_SHOWN - 5
_repr.maxlong = 40
_repr.maxlevel = 3


def invalid(name: str, expected: str, value: object) -> ConfigurationError:
    """Return the error for an invalid value; `expected` describes a valid one, such as "a name"."""
    return ConfigurationError(f"{name} must be {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """Describe a value in one line of at most `MAX_SHOWN` characters, whatever it is."""
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001  # a foreign `__repr__` may raise anything
        text = f"<{type(value).__name__}>"
    return one_line(text, MAX_SHOWN)


def callback(name: str, function: F, takes: str) -> F:
    """Check a function that the package calls and does not await. Raises `ConfigurationError`."""
    if callable(function) and not (iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)):
        return function
    raise invalid(name, f"a plain function that takes {takes}, not a coroutine function", function)


def whole(name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Check a whole number; `True` and `1.0` are refused. Raises `ConfigurationError`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and (at_least is None or value >= at_least) and (at_most is None or value <= at_most):
        return int(value)
    if at_least is not None and at_most is not None:
        bounds = f" from {at_least} to {at_most}"
    else:
        bounds = f" of at least {at_least}" if at_least is not None else ""
        bounds += f" of at most {at_most}" if at_most is not None else ""
    raise invalid(name, f"a whole number{bounds}", value)


def number(name: str, value: Any, *, at_least: float = -math.inf, expected: str | None = None) -> float:
    """Check a finite number; `True`, NaN and strings are refused. Raises `ConfigurationError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            if at_least <= float(value) < math.inf and value > -math.inf:
                return float(value)
    bounds = "" if at_least == -math.inf else f" of at least {at_least:g}"
    raise invalid(name, expected or f"a finite number{bounds}", value)


def seconds(name: str, value: Any, *, zero: bool = False, endless: bool = False) -> float:
    """Check a time span in seconds, above 0 unless `zero` is allowed; `math.inf` only if `endless` is.

    Raises `ConfigurationError`.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == math.inf and endless:
            return math.inf
        if 0 < value <= MAX_SECONDS or (zero and value == 0):
            return float(value)
    if isinstance(value, int | float) and MAX_SECONDS < value < math.inf and not isinstance(value, bool):
        raise invalid(name, f"a number of seconds of at most {MAX_SECONDS:.0e}", value)
    raise invalid(name, f"a number of seconds {'of at least' if zero else 'above'} 0", value)


plain: Callable[[str], str] = str.__str__
"""Return a string's text, not as an instance of a subclass: msgspec cannot encode one, and `str()` of an `Enum`'s member is
another text."""


def text(name: str, value: Any, *, empty: bool = False, at_most: int | None = None, secret: bool = False) -> str:
    """Check a string that can be encoded as UTF-8 and, unless `empty` is true, is not blank.

    Raises `ConfigurationError`, which does not show a `secret`.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, got {type(value).__name__ if secret else shown(value)}")
    if not empty and not value.strip():
        raise ConfigurationError(f"{name} must not be empty")
    if at_most is not None and len(value) > at_most:
        raise ConfigurationError(f"{name} must have at most {at_most} characters, got {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{name} must be a string that UTF-8 can encode, got a lone surrogate at position {error.start}"
        ) from None
    return value


def header(name: str, value: Any) -> str:
    """Check the value of a header: up to 255 printable ASCII characters. Raises `ConfigurationError`."""
    if not text(name, value, at_most=255).isascii() or not value.isprintable():
        raise invalid(name, "printable ASCII text", value)
    return str(value)


def flag(name: str, value: Any) -> bool:
    """Check for `True` or `False`. Raises `ConfigurationError`."""
    if not isinstance(value, bool):
        raise invalid(name, "True or False", value)
    return value


def uuid(name: str, value: Any) -> str:
    """Check an id, a `UUID` or a string, and return it in lower case. Raises `ConfigurationError`."""
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise invalid(name, "a UUID", value)
    return value.lower()


def moment(name: str, value: Any) -> datetime:
    """Check a time: an aware `datetime` or an RFC 3339 string. Raises `ConfigurationError`."""
    when = value
    with suppress(msgspec.ValidationError, OverflowError):
        when = msgspec.convert(value, datetime) if isinstance(value, str) else value
        if isinstance(when, datetime) and when.utcoffset() is not None and when.astimezone(UTC):
            return when
    if isinstance(when, datetime) and when.utcoffset() is None:
        raise ConfigurationError(
            f"{name} must have a time zone, got {shown(value)}: use datetime.now(UTC) or .astimezone()"
        )
    raise invalid(name, "a time such as 2025-06-10T18:54:18Z", value)


def moment_text(name: str, value: Any) -> str:
    """Check a time as `moment` does, and return it as an RFC 3339 string. Raises `ConfigurationError`."""
    when = moment(name, value)
    return value if isinstance(value, str) else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def one_of(name: str, value: T, choices: Collection[T]) -> T:
    """Check that a value is one of a few. Raises `ConfigurationError`."""
    if value not in choices:
        raise invalid(name, f"one of {', '.join(map(str, choices))}", value)
    return value


def instance(name: str, value: T, kind: type[Any], expected: str) -> T:
    """Check the type of a value; `expected` describes it in the error. Raises `ConfigurationError`."""
    if not isinstance(value, kind):
        raise invalid(name, expected, value)
    return value


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first` up to `cap` seconds. Each is shortened at random by up to a half."""

    first: float
    cap: float

    def delay(self, failures: int, jitter: float) -> float:
        """Return the delay in seconds after `failures` failures in a row, at least 1; `jitter` is random, from 0 to 1."""
        capped = min(self.cap, self.first * 2.0 ** min(failures - 1, 64))
        return capped * (1 + jitter) / 2


def backoff(name: str, first: Any, cap: Any) -> Backoff:
    """Check the two settings `NAME` and `NAME_cap`, in seconds. Raises `ConfigurationError`."""
    return Backoff(seconds(name, first, zero=True), seconds(f"{name}_cap", cap, zero=True))
