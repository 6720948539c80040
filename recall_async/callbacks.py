"""Call functions of the program that are told of something. Their failures are logged, and end nothing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from inspect import iscoroutine

from . import checks

logger: logging.Logger = logging.getLogger("recall_async")


class FailureLog:
    """Logs failures that may repeat many times: the first of each type with its traceback, then how many there were."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: Counter[tuple[str, type]] = Counter()

    def add(self, what: str, error: BaseException | None = None, *, about: str = "") -> None:
        """Log that `what` happened. The number of repetitions is logged at 10, 100, 1,000 and so on."""
        kind = what, type(error)
        self._numbers[kind] += 1
        number = self._numbers[kind]
        if number == 1:
            logger.error("%s%s", what, about and f" for {about}", exc_info=error)
        elif number == 10 ** (len(str(number)) - 1):
            logger.error("%s, %d times so far%s", what, number, f": {checks.shown(error)}" if error else "")


class Callback:
    """A function that is told of something, and whose exceptions are logged and not raised.

    Raises `ConfigurationError` for a coroutine function, which nobody would await.
    """

    __slots__ = ("_failures", "_function", "_name")

    def __init__(self, name: str, function: Callable[..., object], takes: str) -> None:
        self._function = checks.callback(name, function, takes)
        self._name = name
        self._failures = FailureLog()

    def __call__(self, *told: object, about: str) -> None:
        """Call the function. `about` says in the log what it was told of."""
        try:
            returned = self._function(*told)
        except BaseException as error:
            # Its CancelledError is not a cancellation of the task that tells it.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._failures.add(f"{self._name} failed", error, about=about)
        else:
            if iscoroutine(returned):
                returned.close()
                self._failures.add(f"{self._name} returned a coroutine, which nobody awaits: pass a plain function")
