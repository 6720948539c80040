"""Divide actions into chunks, in the form stored in Redis.

Actions on one event, or with one deduplication key, stay in one chunk: two workers must not perform them at the same
time. A chunk also names these events and keys, so that it waits for earlier jobs with the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from ..bulk.actions import Action, start_of
from ..bulk.order import check_action
from ..bulk.records import conflict_keys, read_action, write_action

_Entry: TypeAlias = tuple[int, float, bytes]
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Group(NamedTuple):
    """Actions that stay in one chunk, in order."""

    numbers: list[int]
    """The actions' positions in the input."""
    texts: list[bytes]
    tokens: list[bytes]
    """A short digest of each event and each deduplication key."""


def read_actions(text: bytes | str) -> list[Action]:
    """Decode the actions of a chunk."""
    # Not `splitlines`: in a string it also splits at characters that JSON does not escape, such as U+2028.
    lines = text.split(b"\n") if isinstance(text, bytes) else text.split("\n")
    return [read_action(_decode(line)) for line in lines if line]


def groups_of(actions: Iterable[Action]) -> list[Group]:
    """Return the actions in groups, soonest event first. Raises `ConfigurationError` for an invalid action."""
    leaders: dict[object, list[_Entry]] = {}
    groups: dict[int, list[_Entry]] = {}
    members: dict[int, list[object]] = {}
    for number, action in enumerate(actions):
        entry = number, start_of(check_action(action)), write_action(action)
        keys = conflict_keys(action)
        known = {id(leaders[key]): leaders[key] for key in keys if key in leaders}
        group = max(known.values(), key=len, default=[])
        for other in known.values():
            if other is not group:  # this action connects two groups
                group.extend(other)
                del groups[id(other)]
                for key in members.pop(id(other)):
                    leaders[key] = group
                    members[id(group)].append(key)
        group.append(entry)
        groups[id(group)] = group
        for key in keys:
            if leaders.get(key) is not group:
                leaders[key] = group
                members.setdefault(id(group), []).append(key)
    ordered = sorted(groups.values(), key=lambda group: min(start for _, start, _ in group))
    return [
        Group(
            [number for number, _, _ in sorted(group)],
            [text for _, _, text in sorted(group)],
            [_token(key) for key in members[id(group)]],
        )
        for group in ordered
    ]


def _token(key: object) -> bytes:
    return hashlib.blake2b(repr(key).encode(errors="replace"), digest_size=8).hexdigest().encode()


def digest_of(groups: Iterable[Group]) -> str:
    """Return a digest of a job's actions."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        for text in group.texts:
            digest.update(text + b"\n")
    return digest.hexdigest()


def chunks_of(groups: Iterable[Group], size: int) -> Iterator[Group]:
    """Join groups to chunks of `size` actions or slightly more."""
    chunk = Group([], [], [])
    for group in groups:
        chunk.numbers.extend(group.numbers)
        chunk.texts.extend(group.texts)
        chunk.tokens.extend(group.tokens)
        if len(chunk.numbers) >= size:
            yield chunk
            chunk = Group([], [], [])
    if chunk.numbers:
        yield chunk
