"""The commands to Redis about a quota, and the replies: scripts, keys and arguments as plain values.

In Redis, durations and times are whole microseconds. Times are always of the server's clock: a client sends how long
ago something happened, never when.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from struct import Struct
from typing import Any, NamedTuple
from urllib.parse import quote

from ...errors import ConfigurationError
from ...operations import QUOTA_PERIOD
from .. import pace, promise
from ..contract import Ending
from ..quota import Priority, Quota
from ..window import CLOCK_TOLERANCE

GRANT_MAX_AGE = 5.0
"""Seconds after which a granted slot is too old to use. A lease is the sum of this, the longest request and `per`."""
STATE_TTL = 24 * 3600.0
"""Seconds for which Redis stores an unused quota, and clients its epoch."""
OVERTAKEN = -1
"""The reply to an acquire that arrived after its own repetition."""


def microseconds(seconds: float) -> int:
    """Convert seconds to microseconds, rounded up."""
    return math.ceil(seconds * 1e6)


_ENDINGS = {Ending.ANSWERED: 1, Ending.REJECTED: 2, Ending.UNUSED: 3}
"""How a slot ended, as the scripts are told."""

_CONSTANTS = {
    "DOUBT": pace.DOUBT,
    "FLOOR": pace.FLOOR,
    "FRESH": pace.FRESH,
    "LEAST": pace.LEAST,
    "GROWTH": pace.GROWTH,
    "CAUTION": microseconds(pace.CAUTION),
    "RECOVERY": pace.RECOVERY,
    "OPENING": promise.OPENING,
    "STEPS": promise.STEPS,
    "FOLLOWED": promise.FOLLOWED,
    "TOLERANCE": CLOCK_TOLERANCE,
    "WINDOW": microseconds(QUOTA_PERIOD * (1 + CLOCK_TOLERANCE)),
    "STATE_TTL": microseconds(STATE_TTL),
    **{ending.name: code for ending, code in _ENDINGS.items()},
}
"""The constants of the scripts, most of which the local lane uses, too: the value replaces `<NAME>` in a script."""


def _read(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _parts(text: str) -> dict[str, str]:
    """Return the parts of state.lua by name."""
    _, *parts = re.split(r"^--- (\w+)\n", text, flags=re.MULTILINE)
    return {name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}


_PARTS = _parts(_read("state"))


class Script:
    """A Lua script of `recall_async/limits/redis/lua`. Parts of state.lua and constants replace each `<NAME>`."""

    def __init__(self, name: str) -> None:
        self.text: str = _read(name)
        for part in (_PARTS, _CONSTANTS):
            for token, value in part.items():
                self.text = self.text.replace(f"<{token}>", str(value))
        self.sha: str = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


ACQUIRE = Script("acquire")
SETTLE = Script("settle")
PAUSE = Script("pause")
USAGE = Script("usage")
MARK = Script("mark")
RESUME = Script("resume")


class Command(NamedTuple):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | int | bytes, ...]


class Asking(Command):
    """A command for the node of a cluster to which its keys are being moved."""


class Keys:
    """The Redis keys of one quota. The braces keep them on one node of a cluster."""

    def __init__(self, prefix: str, workspace: str, operation: str) -> None:
        self.stem: str = f"{prefix}:{{{quote(workspace, safe='')}/{operation}}}"

    @property
    def slots(self) -> str:
        return f"{self.stem}:slots"

    @property
    def state(self) -> str:
        return f"{self.stem}:state"

    @property
    def fences(self) -> str:
        return f"{self.stem}:fences"

    @property
    def shares(self) -> str:
        return f"{self.stem}:shares"

    @property
    def promise(self) -> str:
        return f"{self.stem}:promise"


@dataclass(frozen=True, slots=True)
class Terms:
    """A quota as the scripts see it; durations in microseconds."""

    limit: int
    reserve: int
    burst: int
    """How many requests interactive calls may send at once; `limit` if only the slots limit them."""
    burst_bulk: int
    promised: float
    """The least slots per second that bulk calls leave to interactive calls, whatever their use."""
    promised_at_most: float
    """The most slots per second that bulk calls leave to interactive calls."""
    per: int
    lease: int
    hold_new: bool = False

    @property
    def text(self) -> str:
        """The terms as text, which processes compare with their own."""
        return f"{self.limit}/{self.per}"

    @classmethod
    def of(cls, quota: Quota, set_aside: int, longest_request: float, *, hold_new: bool = False) -> Terms:
        """Return the terms of a quota without `set_aside` requests, which are reserved for outages of Redis."""
        limit = quota.limit - set_aside
        if limit < 1:
            raise ConfigurationError(
                f"the local reserves of all processes take {set_aside} of {quota.limit} requests, which leaves nothing "
                "to share: give the store a smaller local_reserve, or fewer processes"
            )
        burst = None if quota.burst is None else min(quota.burst, limit)
        shared = Quota(limit, quota.per, burst, min(quota.reserved, limit - 1))
        per = quota.per * (1 + CLOCK_TOLERANCE)
        return cls(
            limit=limit,
            reserve=shared.reserved,
            burst=shared.at_once(Priority.INTERACTIVE),
            burst_bulk=shared.at_once(Priority.BULK),
            promised=shared.promised,
            promised_at_most=shared.promised_at_most,
            per=microseconds(per),
            lease=microseconds(longest_request + GRANT_MAX_AGE + per),
            hold_new=hold_new,
        )


class Ask(NamedTuple):
    """An ask for slots with consecutive numbers from `first`: for interactive calls, then for bulk calls."""

    first: int
    interactive: int
    bulk: int
    at: float
    """When it was first sent, in seconds of the loop's clock."""
    wanted: int = 0
    """The number of new interactive calls since the last ask."""


