"""What a bulk job would do, without doing it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..bulk.actions import over_since
from ..bulk.history import History
from ..bulk.journal import Journal, JournalFile
from ..bulk.progress import operation_of
from .interrupt import run
from .text import duration, print_json

if TYPE_CHECKING:
    from ..limits.quota import Quota
    from .actions_file import ActionsFile


def foresee(actions: ActionsFile, journal: Journal, quotas: Mapping[str, Quota], *, as_json: bool) -> None:
    """Say what a job would do, and how long that takes at the least. Raises `JournalError`."""
    counts = run(_count(actions, journal if Path(journal.path).exists() else None))
    requests = {name: counts[name] for name in quotas}
    seconds = max(quotas[name].seconds_for(number) for name, number in requests.items())
    if as_json:
        found = {"resumed": counts["resumed"], "skipped": counts["skipped"]}
        print_json({"total": len(actions), **found, "requests": requests, "seconds": seconds})
        return
    known, over = counts["resumed"], counts["skipped"]
    click.echo(f"{len(actions)} actions: {known} known from an earlier run, {over} for meetings that are over")
    for name, number in requests.items():
        click.echo(f"{number} requests of {name}")
    click.echo(f"The quota allows that in {duration(seconds)}. Nothing was sent.")


async def _count(actions: ActionsFile, journal: Journal | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    file = None if journal is None else JournalFile(journal, readonly=True)
    try:
        history = None
        if file is not None and journal is not None:
            history = History(file, retry_failed=journal.retry_failed)
            await history.load()
        for action in actions:
            if history is not None and history.known(action) is not None:
                counts["resumed"] += 1
            elif over_since(action, time.time()) is not None:
                counts["skipped"] += 1
            else:
                counts[operation_of(action)] += 1
    finally:
        if file is not None:
            file.close()
    return counts
