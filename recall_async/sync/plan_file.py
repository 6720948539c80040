"""The stored form of a plan: JSON that people can read and edit, with each bot configuration written once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import msgspec
from msgspec import Struct

from .. import checks
from ..errors import ConfigurationError
from ..models import CalendarEventBot, MeetingURL, Time
from ..resources.fields import check_deduplication_key, encode_bot_config
from .decide import CHANGES, Decision, Kind, Reason

P = ParamSpec("P")
T = TypeVar("T")

VERSION = 2
"""The version of the format. It increases with each change that older programs would misread."""


class _StoredDecision(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    kind: Kind
    reason: Reason | None = None
    event_id: str
    calendar_id: str
    start_time: Time
    end_time: Time
    updated_at: Time
    title: str | None = None
    deduplication_key: str | None = None
    config: int | None = None
    """The index of the bot's configuration in the plan's `configs`."""
    meeting_url: str | MeetingURL | None = None
    bots: tuple[CalendarEventBot, ...] = ()
    detach: bool = False
    tag: bool = False


class _StoredPlan(Struct, kw_only=True, forbid_unknown_fields=True):
    version: int
    made_at: Time
    watermark: Time | None = None
    calendars: tuple[str, ...] | None = None
    disconnected: tuple[str, ...] = ()
    lead_time: float = 0.0
    seconds: float = 0.0
    configs: list[dict[str, Any]] = []
    decisions: list[_StoredDecision]


_SAME = tuple(name for name in _StoredDecision.__struct_fields__ if name != "config")
_encode = msgspec.json.Encoder().encode
PLAN_FIELDS = ("made_at", "watermark", "calendars", "disconnected", "lead_time", "seconds")
"""The fields of a plan other than its decisions."""


def encode_plan(decisions: Iterable[Decision], fields: dict[str, Any]) -> str:
    """Encode a plan as JSON: its decisions, and its `PLAN_FIELDS` by name."""
    places: dict[int, int] = {}
    """By `id()`: the decisions of a plan share equal configurations."""
    by_content: dict[bytes, int] = {}
    configs: list[dict[str, Any]] = []

    def place_of(config: dict[str, Any]) -> int | None:
        if not config:
            return None
        if id(config) not in places:
            place = by_content.setdefault(_encode(config), len(configs))
            if place == len(configs):
                configs.append(config)
            places[id(config)] = place
        return places[id(config)]

    stored = [
        _StoredDecision(config=place_of(decision.bot_config), **{name: getattr(decision, name) for name in _SAME})
        for decision in decisions
    ]
    return _encode(_StoredPlan(version=VERSION, configs=configs, decisions=stored, **fields)).decode()


def decode_plan(document: str | bytes) -> tuple[tuple[Decision, ...], dict[str, Any]]:
    """Decode a plan's decisions and its `PLAN_FIELDS`. Raises `ConfigurationError` that names the place of the
    fault."""
    try:
        stored = _read(document)
        decisions = _decisions(stored)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"this is not a plan that `recall-async plan --out` wrote: {error}") from error
    return decisions, {name: getattr(stored, name) for name in PLAN_FIELDS}


def _read(document: str | bytes) -> _StoredPlan:
    try:
        text = document.decode("utf-8-sig") if isinstance(document, bytes) else document.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"it must be UTF-8 text, got {error.object[error.start]:#04x} at byte {error.start}") from None
    if not text.strip():
        raise ValueError("it is empty")
    try:
        loaded = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno} is not valid JSON: {error.msg}") from None
    version = loaded.get("version") if isinstance(loaded, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise ValueError(f"version must be at most {VERSION}, got {version}: use a newer recall_async")
    if isinstance(loaded, dict) and version != VERSION:
        raise ValueError(f"version must be {VERSION}, got {version!r}: make the plan again")
    _check_texts("$", loaded)
    try:
        return msgspec.convert(loaded, _StoredPlan)
    except SystemError as error:  # of msgspec 0.21, for a whole number that no float can hold
        raise ValueError("a number is too large") from error


def _check_texts(where: str, value: Any) -> None:
    """Raise `ValueError` for a string that UTF-8 cannot encode: JSON may contain lone surrogates."""
    if isinstance(value, str):
        checks.text(where, value, empty=True)
    elif isinstance(value, dict):
        for name, each in value.items():
            checks.text(f"a name in {where}", name, empty=True)
            _check_texts(f"{where}.{name}", each)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            _check_texts(f"{where}[{place}]", each)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} appears twice in one object")
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _decisions(stored: _StoredPlan) -> tuple[Decision, ...]:
    for name in ("lead_time", "seconds"):
        _at("$", checks.seconds, name, getattr(stored, name), zero=True)
    _at("$", checks.moment, "made_at", stored.made_at)
    if stored.watermark is not None:
        _at("$", checks.moment, "watermark", stored.watermark)
    for place, config in enumerate(stored.configs):
        _at(f"$.configs[{place}]", encode_bot_config, config)
        if config.get("join_at") is not None:
            _at(f"$.configs[{place}]", checks.moment, "join_at", config["join_at"])
    decisions = []
    for place, each in enumerate(stored.decisions):
        where = f"$.decisions[{place}]"
        event_id = _at(where, checks.uuid, "event_id", each.event_id)
        for name in ("start_time", "end_time", "updated_at") if each.kind in CHANGES else ():
            _at(where, checks.moment, name, getattr(each, name))
        for number, bot in enumerate(each.bots):
            _at(f"{where}.bots[{number}]", checks.moment, "start_time", bot.start_time)
        if each.deduplication_key is not None:
            _at(where, check_deduplication_key, each.deduplication_key)
        if each.config is not None and not 0 <= each.config < len(stored.configs):
            raise ValueError(f"{where}: config must be a place in $.configs, got {each.config}")
        fields = {name: getattr(each, name) for name in _SAME} | {"event_id": event_id}
        config = {} if each.config is None else stored.configs[each.config]
        decisions.append(_at(where, Decision, bot_config=config, **fields))
    return tuple(decisions)


def _at(where: str, check: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Check a part of the document. Raises `ValueError` that names its place."""
    try:
        return check(*args, **options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
