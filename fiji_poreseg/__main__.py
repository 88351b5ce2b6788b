"""How the program begins: Ctrl-C is one line from the first moment on, also while it is loaded."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Load the program and run it."""
    try:
        from fiji_poreseg import cli

        cli.run()
    except KeyboardInterrupt:
        sys.stderr.write("fiji-poreseg: interrupted\n")
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    run()
