"""Headers of answers: `Retry-After` is a wait or nothing, whatever the server wrote."""

from __future__ import annotations

from recall_async.answers import FOR_EVER, retry_after, told
from recall_async.events import request_id_of


def seeds() -> list[bytes]:
    """Waits in every form, with a `Date` after a line break."""
    return [
        b"5", b"0", b"1.5", b"Wed, 21 Oct 2015 07:28:00 GMT\nWed, 21 Oct 2015 07:27:00 GMT", b"-1", b"1e9", b"9" * 400,
        b"Wed, 31 Dec 9999 23:59:59 -2359\nMon, 01 Jan 0001 00:00:00 +2359", b"Wednesday, 21-Oct-15 07:28:00 GMT",
        b"Wed Oct 21 07:28:00 2015", b"\xd9\xa5", b"nan", b"soon", b"Wed, 21 Oct 2015 07:28:00 +9999999999",
    ]  # fmt: skip


def check(data: bytes) -> None:
    """Read `data` as `Retry-After`, and what is behind a line break as `Date`."""
    after, _, date = data.decode("utf-8", "surrogateescape").partition("\n")
    for headers in ([("Retry-After", after), ("Date", date)], [("retry-after", after), ("RETRY-AFTER", date)]):
        found = told(headers, str)
        seconds = retry_after(found)
        assert seconds is None or 0 <= seconds <= FOR_EVER, seconds
        request_id_of(found)