# Numbers are packed: an argument of its own, whose text is converted, takes Redis several times as long as unpacking one.
PACKED_TERMS = Struct("<dddddddd?")
PACKED_ASK = Struct("<dddddd?")
PACKED_END = Struct("<dBd")


class Ended(NamedTuple):
    """How a slot ended, and when by the loop's clock."""

    number: int
    ending: Ending
    at: float


def acquire(
    keys: Keys,
    client: str,
    seq: int,
    ask: Ask,
    *,
    again: bool,
    run: str,
    epoch: str,
    age: float,
    terms: Terms,
    ended: Sequence[Ended] = (),
    now: float = 0.0,
) -> Command:
    """Ask the server with the id `run` for slots, and report how others ended, at `now` by the loop's clock.

    `age` is the seconds since Redis last named `epoch`.
    """
    return Command(
        ACQUIRE,
        (keys.slots, keys.state, keys.fences, keys.shares, keys.promise),
        (
            client,
            PACKED_TERMS.pack(
                *(terms.limit, terms.reserve, terms.burst, terms.burst_bulk),
                *(terms.promised, terms.promised_at_most, terms.per, terms.lease, terms.hold_new),
            ),
            PACKED_ASK.pack(seq, ask.first, ask.interactive, ask.bulk, ask.wanted, microseconds(age), again),
            _endings(ended, now),
            f"{epoch} {terms.text}",
            *(() if epoch.endswith(f"/{run}") else (run,)),
        ),
    )


def settle(keys: Keys, client: str, ended: Sequence[Ended], now: float, terms: Terms) -> Command:
    """Report how slots ended."""
    return Command(SETTLE, (keys.slots, keys.state, keys.promise), (client, terms.per, _endings(ended, now)))


def _endings(ended: Sequence[Ended], now: float) -> bytes:
    return b"".join([PACKED_END.pack(number, _ENDINGS[ending], int((now - at) * 1e6)) for number, ending, at in ended])


class Pause(NamedTuple):
    """A pause of `seconds` from `at`, a time of the loop's clock, because a slot granted at `granted_at` got a 429."""

    seconds: float
    at: float
    granted_at: int
    jitter: float
    """A random number from 0 to 1."""


def pause(keys: Keys, said: Pause, now: float, terms: Terms) -> Command:
    """Pause all processes."""
    arguments = (
        *(microseconds(said.seconds), int((now - said.at) * 1e6), said.granted_at),
        *(terms.limit, terms.per, f"{said.jitter:.6f}"),
    )
    return Command(PAUSE, (keys.slots, keys.state), arguments)


class Grant(NamedTuple):
    """The reply to an acquire."""

    interactive: int
    bulk: int
    now: int
    taken: int
    soon_interactive: int
    """Microseconds until an interactive call that got no slot can probably be admitted."""
    certain_interactive: int
    """Microseconds before which none of them can be admitted, whatever happens."""
    soon_bulk: int
    certain_bulk: int
    paused: int
    held: int
    pace: float | None
    """Requests per second, where it is reduced."""
    epoch: str
    quota: str
    """The `Terms.text` of the process that asked before."""


def decode(reply: str | bytes | int, epoch: str, terms: Terms) -> Grant | None:
    """Decode the reply to an acquire with this epoch and these terms; `None` if the message was void."""
    if reply == OVERTAKEN:
        return None
    words = _text(reply).split(" ", 11)
    if len(words) == 4:
        return Grant._make((*map(int, words), 0, 0, 0, 0, 0, 0, None, epoch, terms.text))
    *numbers, rate = map(int, words[:-1])
    epoch, _, quota = words[-1].rpartition(" ")
    return Grant._make((*numbers, None if rate < 0 else rate / 1000, epoch, quota))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Usage(NamedTuple):
    """The use of one quota."""

    now: int
    taken: int
    paused: int
    held: int
    pace: float | None
    """Requests per second, where it is reduced."""
    limit: int
    per: float
    """`limit` and `per` are 0 for a quota without recent use."""


def usage(keys: Keys) -> Command:
    """Read the use of a quota."""
    return Command(USAGE, (keys.slots, keys.state), ())


def decode_usage(reply: list[Any]) -> Usage:
    """Decode the reply to `usage`."""
    now, taken, paused, held, pace, quota = reply
    limit, _, per = (_text(quota) or "0/0").partition("/")
    window = int(per) / 1e6 / (1 + CLOCK_TOLERANCE)
    return Usage(now, taken, paused, held, None if pace < 0 else pace / 1000, int(limit), round(window, 6))


def mark(key: str) -> Command:
    """Read which life of the server's data this is: a new one begins when the data is flushed."""
    return Command(MARK, (key,), (secrets.token_hex(8),))


def resume(keys: Keys) -> Command:
    """End a pause, and the slower pace after it."""
    return Command(RESUME, (keys.slots, keys.state), ())
