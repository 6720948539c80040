"""Read from a calendar whether it is connected, and since when."""

from __future__ import annotations

from datetime import datetime

from ..models import Calendar


def is_connected(calendar: Calendar | None) -> bool:
    """Return whether the API can read a calendar."""
    return calendar is not None and calendar.status != "disconnected"


def status_changed_at(calendar: Calendar) -> datetime | None:
    """Return when a calendar's status last changed; `None` if unknown."""
    return max((change.created_at for change in calendar.status_changes if change.created_at is not None), default=None)


def was_connected_since(calendar: Calendar, moment: datetime) -> bool:
    """Return whether a calendar may have been connected after `moment`, and so has lost its earlier bots."""
    return is_connected(calendar) and (status_changed_at(calendar) or calendar.updated_at) >= moment
