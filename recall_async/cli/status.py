"""The exit status of a command, and the message of an error."""

from __future__ import annotations

import os
import re
from enum import IntEnum

from ..advice import IN_DETAIL
from ..errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
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


_FOR_COMMANDS: tuple[tuple[str, str], ...] = (
    (rf" {re.escape(IN_DETAIL)}", ""),
    (r"\bbase_url\b", "--base-url"),
    (r"recall\.bots\.leave_call\(.*, or `recall-async bots leave`", "`recall-async bots leave`"),
    (r"with calendars\.list before you call again", "with `recall-async calendars` before you give the command again"),
    (r", or pass the same idempotency_key within the hour", ""),
    (r"\bCalling it again is safe", "Giving the command again is safe"),
    (r"\bcalling it again is safe", "giving the command again is safe"),
    (r"Protocol Error: b'.*", "the server that was reached is not a Redis: check --redis"),
    (r"\bcall again\b", "give the command again"),
    (r"allow a longer outage \(max_outage\)", "allow a longer outage with --max-outage"),
    (r"the aiohttp session that was passed as http= is closed", "the session is closed"),
)
"""What a message says to a program, and what it says to a person at a terminal."""
_FIELDS = re.compile(r": it refuses ([a-z_, ]+)\.?$")
"""What a message says instead of the API's own words, which may hold secrets."""
_REFUSED = re.compile(r"Error (\d+) connecting to (\S+?)\. Connect call failed \([^()]*\)\.?")
"""What redis-py says of a server that cannot be reached."""


def describe(error: RecallError | OSError) -> str:
    """Return the message of an error for a terminal, without what only a program can use."""
    text = str(error) or type(error).__name__
    if not isinstance(error, RecallError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    for note in getattr(error, "__notes__", ()):
        text += f"{'' if text.endswith(('.', '!', '?')) else '.'} {note}"
    if isinstance(error, ConnectionFailedError) and "heck" not in text:
        address = "the address of the proxy" if "the proxy" in text and "cannot be reached" in text else "--base-url"
        text += f" Check {address} and the network."
    return for_commands(text)


def for_commands(text: str) -> str:
    """Return a message of the library in the words of the command line."""
    for pattern, replacement in _FOR_COMMANDS:
        text = re.sub(pattern, replacement, text)
    if fields := _FIELDS.search(text):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in fields[1].split(", "))
        text = f"{text[: fields.start()]}: the API refuses {options}. Correct this, and give the command again."
    if refused := _REFUSED.search(text):
        reason = os.strerror(int(refused[1])).lower()
        text = f"{text[: refused.start()]}{refused[2]}: {reason}{text[refused.end() :]}".rstrip(". ")
        text += ". Check --redis, and whether the server runs."
    return printable(text)
