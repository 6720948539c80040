"""Actions in chunks, as they lie in Redis.

Actions on one event, or with one deduplication key, stay together: two workers that had them at once would get in each
other's way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from ..bulk.actions import Action, RemoveBot, ScheduleBot, event_of, start_of
from ..bulk.order import check_action
from ..errors import ConfigurationError
from ..resources.fields import encode_bot_config

_Kept: TypeAlias = tuple[str, str | None, dict[str, Any] | None, str | None, str | None]
_Entry: TypeAlias = tuple[int, float, bytes]
_decode = msgspec.json.Decoder(list[_Kept]).decode
_check = msgspec.json.Decoder(_Kept).decode


def pack(action: Action) -> bytes:
    """An action as it is kept. Raises `ConfigurationError` for one that cannot be written."""
    config = key = None
    try:
        if isinstance(check_action(action), ScheduleBot):
            assert isinstance(action, ScheduleBot)
            key = str(action.deduplication_key)
            config = msgspec.Raw(encode_bot_config({} if action.bot_config is None else action.bot_config))
        text = msgspec.json.encode((str(action.event_id), key, config, action.start_time, action.end_time))
        _check(text)  # what cannot be read again would end every worker that tries
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigurationError(f"the action on event {action.event_id!s:.80} cannot be written: {error}") from None
    return text


def unpack(text: bytes | str) -> list[Action]:
    """The actions of a chunk."""
    return [
        RemoveBot(event, start, end) if config is None else ScheduleBot(event, key or "", config, start, end)
        for event, key, config, start, end in _decode(text)
    ]


def soonest_first(actions: Iterable[Action]) -> list[list[bytes]]:
    """The actions in groups that stay together, those of the soonest event first; in a group they keep their order."""
    leaders: dict[object, list[_Entry]] = {}
    groups: dict[int, list[_Entry]] = {}
    members: dict[int, list[object]] = {}
    for number, action in enumerate(actions):
        entry = number, start_of(check_action(action)), pack(action)
        tokens: list[object] = [event_of(action)]
        if isinstance(action, ScheduleBot):
            tokens.append(("key", str(action.deduplication_key)))
        known = {id(leaders[token]): leaders[token] for token in tokens if token in leaders}
        group = max(known.values(), key=len, default=[])
        for other in known.values():
            if other is not group:  # this action joins what were two groups
                group.extend(other)
                del groups[id(other)]
                for token in members.pop(id(other)):
                    leaders[token] = group
                    members[id(group)].append(token)
        group.append(entry)
        groups[id(group)] = group
        for token in tokens:
            if leaders.get(token) is not group:
                leaders[token] = group
                members.setdefault(id(group), []).append(token)
    ordered = sorted(groups.values(), key=lambda group: min(start for _, start, _ in group))
    return [[text for _, _, text in sorted(group)] for group in ordered]


def digest_of(groups: Iterable[list[bytes]]) -> str:
    """What tells one job's actions from another's."""
    digest = hashlib.blake2b(digest_size=16)
    for group in groups:
        for text in group:
            digest.update(text + b"\n")
    return digest.hexdigest()


def chunks_of(groups: Iterable[list[bytes]], size: int) -> Iterable[tuple[int, int, bytes]]:
    """Chunks of `size` actions, or a little more: number of the first action, how many there are, and the actions."""
    first, gathered = 0, list[bytes]()
    for group in groups:
        gathered += group
        if len(gathered) >= size:
            yield first, len(gathered), b"[" + b",".join(gathered) + b"]"
            first, gathered = first + len(gathered), []
    if gathered:
        yield first, len(gathered), b"[" + b",".join(gathered) + b"]"
