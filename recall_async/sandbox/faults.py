"""What goes wrong on purpose: answers, resets, truncated bodies and silence, by operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from recall_async.operations import OPERATIONS

from .answers import Answer, encode

FaultKind = Literal["status", "reset", "truncate", "hang"]


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong, `times` times (`None`: for ever) with `probability`, at `operation` (`None`: at all).

    Kinds: `status` answers with `status`, `headers` and `body` (JSON, or text or bytes as they are; by default an error
    with `code`); `reset` resets the connection without an answer; `truncate` announces the whole answer, sends half of
    it and closes the connection; `hang` says nothing until the sandbox releases its hung requests or stops.

    `applied`: whether the request takes effect first (by default only for `truncate`). A hung request that is not
    applied takes effect when it is released. `counted`: whether the quota counts the request.
    """

    operation: str | None = None
    kind: FaultKind = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    code: str | None = None
    times: int | None = 1
    probability: float = 1.0
    applied: bool | None = None
    counted: bool = True

    def __post_init__(self) -> None:
        if self.operation is not None and self.operation not in OPERATIONS:
            raise ValueError(f"unknown operation {self.operation!r}; known: {', '.join(OPERATIONS)}")
        if self.kind not in ("status", "reset", "truncate", "hang"):
            raise ValueError(f"unknown kind of fault {self.kind!r}")
        if self.applied is None:
            self.applied = self.kind == "truncate"
        if self.kind == "truncate" and not self.applied:
            raise ValueError("only an answer can be truncated: a fault of that kind is always applied")

    def answer(self) -> Answer:
        """What a `status` fault sends."""
        if isinstance(self.body, bytes):
            return Answer(self.status, self.body, self.headers)
        if isinstance(self.body, str):
            return Answer(self.status, self.body.encode(), {"Content-Type": "text/html", **self.headers})
        message = "The sandbox was told to answer like this."
        default = {"code": self.code, "message": message, "errors": {}} if self.code else {"detail": message}
        return Answer(self.status, encode(default if self.body is None else self.body), self.headers)


class Faults:
    """The faults that are still to come; probabilities are drawn from `seed`."""

    def __init__(self, faults: list[Fault], seed: int) -> None:
        self._pending = faults
        self._rng = Random(seed)

    def add(self, fault: Fault) -> None:
        """One more; faults happen in the order in which they were added."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._pending.clear()

    def draw(self, operation: str, *, counted: bool) -> Fault | None:
        """The fault that the request at hand runs into, if any."""
        for fault in self._pending:
            if fault.operation not in (None, operation) or fault.counted is not counted:
                continue
            if fault.probability < 1 and self._rng.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._pending.remove(fault)
            return fault
        return None
