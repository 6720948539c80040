"""Callbacks that do not keep their object alive, so that an unused lane is freed at once, without the garbage collector."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakMethod

P = ParamSpec("P")
R = TypeVar("R")


def weakly(method: Callable[P, R]) -> Callable[P, R]:
    """Return a function that calls a bound method. The caller must keep the method's object alive."""
    reference = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        live = reference()
        assert live is not None
        return live(*args, **kwargs)

    return call
