"""Ask a person on the terminal, in an event loop: Ctrl-C ends the question at whatever moment it comes.

The built-in `input`, and click's `confirm` with it, loses a Ctrl-C that comes between the question and the wait for the
answer: it ignores what flushing the output raises, and then waits for a key.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import click


def can_ask() -> bool:
    """Return whether somebody can see the question and answer it."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


async def confirm(question: str) -> bool:
    """Ask for yes or no, and return the answer: no if it is empty. Raises `click.Abort` at the end of the input."""
    while True:
        click.echo(f"{question} [y/N]: ", nl=False, err=True)
        answer = (await _line()).strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no", ""):
            return False
        click.echo("Error: answer y or n", err=True)


async def _line() -> str:
    """Read what is typed up to the end of the line."""
    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    typed = asyncio.Event()
    try:
        loop.add_reader(source, typed.set)
    except NotImplementedError:  # on Windows
        return _input()
    try:
        await typed.wait()
        text = os.read(source, 4096)  # a terminal gives a line at a time
    except OSError:
        text = b""
    finally:
        loop.remove_reader(source)
    if not text:
        raise click.Abort
    return text.decode(errors="replace")


def _input() -> str:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input()
    except EOFError:
        raise click.Abort from None
    finally:
        signal.signal(signal.SIGINT, before)
