"""What the arguments of the commands say, and what the replies look like."""

from __future__ import annotations

from typing import Any, NamedTuple

from recall_async.limits.contract import Ending
from recall_async.limits.redis.scripts import ACQUIRE, SETTLE, Command

End = tuple[int, Ending, int]
"""The number of a slot, how it ended, and how many microseconds ago."""


class Asked(NamedTuple):
    """The words of an acquire."""

    client: str
    seq: int
    first: int
    interactive: int
    bulk: int
    wanted: int
    age: int
    again: bool
    ended: list[End]
    epoch: str
    quota: str
    run: str
    terms: tuple[float, ...]
    """The limit, the reserve, and the others."""


def asked(command: Command) -> Asked:
    """Return what an acquire says."""
    assert command.script is ACQUIRE
    words: Any = command.arguments
    client, seq, first, interactive, bulk, again, run, epoch, age, hold_new, wanted = words[:11]
    terms = (*words[11:15], *map(float, words[15:17]), *words[17:19], bool(hold_new))
    ask = seq, first, interactive, bulk, wanted, age, bool(again)
    return Asked(client, *ask, _ends(words[21:]), epoch, words[20], run, terms)


def wanted(command: Command) -> tuple[int, int]:
    """Return how many slots an acquire asks for: for interactive calls, and for bulk calls."""
    said = asked(command)
    return said.interactive, said.bulk


def ends(command: Command) -> list[End]:
    """Return which ends of slots a settle reports, or an acquire."""
    if command.script is ACQUIRE:
        return asked(command).ended
    assert command.script is SETTLE
    return _ends(command.arguments[2:])


def reply(
    interactive: int = 0,
    bulk: int = 0,
    *waits: int,
    now: int = 0,
    taken: int = 1,
    paused: int = 0,
    held: int = 0,
    pace: int = -1,
    name: str,
) -> list[Any]:
    """Return the reply to an acquire: slots granted, microseconds to wait by class, and `name`, the epoch and the quota."""
    epoch, quota = name.rsplit(" ", 1)
    waits = waits or (0, 0, 0, 0)
    return [interactive, bulk, now, taken, *waits, paused, held, pace, epoch.encode(), quota.encode()]


def _ends(words: Any) -> list[End]:
    return list(zip(words[::3], words[1::3], words[2::3], strict=True))
