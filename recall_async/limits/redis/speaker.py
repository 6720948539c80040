"""What a lane and the link to Redis need of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .scripts import Command


class Speaker(Protocol):
    """A lane, as its link sees it."""

    @property
    def speaks(self) -> bool:
        """True if the lane has something to send now."""

    def compose(self, run: str) -> list[Command]:
        """Return the commands for the server process with this run id; after `on_no_reply`, all of them again."""

    def on_reply(self, replies: Sequence[Any]) -> None:
        """Handle the replies to the commands; a refused command has an error as its reply."""

    def on_no_reply(self) -> None:
        """Handle a message without a reply: it may have taken effect."""

    def refused(self, error: Exception) -> None:
        """Handle a refused connection: fail the waiting calls, and drop all commands."""

    def fail(self, error: Exception) -> None:
        """Handle a bug of this package: fail the waiting calls, and drop all commands."""


class LaneLink(Protocol):
    """A link, as a lane sees it."""

    @property
    def trouble(self) -> str:
        """Why Redis does not reply; empty while it does."""

    def silence(self) -> float:
        """Return the seconds for which a reply of Redis has been missing."""

    def wake(self, speaker: Speaker) -> None:
        """Ask this lane for commands before every message, until it has none."""

    def join(self) -> None:
        """Record that a lane is in use."""

    def leave(self) -> None:
        """Record that a lane is no longer in use."""

    async def aclose_unused(self) -> None:
        """Close the connection, unless a lane is in use."""


class Greeter(Speaker, Protocol):
    """Reports slots in use when Redis may have lost its data."""

    def meet(self, run: str, life: str) -> bool:
        """Plan what to report to this server process, with this life of its data. True if there is anything."""
