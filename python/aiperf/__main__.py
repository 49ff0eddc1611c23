"""`python -m aiperf`."""

from __future__ import annotations

import sys

from aiperf.cli import main

if __name__ == "__main__":
    sys.exit(main())
