"""The exit status of a command, and the message of an error."""

from __future__ import annotations

from enum import IntEnum

from ..advice import IN_DETAIL
from ..errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientCreditError,
    RecallError,
    RequestBlockedError,
    ServerUnavailableError,
)
from .text import printable


class Status(IntEnum):
    """The exit statuses."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    CHANGES = 10
    INTERRUPTED = 130


def status_of(error: Exception) -> Status:
    """Return the exit status of a command that ended with this error."""
    match error:
        case AuthenticationError() | InsufficientCreditError() | RequestBlockedError():
            return Status.REFUSED
        case ServerUnavailableError():
            return Status.UNAVAILABLE
        case ConfigurationError():
            return Status.USAGE
    return Status.FAILED


def describe(error: RecallError | OSError) -> str:
    """Return the message of an error for a terminal, without what only a program can use."""
    text = str(error) or type(error).__name__
    for note in getattr(error, "__notes__", ()):
        text += f"{'' if text.endswith(('.', '!', '?')) else '.'} {note}"
    return printable(text.replace(f" {IN_DETAIL}", ""))
