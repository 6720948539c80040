"""Every fault on every kind of operation: what is raised, what was sent, and which slots of the quota that took.

The page docs/faults.md shows what was found. `python -m tests.session.test_fault_matrix` writes its table anew.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from recall_async import Quota, RecallError, RecallSession, RetryPolicy
from recall_async.operations import OPERATIONS
from tests.session.conftest import API_KEY
from tests.session.scripted_server import EVENT, Behaviour, ScriptedServer, raw, reply, reset, silence

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
EVENT_ID, OTHER_ID = (f"497f6eca-6276-4993-bfeb-53cbbbba6f{number:02}" for number in (8, 9))
ATTEMPTS = 3
ENDED = {"code": "x", "errors": {"non_field_errors": ["Cannot schedule bot as calendar event has ended."]}}
CALLS: dict[str, tuple[str, Callable[[RecallSession], Any]]] = {
    "schedule": (
        "calendar_events.schedule_bot",
        lambda recall: recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k"),
    ),
    "remove": ("calendar_events.remove_bot", lambda recall: recall.calendar_events.remove_bot(EVENT_ID)),
    "list": ("calendar_events.list", lambda recall: recall.calendar_events.list_page()),
    "create": (
        "calendars.create",
        lambda recall: recall.calendars.create(
            platform="google_calendar", oauth_client_id="i", oauth_client_secret="s", oauth_refresh_token="t"
        ),
    ),
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
FAULTS: dict[str, Behaviour | None] = {
    "the host name is unknown": None,
    "the connection is refused": None,
    "reset before the response": reset,
    "closed before the response": raw(b""),
    "closed in the head": raw(b"HTTP/1.1 200 OK\r\nConte"),
    "closed in the body": raw(HEAD, b"{"),
    "no response in time": silence,
    "the body stops": raw(HEAD, b"{", hang=True),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "not gzip, as it says": reply(200, body=b"{}", Content_Encoding="gzip"),
    "200, empty": reply(200, body=b""),
    "200, not JSON": reply(200, body=b"<html>Login</html>"),
    "200, another object": reply(200, EVENT | {"id": OTHER_ID}),
    "301": reply(301, Location="https://elsewhere.example/"),
    "304": reply(304),
    "400": reply(400, {"detail": "No."}),
    "400, the event has ended": reply(400, ENDED),
    "401": reply(401),
    "402": reply(402),
    "403": reply(403, body=b"<html>blocked</html>"),
    "404": reply(404),
    "405": reply(405),
    "408": reply(408),
    "409": reply(409),
    "410": reply(410),
    "422": reply(422),
    "429": reply(429, retry_after="0"),
    "500": reply(500),
    "502": reply(502),
    "503": reply(503),
    "504": reply(504),
    "507": reply(507, retry_after="0"),
    "520": reply(520),
    "503, then 409": None,
}


class Cell(NamedTuple):
    """What became of one call."""

    error: str
    sent: int
    """Requests that arrived, or may have."""
    slots: int
    """Slots of the quota that they took."""
    keys: int
    """Different idempotency keys among them."""

    def __str__(self) -> str:
        keys = f", {self.keys} key{'s' if self.keys > 1 else ''}" if self.keys else ""
        return f"`{self.error}` {self.sent}/{self.slots}{keys}"


class NoSuchName(aiohttp.abc.AbstractResolver):
    """A resolver that knows no name."""

    async def resolve(self, *args: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        """Nothing is open."""


async def meet(fault: str, call: str) -> tuple[Cell, RecallError | None]:
    """Make the call against a server that fails in this way every time."""
    operation, make = CALLS[call]
    async with ScriptedServer() as server:
        settings: dict[str, Any] = {"base_url": server.url}
        behaviour = FAULTS[fault]
        if behaviour is not None:
            server.script(*[behaviour] * 10)
        if fault == "503, then 409":
            server.script(reply(503), reply(409))
        if fault == "the connection is refused":
            settings = {"base_url": "http://127.0.0.1:1"}
        if fault == "the host name is unknown":
            settings = {
                "base_url": "https://recall.invalid",
                "http": lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoSuchName())),
            }
        async with RecallSession(
            API_KEY,
            workspace=uuid4().hex,
            quotas={name: Quota(60_000, 60.0) for name in OPERATIONS},
            retry=RetryPolicy(attempts=ATTEMPTS, backoff=0.0005, budget=10**6),
            timeout=0.1 if fault in ("no response in time", "the body stops") else 30.0,
            **settings,
        ) as recall:
            error: RecallError | None = None
            try:
                await make(recall)
            except RecallError as raised:
                error = raised
            lane = recall.statistics()[operation]
            assert (lane.in_flight, lane.waiting_interactive) == (0, 0)
            keys = Counter(request.key for request in server.requests)
            assert (None in keys) == (bool(server.requests) and not OPERATIONS[operation].keyed)
            cell = Cell(
                type(error).__name__ if error is not None else "done",
                len(server.requests),
                lane.taken,
                0 if None in keys else len(keys),
            )
        await recall.aclose()
    return cell, error


def documented() -> dict[tuple[str, str], str]:
    """The cells of the page."""
    cells = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and line.count("|") == len(CALLS) + 2 and "---" not in line:
            fault, *row = (cell.strip() for cell in line.strip("|").split("|"))
            cells |= {(fault, call): cell for call, cell in zip(CALLS, row, strict=True)}
    return cells


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
async def test_every_fault_on_every_operation(fault: str, call: str) -> None:
    """Would raise something foreign, send more than it has slots for, repeat what is useless, or do a thing twice."""
    cell, error = await meet(fault, call)
    assert str(cell) == documented()[fault, call]
    assert cell.sent <= cell.slots
    if error is not None:
        assert (error.operation, error.attempts) == (CALLS[call][0], max(cell.sent, error.attempts))
        assert len(str(error)) > len(CALLS[call][0]) + len(" failed with 400")
    if fault == "503, then 409":
        assert cell.keys <= 1
    if re.match("reset|closed|no response|the body|50[234]|503, then", fault) and call == "create":
        assert cell.keys == 1  # else it could be created twice


def test_the_page_has_every_cell() -> None:
    """The page would leave out a fault, or show one that nobody checks."""
    assert set(documented()) - {("every time", call) for call in CALLS} == {
        (fault, call) for fault in FAULTS for call in CALLS
    }


async def write() -> None:
    """Write the table into the page."""
    rows = [f"| every time | {' | '.join(CALLS)} |", f"| --- |{' --- |' * len(CALLS)}"]
    for fault in FAULTS:
        row = [str((await meet(fault, call))[0]) for call in CALLS]
        rows.append(f"| {fault} | {' | '.join(row)} |")
    text = PAGE.read_text()
    before, _, rest = text.partition("| every time |")
    after = rest.partition("\n\n")[2]
    PAGE.write_text(before + "\n".join(rows) + "\n\n" + after)


if __name__ == "__main__":
    asyncio.run(write())
    sys.exit()
