"""A parsed request, and functions that read ids, times and strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from .bodies import Body
from .replies import field_error, not_found

LONGEST_TEXT = 2000
"""The most characters that the API accepts in a deduplication key or a credential."""


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that operations use."""

    url: str
    """Scheme, host and path, without the query."""
    id: str
    """The `{id}` in the path as it was sent, or empty."""
    query: Mapping[str, Sequence[str]]
    """All values of each parameter."""
    body: Body
    now: datetime
    connect_after: float = 0.0
    """Seconds that a new calendar is `connecting`."""

    def last(self, name: str) -> str | None:
        """Return the last value of a query parameter, which is the one that counts."""
        return self.query[name][-1] if name in self.query else None


def identifier(text: str) -> str:
    """Read the id in a path. Raises a refusal: 404 for an invalid UUID."""
    try:
        return str(UUID(text))
    except ValueError:
        raise not_found() from None


def moment(text: str) -> datetime:
    """Read a time, with or without an offset, as UTC. Raises `ValueError`."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        return when.replace(tzinfo=UTC)
    try:
        return when.astimezone(UTC)
    except OverflowError:
        # The time is beyond the first or last datetime: use that.
        return (datetime.min if when.year == 1 else datetime.max).replace(tzinfo=UTC)


def problem_of_text(value: Any, longest: int = LONGEST_TEXT) -> str | None:
    """Describe the fault of a value that must be a non-empty string; `None` if it is one."""
    if not isinstance(value, str):
        return "Not a valid string."
    if not value.strip():
        return "This field may not be blank."
    if len(value) > longest:
        return f"Ensure this field has no more than {longest} characters."
    return None


def metadata(value: Any, name: str, where: str = "") -> dict[str, str | None]:
    """Read `metadata`, an object of strings; numbers become strings. Raises a refusal: 400 that names the field."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise field_error(name, f'{where}Expected a dictionary of items but got type "{kind}".')
    texts: dict[str, str | None] = {}
    for key, part in value.items():
        if part is not None and (isinstance(part, bool) or not isinstance(part, str | int | float)):
            raise field_error(name, f"{where}{key}: Not a valid string.")
        texts[key] = part if part is None else str(part)
    return texts
