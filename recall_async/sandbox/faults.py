"""Injected faults, by operation: error responses, resets, truncated bodies and hanging requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from recall_async.operations import OPERATIONS

from .replies import Reply, encode

FaultKind = Literal["status", "reset", "truncate", "hang"]


@dataclass(slots=True)
class Fault:
    """A fault that happens `times` times (`None`: always) with `probability`, at `operation` (`None`: at all of them).

    Kinds: `status` responds with `status`, `headers` and `body` (JSON, or text or bytes as they are; by default an error
    with `code`). `reset` resets the connection without a response. `truncate` announces the complete body, sends half of it
    and closes the connection. `hang` does not respond until the sandbox releases its hanging requests or stops.

    - `applied`: if true, the request takes effect first; the default is true only for `truncate`. A hanging request
      that is not applied takes effect when it is released.
    - `counted`: if true, the quota counts the request.
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
            raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {self.operation!r}")
        if self.kind not in ("status", "reset", "truncate", "hang"):
            raise ValueError(f"kind must be one of status, reset, truncate, hang, got {self.kind!r}")
        if self.applied is None:
            self.applied = self.kind == "truncate"
        if self.kind == "truncate" and not self.applied:
            raise ValueError("applied must be True for a fault of kind 'truncate', got False")

    def reply(self) -> Reply:
        """Make the response of a `status` fault."""
        if isinstance(self.body, bytes):
            return Reply(self.status, self.body, self.headers)
        if isinstance(self.body, str):
            return Reply(self.status, self.body.encode(), {"Content-Type": "text/html", **self.headers})
        message = "The sandbox injected this fault."
        default = {"code": self.code, "message": message, "errors": {}} if self.code else {"detail": message}
        return Reply(self.status, encode(default if self.body is None else self.body), self.headers)


class Faults:
    """The faults that are pending. Probabilities are drawn from `seed`."""

    def __init__(self, faults: list[Fault], seed: int) -> None:
        self._pending = faults
        self._rng = Random(seed)

    def add(self, fault: Fault) -> None:
        """Add a fault. Faults happen in the order in which they were added."""
        self._pending.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._pending.clear()

    def draw(self, operation: str, *, counted: bool) -> Fault | None:
        """Return the fault that happens to a request, if any."""
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
