"""``python -m bench``: run the measurements, and write the figures, the page and the plots."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .bars import judge
from .contenders import CONTENDERS
from .measurements import MEASUREMENTS
from .measurements.base import Scale
from .page import write_page
from .plots import draw
from .results import Results
from .run import run

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the command line."""
    options = _parse()
    quick = options.quick
    chosen = Path("build/bench") if quick or options.only or options.contenders else None
    figures = (chosen or ROOT / "bench") / "results.json"
    page = (chosen or ROOT / "docs") / "benchmarks.md"
    if not options.page:
        measurements = [m for m in MEASUREMENTS if not options.only or m.name in options.only]
        contenders = [c for c in CONTENDERS if not options.contenders or any(p in c for p in options.contenders)]
        repetitions = options.repetitions or (1 if quick else 5)
        scale = Scale(time=0.4 if quick else 1.0, quick=quick)
        run(measurements, contenders, repetitions, scale).save(figures)
    results = Results.load(figures)
    write_page(results, page, draw(results, page.parent / "benchmarks"))
    for verdict in judge(results):
        word = {True: "met", False: "NOT MET", None: "-"}[verdict.met]
        print(f"{word:8} {verdict.what}: {verdict.measured} ({verdict.bar})")
    print(f"wrote {page} from {figures}", file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition; writes to build/bench")
    parser.add_argument("--repetitions", type=int, help="default: 5, or 1 with --quick")
    names = [m.name for m in MEASUREMENTS]
    parser.add_argument("--only", nargs="+", choices=names, help="run these measurements; writes to build/bench")
    parser.add_argument("--contenders", nargs="+", metavar="PART", help="run those named so; writes to build/bench")
    parser.add_argument("--page", action="store_true", help="only write the page and the plots again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
