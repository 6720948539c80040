"""Tags in a bot's `metadata` by which it is found again when nobody knows its id: after a crash, for instance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from .. import checks
from .fields import check_deduplication_key

EVENT = "recall_async_event"
"""The metadata that holds the id of the calendar event for which a bot was scheduled last."""
KEY = "recall_async_key"
"""The metadata that holds a digest of a bot's deduplication key, which may be longer than metadata can be."""


def tagged(bot_config: Mapping[str, Any], *, event_id: str | UUID, deduplication_key: str) -> dict[str, Any]:
    """Return the configuration with tags in its `metadata`, by which `recall.bots.find` finds the bot again.

    Other metadata stay. Events that share a bot by their key share its tags, too: the event is the one that was scheduled
    last. Raises `ConfigurationError`. docs/did-the-bot-join.md
    """
    checks.instance("bot_config", bot_config, Mapping, "a mapping such as {'bot_name': 'Notes'}")
    metadata = bot_config.get("metadata") or {}
    checks.instance("bot_config['metadata']", metadata, Mapping, "a mapping such as {'team': 'sales'}")
    return {**bot_config, "metadata": {**metadata, **tags_of(event_id, deduplication_key)}}


def tags_of(event_id: str | UUID | None, deduplication_key: str | None) -> dict[str, str]:
    """The tags of a bot, of which those that are not asked for are left out. Raises `ConfigurationError`."""
    tags = {}
    if event_id is not None:
        tags[EVENT] = checks.uuid("event_id", event_id)
    if deduplication_key is not None:
        key = check_deduplication_key(deduplication_key)
        tags[KEY] = hashlib.sha256(key.encode()).hexdigest()[:32]
    return tags
