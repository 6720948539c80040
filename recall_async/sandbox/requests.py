"""The table of the functions that perform the operations, without any I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recall_async import operations as table

from . import bots, calendars, events, listing
from .fields import Request
from .replies import Refusal, Reply
from .state import State

_HANDLERS: dict[str, Callable[[State, Request], Reply]] = {
    table.SCHEDULE_BOT.name: events.schedule_bot,
    table.REMOVE_BOT.name: events.remove_bot,
    table.RETRIEVE_EVENT.name: events.retrieve,
    table.LIST_EVENTS.name: listing.list_events,
    table.CREATE_CALENDAR.name: calendars.create,
    table.RETRIEVE_CALENDAR.name: calendars.retrieve,
    table.LIST_CALENDARS.name: listing.list_calendars,
    table.UPDATE_CALENDAR.name: calendars.update,
    table.DELETE_CALENDAR.name: calendars.delete,
    table.CREATE_ACCESS_TOKEN.name: calendars.create_access_token,
    table.RETRIEVE_BOT.name: bots.retrieve,
    table.LIST_BOTS.name: bots.list_page,
    table.LEAVE_CALL.name: bots.leave_call,
}


def perform(operation: table.Operation[Any], state: State, request: Request) -> Reply:
    """Perform a request that passed authentication and quota."""
    try:
        return _HANDLERS[operation.name](state, request)
    except Refusal as refusal:
        return refusal.reply
