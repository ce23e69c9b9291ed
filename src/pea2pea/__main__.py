"""``python -m pea2pea``: the command."""

from __future__ import annotations

import sys

from pea2pea.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
