"""Make a call that takes about 40 seconds, and put its log into `docs/observability.md`: `python docs/slow_call.py`.

The call waits for its quota, which other calls have used up; then another program uses the quota too, so the server answers
429; then the server fails three times.
"""

from __future__ import annotations

import asyncio
import io
import logging
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recall_async import Deduplication, Quota, RecallSession
from recall_async.sandbox import RecallSandbox

PAGE = Path(__file__).parent / "observability.md"
BEGIN, END = "<!-- log: written by docs/slow_call.py -->\n", "<!-- end of log -->"
SCHEDULE = "calendar_events.schedule_bot"
LIMIT, PER = 10, 12.0
"""A small quota, so that one call can use it up."""


async def slow_call() -> None:
    """Make the call, after ten others that leave no slot."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with (
        RecallSandbox(events=300, quotas={SCHEDULE: (LIMIT, PER)}) as sandbox,
        RecallSession(
            sandbox.api_key, base_url=sandbox.url, workspace="acme", quotas={SCHEDULE: Quota(LIMIT, PER)}
        ) as recall,
    ):
        listed = recall.calendar_events.list(start_time__gte=tomorrow, is_deleted=False)
        events = [event async for event in listed if event.meeting_url is not None][: LIMIT + 1]
        for number, event in enumerate(events):
            if number == LIMIT:
                sandbox.fault(SCHEDULE, status=429, headers={"Retry-After": "8"})
                sandbox.fault(SCHEDULE, status=503, times=3)
            await recall.calendar_events.schedule_bot(event.id, deduplication_key=Deduplication.MEETING(event))


def main() -> None:
    """Write the log of the call."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("recall_async")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    asyncio.run(slow_call())
    lines = [textwrap.fill(line, 90, subsequent_indent=" " * 9) for line in output.getvalue().splitlines()]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    text = "\n".join(["```text", *lines, "```", END])
    PAGE.write_text(f"{before}{BEGIN}{text}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
