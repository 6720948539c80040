"""Whether a calendar is connected, and since when."""

from __future__ import annotations

from datetime import datetime

from ..models import Calendar


def is_connected(calendar: Calendar | None) -> bool:
    """Tell whether the API can read a calendar."""
    return calendar is not None and calendar.status != "disconnected"


def status_changed_at(calendar: Calendar) -> datetime | None:
    """Return when a calendar's status changed last; `None` if it does not say."""
    return max((change.created_at for change in calendar.status_changes if change.created_at is not None), default=None)


def was_connected_since(calendar: Calendar, moment: datetime) -> bool:
    """Tell whether a calendar may have been connected after `moment`, and so have lost the bots that it had."""
    return is_connected(calendar) and (status_changed_at(calendar) or calendar.updated_at) >= moment
