"""Normalize texts and email addresses for comparison."""

from __future__ import annotations

import re
import unicodedata

_PROTOCOL = re.compile(r"(?:smtp|mailto):")


def folded(text: str) -> str:
    """Normalize `text` for comparison.

    The result ignores case, Unicode normalization, the kind and amount of white space, and invisible characters.
    """
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    # `casefold` can undo the normalization.
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return re.sub(r"\s+", " ", normal)


def address_of(email: str | None) -> str:
    """Normalize an email address for comparison; empty if there is none."""
    return _PROTOCOL.sub("", folded(email or "").strip(), count=1)


def domain_of(email: str | None) -> str | None:
    """Return the domain of an email address in lower case; `None` for an invalid address."""
    name, _, domain = address_of(email).rpartition("@")
    return domain if name and domain else None
