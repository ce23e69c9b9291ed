"""Check the line coverage and the branch coverage of a ``coverage json`` report separately. Standard library only.

Coverage's own ``fail_under`` combines both in one figure, in which covered lines hide branches that are not covered.
Usage: ``check_coverage.py REPORT.json LINES BRANCHES``, with the minimum coverage of each in per cent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def shares(totals: dict[str, int]) -> dict[str, float]:
    """Return the line coverage and the branch coverage, in per cent."""
    pairs = {
        "line": (totals["covered_lines"], totals["num_statements"]),
        "branch": (totals["covered_branches"], totals["num_branches"]),
    }
    return {what: 100.0 * covered / total if total else 100.0 for what, (covered, total) in pairs.items()}


def main(arguments: list[str]) -> int:
    """Print both figures; return 1 if either is too low."""
    report, *minimums = arguments
    found = shares(json.loads(Path(report).read_text(encoding="utf-8"))["totals"])
    missed = False
    for (what, share), minimum in zip(found.items(), map(float, minimums), strict=True):
        print(f"{what} coverage: {share:.2f} % (at least {minimum:g} %)" + (" - TOO LOW" if share < minimum else ""))
        missed |= share < minimum
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
