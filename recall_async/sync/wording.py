"""Texts and addresses in the one form in which they compare: as people read them, however they are written."""

from __future__ import annotations

import re
import unicodedata

_PROTOCOL = re.compile(r"(?:smtp|mailto):")


def folded(text: str) -> str:
    """Write `text` in the form in which it compares.

    Case, Unicode normalization, the kind and amount of white space, and invisible characters make no difference.
    """
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    # Folding can undo the normalization.
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return re.sub(r"\s+", " ", normal)


def address_of(email: str | None) -> str:
    """Write an email address in the form in which it compares; empty if there is none."""
    return _PROTOCOL.sub("", folded(email or "").strip(), count=1)


def domain_of(email: str | None) -> str | None:
    """Return the domain of an email address in lower case; `None` for what is not an address."""
    name, _, domain = address_of(email).rpartition("@")
    return domain if name and domain else None
