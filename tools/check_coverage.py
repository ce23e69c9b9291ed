"""Hold the lines and the branches of a `coverage json` report each to a bound of its own. Standard library only.

Coverage's own ``fail_under`` mixes both into one figure, in which many covered lines hide branches that are not.
Usage: ``check_coverage.py REPORT.json LINES BRANCHES``, the bounds in per cent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def shares(totals: dict[str, int]) -> dict[str, float]:
    """Return what share, in per cent, of the lines and of the branches was run."""
    pairs = {
        "line": (totals["covered_lines"], totals["num_statements"]),
        "branch": (totals["covered_branches"], totals["num_branches"]),
    }
    return {what: 100.0 * covered / total if total else 100.0 for what, (covered, total) in pairs.items()}


def main(arguments: list[str]) -> int:
    """Print both shares; return 1 where either is below its bound."""
    report, *bounds = arguments
    found = shares(json.loads(Path(report).read_text(encoding="utf-8"))["totals"])
    missed = False
    for (what, share), bound in zip(found.items(), map(float, bounds), strict=True):
        print(f"{what} coverage: {share:.2f} % (at least {bound:g} %)" + (" - TOO LOW" if share < bound else ""))
        missed |= share < bound
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
