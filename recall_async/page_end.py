"""What becomes of the objects of a decoded page when the page is freed.

A decoded `Raw` is a view of the bytes that were decoded: one object that is kept would keep the bytes of its whole page in
memory. To copy every view when the page is decoded would cost a fifth of decoding, and most programs look at an object and
drop it. So the views are copied at the page's end, and only those of objects that outlive it, as their reference counts
tell.
"""

from __future__ import annotations

from operator import attrgetter
from sys import getrefcount
from types import SimpleNamespace
from typing import Any

from msgspec import UNSET
from msgspec.structs import force_setattr


def _references(page: Any, count: Any = getrefcount) -> tuple[int, list[int]]:
    """Return how many references there are to the page's list and to each object in it, this call's included."""
    results = getattr(page, "results", [])  # missing if the page is invalid
    return count(results), list(map(count, results))


# How many of them are the call's own depends on the version of Python.
_TO_LIST, (_TO_OBJECT,) = _references(SimpleNamespace(results=[object()]))


def copy_views(
    page: Any,
    # Names of a module may be gone when the interpreter ends.
    references: Any = _references,
    to_list: int = _TO_LIST,
    to_object: int = _TO_OBJECT,
    field_of: Any = attrgetter,
    set_field: Any = force_setattr,
    unset: Any = UNSET,
) -> None:
    """Copy the fields named in `_VIEWS` of those objects of a page that somebody else refers to, too."""
    listed, each = references(page)
    if listed > to_list:
        held = page.results
    else:
        held = [page.results[place] for place, count in enumerate(each) if count > to_object]
    for name in getattr(type(held[0]), "_VIEWS", ()) if held else ():
        for item, view in zip(held, map(field_of(name), held), strict=True):
            if view is not unset:
                set_field(item, name, view.copy())
