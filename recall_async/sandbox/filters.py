"""The filters of lists: how to read each parameter of the query, and which objects pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from .fields import Request, moment
from .replies import field_error


class Filter(NamedTuple):
    """A query parameter: how to read its value, and which objects pass.

    If `many`, the parameter may be repeated, and the value is the set of all its values; otherwise the last one counts.
    """

    parse: Callable[[str, str], Any]
    test: Callable[[Any, Any], bool]
    many: bool = False


def accept(filters: Mapping[str, Filter], request: Request) -> Callable[[Any], bool]:
    """Return a predicate for all filters of the query. Empty and unknown parameters are ignored."""
    wanted = []
    for name, values in request.query.items():
        if name not in filters:
            continue
        parse, test, many = filters[name]
        if texts := [text for text in (values if many else values[-1:]) if text]:
            wanted.append((test, {parse(name, text) for text in texts} if many else parse(name, texts[0])))
    return lambda document: all(test(document, value) for test, value in wanted)


def time(name: str, text: str) -> datetime:
    """Read a time. Raises a refusal: 400."""
    try:
        return moment(text)
    except ValueError:
        raise field_error(name, "Enter a valid date/time.") from None


def uuid(name: str, text: str) -> str:
    """Read an id. Raises a refusal: 400."""
    try:
        return str(UUID(text))
    except ValueError:
        raise field_error(name, "Enter a valid UUID.") from None


def boolean(name: str, text: str) -> bool:
    """Read true or false. Raises a refusal: 400."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise field_error(name, "Enter true or false.")
    return text.lower() in ("true", "1")


def string(name: str, text: str) -> str:
    """Read any text."""
    return text


def choice(*choices: str) -> Callable[[str, str], str]:
    """Return a function that reads one of these choices. It raises a refusal: 400."""

    def parse(name: str, text: str) -> str:
        if text not in choices:
            raise field_error(name, f"Select a valid choice. {text} is not one of the available choices.")
        return text

    return parse
