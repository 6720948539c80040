"""Read from a calendar whether it is connected, and since when."""

from __future__ import annotations

from datetime import datetime

from ..models import Calendar


def is_connected(calendar: Calendar | None) -> bool:
    """Return whether the API can read a calendar."""
    return calendar is not None and calendar.status != "disconnected"


def connected_since(calendar: Calendar) -> datetime:
    """Return when a calendar's status last changed, or, if the API does not say, when the calendar last changed."""
    changes = (change.created_at for change in calendar.status_changes if change.created_at is not None)
    return max(changes, default=calendar.updated_at)


def was_connected_since(calendar: Calendar, moment: datetime) -> bool:
    """Return whether a calendar may have been connected after `moment`, and so has lost its earlier bots."""
    return is_connected(calendar) and connected_since(calendar) >= moment
