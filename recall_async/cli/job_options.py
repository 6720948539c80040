"""Options that `bulk`, `apply`, `sync` and `jobs work` have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from .command import Decorator
from .numbers import Number, Whole

pace_option: Decorator = click.option(
    "--pace", type=click.Choice(["auto", "smooth", "greedy"]), default="auto", show_default=True,
    help="How requests are spread: auto sends half a window at once and leaves room for others, smooth spreads all of "
    "it, greedy takes whole windows, for a job that has its workspace to itself.",
)  # fmt: skip
concurrency_option: Decorator = click.option(
    "--concurrency", type=Whole(1), metavar="N", help="Actions in progress at once [default 64]."
)
max_outage_option: Decorator = click.option(
    "--max-outage", type=Number(0, endless=True), default=3600.0, show_default=True, metavar="SECONDS",
    help="How long to wait for a server that is unavailable before the job ends (exit status 4).",
)  # fmt: skip


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the parameters `pace`, `concurrency` and `max_outage`."""
    return pace_option(concurrency_option(max_outage_option(command)))


def journal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command`, which has `--results`, the parameter `journal` in place of `results`."""

    @click.option("--retry-failed", is_flag=True, help="Repeat also failures that would not pass by themselves.")
    @click.option("--no-lock", is_flag=True,
                  help="RESULTS is on a file system without locks, and no other job writes to it.")  # fmt: skip
    @wraps(command)
    def journalled(*args: Any, results: Path | None, retry_failed: bool, no_lock: bool, **options: Any) -> Any:
        from ..bulk.journal import Journal

        journal = None if results is None else Journal(results, retry_failed=retry_failed, lock=not no_lock)
        return command(*args, journal=journal, **options)

    return journalled
