"""Tags in a bot's `metadata`: they find the bot after a crash, and show a plan that its configuration changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from .. import checks
from .fields import check_deduplication_key, encode_bot_config

EVENT = "recall_async_event"
"""The metadata name for the id of the calendar event for which the bot was last scheduled."""
KEY = "recall_async_key"
"""The metadata name for a digest of the bot's deduplication key. The key itself may be too long for metadata."""

CONFIG = "recall_async_config"
"""The metadata name for a digest of the `bot_config` without these tags. The API does not show the `bot_config`."""


def tagged(bot_config: Mapping[str, Any], *, event_id: str | UUID, deduplication_key: str) -> dict[str, Any]:
    """Return the configuration with tags in its `metadata`, which `recall.bots.find` uses to find the bot.

    Other metadata is kept. Events with the same key share one bot and so its tags, which name the event that was
    scheduled last. Raises `ConfigurationError`. docs/did-the-bot-join.md
    """
    checks.instance("bot_config", bot_config, Mapping, "a mapping such as {'bot_name': 'Notes'}")
    metadata = bot_config.get("metadata") or {}
    checks.instance("bot_config['metadata']", metadata, Mapping, "a mapping such as {'team': 'sales'}")
    tags = {**tags_of(event_id, deduplication_key), CONFIG: digest_of(bot_config)}
    return {**bot_config, "metadata": {**metadata, **tags}}


def digest_of(bot_config: Mapping[str, Any]) -> str:
    """Return a digest, equal for equal configurations, with or without tags. Raises `ConfigurationError`."""
    metadata = bot_config.get("metadata")
    if isinstance(metadata, Mapping):
        rest = {name: value for name, value in metadata.items() if name not in (EVENT, KEY, CONFIG)}
        bot_config = {**bot_config, "metadata": rest}
    if not bot_config.get("metadata"):
        bot_config = {name: value for name, value in bot_config.items() if name != "metadata"}
    document = msgspec.json.decode(encode_bot_config(bot_config))
    return _digest(msgspec.json.encode(document, order="sorted"))


def tags_of(event_id: str | UUID | None, deduplication_key: str | None) -> dict[str, str]:
    """Return the tags for an event and a key; `None` omits its tag. Raises `ConfigurationError`."""
    tags = {}
    if event_id is not None:
        tags[EVENT] = checks.uuid("event_id", event_id)
    if deduplication_key is not None:
        key = check_deduplication_key(deduplication_key)
        tags[KEY] = _digest(key.encode())
    return tags


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
