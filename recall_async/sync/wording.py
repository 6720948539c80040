"""Normalize strings and email addresses for comparison."""

from __future__ import annotations

import re
import unicodedata

_PROTOCOL = re.compile(r"(?:smtp|mailto):")
_NAMED = re.compile(r"<([^<>@]+@[^<>@]+)>")
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | set(map(chr, range(0xFE00, 0xFE10)))
"""Invisible characters that Unicode does not classify as format characters."""


def folded(text: str) -> str:
    """Normalize `text` for comparison.

    The result ignores case, Unicode normalization, the kind and amount of white space, and invisible characters.
    """
    if text.isascii():
        return re.sub(r"\s+", " ", text.casefold())
    visible = "".join(each for each in text if unicodedata.category(each) != "Cf" and each not in _INVISIBLE)
    # `casefold` can undo the normalization.
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return re.sub(r"\s+", " ", normal)


def address_of(email: str | None) -> str:
    """Normalize an email address, such as `Ada <ada@northwind.example>`, for comparison; empty if there is none."""
    text = folded(email or "")
    if named := _NAMED.search(text):
        text = named[1]
    return _PROTOCOL.sub("", text.strip(" '\""), count=1)


def domain_of(email: str | None) -> str | None:
    """Return the domain of an email address in lower case; `None` for an invalid address."""
    name, _, domain = address_of(email).rpartition("@")
    return domain if name and domain else None


def readable_domain(domain: str) -> str:
    """Return a domain without the dot at its end, and with Unicode letters in place of Punycode."""
    domain = domain.strip(". ")
    if "xn--" not in domain:
        return domain
    try:
        return folded(domain.encode("ascii").decode("idna"))
    except UnicodeError:
        return domain


def mailbox_of(email: str | None) -> str:
    """Normalize an email address so that all spellings of one mailbox are equal: `ada+calls@…` is `ada@…`."""
    address = address_of(email)
    name, at, domain = address.rpartition("@")
    if not (name and domain):
        return address
    return (name.partition("+")[0] or name) + at + readable_domain(domain)
