"""What the targets share: the documents of the tests as seeds, and the rules for every message."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from recall_async.errors import RecallError

DATA = Path(__file__).parent.parent / "data"
KEY = "5ecre7-kEy/0123456789abcdef"


def documents() -> list[bytes]:
    """The API's documented answers."""
    found = [path.read_bytes() for path in sorted(DATA.glob("*.json")) if path.stem not in ("responses", "webhooks")]
    return [json.dumps(json.loads(document)).encode() for document in found]


def webhooks() -> list[bytes]:
    """The documented deliveries."""
    kinds: dict[str, Any] = json.loads((DATA / "webhooks.json").read_bytes())
    return [json.dumps(kind["example"]).encode() for kind in kinds.values()]


def check_message(error: RecallError) -> None:
    """A message is one line that can be printed, and survives the way to another process."""
    text = str(error)
    assert text.isprintable(), ascii(text)
    assert 0 < len(text) <= 500, len(text)
    assert str(pickle.loads(pickle.dumps(error))) == text
