"""Pass the events of a session on: to the functions that it was given, and to the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import fields

from .callbacks import Callback
from .checks import invalid
from .events import Event, Listener, logger
from .secrecy import one_line


class Observers:
    """Pass events on: to the functions that a session was given, and to the log."""

    __slots__ = ("_functions", "listening")

    def __init__(self, functions: Listener | Iterable[Listener] | None = None) -> None:
        given: tuple[Listener, ...] = ()
        if callable(functions):
            given = (functions,)
        elif functions is not None:
            given = tuple(functions) if isinstance(functions, Iterable) else (functions,)
        self._functions = tuple(Callback("on_event", function, "an event") for function in given)
        self.listening: bool = bool(given)
        """True if functions listen, besides the log."""

    def wants(self, level: int) -> bool:
        """Return true if a function listens, or the log takes events of this level."""
        return self.listening or logger.isEnabledFor(level)

    def tell(self, event: Event, *, log: bool = True) -> None:
        """Log the event and call the functions with it."""
        level = event.log_level
        if log and logger.isEnabledFor(level):
            told = {
                f"recall_{field.name}": getattr(event, field.name) for field in fields(event) if field.name != "headers"
            }
            logger.log(level, "%s", one_line(str(event)), extra={"recall_event": type(event).__name__, **told})
        for function in self._functions:
            function(event, about=type(event).__name__)


def log_as_the_environment_says() -> None:
    """Print the log to standard error if `RECALL_LOG` is `debug`, `info` or `warning`.

    Raises `ConfigurationError` for other values.
    """
    wanted = os.environ.get("RECALL_LOG")
    if not wanted:
        return
    level = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}.get(wanted.lower())
    if level is None:
        raise invalid("RECALL_LOG", "debug, info or warning", wanted)
    if not any(isinstance(handler, _EnvironmentHandler) for handler in logger.handlers):
        handler = _EnvironmentHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(level)


class _EnvironmentHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that `RECALL_LOG` installs, at most once."""
