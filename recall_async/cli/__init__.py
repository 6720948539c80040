"""The command line, `recall-async`: https://click.palletsprojects.com is only imported once somebody runs it."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from .app import app

        app()
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(f"recall-async needs {error.name} for this: pip install 'recall-async[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
