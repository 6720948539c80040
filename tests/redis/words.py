"""What the arguments of the commands say, and what the replies look like."""

from __future__ import annotations

from typing import Any, NamedTuple

from recall_async.limits.contract import Ending
from recall_async.limits.redis.scripts import (
    _ENDINGS,
    ACQUIRE,
    PACKED_ASK,
    PACKED_END,
    PACKED_TERMS,
    SETTLE,
    Command,
)

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
    """That of the epoch if the command leaves it out."""
    terms: tuple[float, ...]
    """The limit, the reserve, and the others."""


def asked(command: Command) -> Asked:
    """Return what an acquire says."""
    assert command.script is ACQUIRE
    words: Any = command.arguments
    client, terms, ask, ended, name, *run = words
    epoch, quota = name.rsplit(" ", 1)
    named = run[0] if run else epoch.partition("/")[2]
    return Asked(
        client, *map(int, PACKED_ASK.unpack(ask)), _ends(ended), epoch, quota, named, PACKED_TERMS.unpack(terms)
    )


def wanted(command: Command) -> tuple[int, int]:
    """Return how many slots an acquire asks for: for interactive calls, and for bulk calls."""
    said = asked(command)
    return said.interactive, said.bulk


def ends(command: Command) -> list[End]:
    """Return which ends of slots a settle reports, or an acquire."""
    if command.script is ACQUIRE:
        return asked(command).ended
    assert command.script is SETTLE
    return _ends(command.arguments[2])


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
) -> bytes:
    """Return the reply to an acquire: slots granted, microseconds to wait by class, and `name`, the epoch and the quota."""
    numbers = (interactive, bulk, now, taken, *(waits or (0, 0, 0, 0)), paused, held, pace)
    return f"{' '.join(str(int(number)) for number in numbers)} {name}".encode()


def _ends(packed: Any) -> list[End]:
    endings = {code: ending for ending, code in _ENDINGS.items()}
    return [(int(number), endings[code], int(age)) for number, code, age in PACKED_END.iter_unpack(packed)]
