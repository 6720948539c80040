"""Records of many workspaces, each kept until it no longer matters, in little memory.

A program may use 100,000 workspaces one after the other, three operations of each, within one window. So a record should
be one `bytes` object, and nothing is stored for each record but a dictionary entry and a place in a queue. Expired records
are removed a few at a time, whenever a record is added: no call waits for a sweep through all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

Key = tuple[str, str]
"""A workspace and an operation."""

CHECKED = 2
"""The number of records of each operation that are checked whenever a record is added."""


class _Records(Generic[T]):
    """The records of one operation, by workspace."""

    __slots__ = ("by_workspace", "order")

    def __init__(self) -> None:
        self.by_workspace: dict[str, T | None] = {}
        """`None` for a removed record whose workspace is still in `order`."""
        self.order: deque[str] = deque()
        """The workspaces in the order in which their records are checked."""


class ExpiringRecords(Generic[T]):
    """One record per workspace and operation, until `over(record, now)`.

    Expired records are removed only while there are more than `spare` records. The caller must hold a lock if several
    threads use it.
    """

    def __init__(self, over: Callable[[T, float], bool], spare: int = 0) -> None:
        self._over = over
        self._spare = spare
        self._operations: dict[str, _Records[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def get(self, key: Key) -> T | None:
        """Return a record."""
        workspace, operation = key
        records = self._operations.get(operation)
        return None if records is None else records.by_workspace.get(workspace)

    def pop(self, key: Key) -> T | None:
        """Remove and return a record."""
        record = self.get(key)
        if record is not None:
            workspace, operation = key
            self._operations[operation].by_workspace[workspace] = None
            self._size -= 1
        return record

    def put(self, key: Key, record: T, now: float) -> None:
        """Store a record. If it is new, remove a few expired ones."""
        workspace, operation = key
        records = self._operations.setdefault(operation, _Records())
        is_new = records.by_workspace.get(workspace) is None
        if workspace not in records.by_workspace:
            records.order.append(workspace)
        records.by_workspace[workspace] = record
        if is_new:
            self._size += 1
            for others in self._operations.values():
                self._check(others, now)

    def _check(self, records: _Records[T], now: float) -> None:
        by_workspace, order = records.by_workspace, records.order
        for _ in range(min(CHECKED, len(order))):
            workspace = order.popleft()
            record = by_workspace[workspace]
            if record is None:
                del by_workspace[workspace]
            elif self._size > self._spare and self._over(record, now):
                del by_workspace[workspace]
                self._size -= 1
            else:
                order.append(workspace)

    def __iter__(self) -> Iterator[tuple[Key, T]]:
        """Yield all records with their keys."""
        for operation, records in self._operations.items():
            for workspace, record in records.by_workspace.items():
                if record is not None:
                    yield (workspace, operation), record
