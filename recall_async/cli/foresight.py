"""Tell what a bulk job would do, without doing it."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..bulk.actions import over_since
from ..bulk.earlier import EarlierResults
from ..bulk.journal import Journal, JournalFile
from ..bulk.progress import operation_of
from ..errors import JournalError
from .connection import JOB_OPERATIONS, Connection
from .interrupt import run
from .status import Status, describe
from .text import duration, print_json, print_prose, say_error

if TYPE_CHECKING:
    from .actions_file import ActionsFile


def show_dry_run(actions: ActionsFile, journal: Journal, connection: Connection, pace: str, *, as_json: bool) -> Status:
    """Print what a job would do and the least time that it takes at this pace. Returns the exit status."""
    path = Path(journal.path)
    try:
        counts = run(_count(actions, journal if path.exists() else None))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise JournalError(f"the journal {path} cannot be written: permission denied, or no such directory")
    except JournalError as error:
        say_error(describe(error))
        return Status.USAGE
    requests = {name: counts[name] for name in JOB_OPERATIONS}
    paced, unpaced = connection.quotas(pace), connection.quotas("greedy")
    seconds = max(paced[name].seconds_for(number) for name, number in requests.items())
    least = max(unpaced[name].seconds_for(number) for name, number in requests.items())
    if as_json:
        found = {"resumed": counts["resumed"], "skipped": counts["skipped"]}
        pacing = {"seconds": seconds, "seconds_of_quota": least, "seconds_of_pacing": seconds - least}
        print_json({"total": len(actions), **found, "requests": requests, **pacing})
        return Status.DONE
    known, over = counts["resumed"], counts["skipped"]
    print_prose(f"{len(actions)} actions: {known} known from an earlier run, {over} for meetings that are over")
    for name, number in requests.items():
        print_prose(f"{number} requests of {name}")
    more = seconds - least
    why = f" ({duration(least)} by the quota, {duration(more)} by the pacing: see --pace)" if more >= 0.5 else ""
    print_prose(f"The quota allows that in {duration(seconds)}{why}. Nothing was sent.")
    return Status.DONE


async def _count(actions: ActionsFile, journal: Journal | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    file = None if journal is None else JournalFile(journal, readonly=True)
    try:
        earlier = None
        if file is not None and journal is not None:
            earlier = EarlierResults(file, retry_failed=journal.retry_failed)
            await earlier.load()
        for action in actions:
            if earlier is not None and earlier.known(action) is not None:
                counts["resumed"] += 1
            elif over_since(action, time.time()) is not None:
                counts["skipped"] += 1
            else:
                counts[operation_of(action)] += 1
    finally:
        if file is not None:
            file.close()
    return counts
