"""How a command ends: its exit status, and the one message that goes with a failure."""

from __future__ import annotations

from enum import IntEnum

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
    """What an exit status says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    CHANGES = 10
    INTERRUPTED = 130


def status_of(error: Exception) -> Status:
    """The exit status of a command that ended with this error."""
    match error:
        case AuthenticationError() | InsufficientCreditError() | RequestBlockedError():
            return Status.REFUSED
        case ServerUnavailableError():
            return Status.UNAVAILABLE
        case ConfigurationError():
            return Status.USAGE
    return Status.FAILED


def describe(error: RecallError | OSError) -> str:
    """What an error says, fit for a terminal."""
    return printable(" ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())]))
