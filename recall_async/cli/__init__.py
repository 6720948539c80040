"""The command line, `recall-async`: https://click.palletsprojects.com is only imported once somebody runs it."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    try:
        from .interrupt import interrupting

        for number in interrupting():
            signal.signal(number, signal.default_int_handler)
        from .app import app

        app()
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(f"recall-async needs {error.name} for this: pip install 'recall-async[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    finally:
        # The command has ended: a late Ctrl-C does not change its exit status.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
