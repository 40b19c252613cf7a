"""Entry point of `python3 -m sandbox`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from sandbox.cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        # While modules were loaded: nothing was done yet.
        sys.exit(130)
