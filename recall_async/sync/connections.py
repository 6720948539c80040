"""Whether a calendar is connected, and since when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ..models import Calendar


def is_connected(calendar: Calendar | None) -> bool:
    """Tell whether the API can read a calendar."""
    return calendar is not None and calendar.status != "disconnected"


def status_changed_at(calendar: Calendar) -> datetime | None:
    """Return when a calendar's status changed last; `None` if it does not say.

    Only the name of `status_changes` is documented, so any time in an entry counts.
    """
    return max((when for when in map(_time, _entries(calendar.status_changes)) if when is not None), default=None)


def was_connected_since(calendar: Calendar, moment: datetime) -> bool:
    """Tell whether a calendar may have been connected after `moment`, and so have lost the bots that it had."""
    return is_connected(calendar) and (status_changed_at(calendar) or calendar.updated_at) >= moment


def _entries(changes: Any) -> list[dict[str, Any]]:
    return [entry for entry in changes if isinstance(entry, dict)] if isinstance(changes, list) else []


def _time(entry: dict[str, Any]) -> datetime | None:
    for value in entry.values():
        if isinstance(value, str) and len(value) >= len("2025-06-10T00:00"):
            try:
                when = msgspec.convert(value, datetime)
            except msgspec.ValidationError:
                continue
            return when if when.tzinfo else when.replace(tzinfo=UTC)
    return None
