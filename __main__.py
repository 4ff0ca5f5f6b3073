"""`retr` and `python -m retr`: the command line; an interrupt while it loads is caught, too."""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # as in commands/console.py, which need not have loaded yet


def main() -> None:
    """Run the command line and exit."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
