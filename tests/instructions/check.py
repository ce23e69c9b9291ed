"""Counts the instructions of the hot paths and compares them with ``bench/instructions.json``.

``python tests/instructions/check.py``: fails where a path takes over 10 % more than the file says, or is
not in it. ``--update`` writes the file: that is how a path is allowed to cost more, and how one that
got faster is kept so. The counts belong to one build of Python: for another there is no baseline, and
then they are only told, and written to ``build/instructions.json``. Without valgrind nothing is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "bench" / "instructions.json"
LAST = ROOT / "build" / "instructions.json"
WORKLOAD = Path(__file__).with_name("workload.py")

#: How much more a path may take, in per cent: less than this comes from what lies beside it in memory.
ALLOWED = 10
#: Seconds for one run of the workload; it takes a tenth of that.
PATIENCE = 300

#: Instructions per unit, by path.
Counts = dict[str, int]


def main() -> int:
    """Count, compare, tell; 1 where something grew."""
    parser = argparse.ArgumentParser(description="Compare instruction counts with bench/instructions.json.")
    parser.add_argument("--update", action="store_true", help="write them there instead")
    update = parser.parse_args().update
    if shutil.which("valgrind") is None:
        print("instruction counts: valgrind is not on this machine, nothing was counted")
        return 0
    counts = count()
    key = build_key()
    write(LAST, key, counts)
    if update:
        write(BASELINE, key, counts)
        print(f"{len(counts)} counts written to {BASELINE.relative_to(ROOT)}")
        return 0
    baseline = read(BASELINE).get(key)
    if baseline is None:
        print(f"instruction counts: no baseline for this build of Python ({key}); these were counted:")
        print("\n".join(f"  {path}: {count}" for path, count in counts.items()))
        return 0
    grown = compare(baseline, counts)
    print("\n".join(grown) or f"instruction counts: {len(counts)} paths, none grew by more than {ALLOWED} %")
    return bool(grown)


def compare(baseline: Counts, counts: Counts) -> list[str]:
    """Say what is wrong with each path that grew, appeared or went."""
    told = []
    for path in sorted(baseline.keys() | counts.keys()):
        before, now = baseline.get(path), counts.get(path)
        if before is None or now is None:
            told.append(f"{path}: {before} in the file, {now} counted; `make update-instructions` brings it up to date")
        elif now * 100 > before * (100 + ALLOWED):
            told.append(f"{path}: {now} instructions, {before} in the file: {100 * now / before - 100:+.1f} %")
    return told


def count() -> Counts:
    """Count all paths, with the C module (where it is built) and without it."""
    counts = {f"{path}, pure": n for path, n in run_workload({"PEA2PEA_PURE": "1"}).items()}
    if find_spec("pea2pea._speedups") is not None:
        counts |= {f"{path}, C": n for path, n in run_workload({}).items()}
    return counts


def run_workload(env: dict[str, str]) -> Counts:
    """Run the workload under callgrind, and return what each path takes per unit."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        done = subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}", "--quiet",
                sys.executable, str(WORKLOAD),
            ],
            # Nothing else of the environment: what lies in memory, and with it the counts, depends on its size.
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath, **env},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        totals = [total(Path(f"{out}.{n}")) for n in range(1, len(list(Path(folder).iterdir())))]
    return per_unit(done.stdout.splitlines(), totals)


def total(dump: Path) -> int:
    """What was counted up to one mark."""
    found = re.search(r"^totals: (\d+)$", dump.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def per_unit(lines: list[str], totals: list[int]) -> Counts:
    """Of each path there are four marks: around the short run, and around the long one. What both share cancels out."""
    counts = {}
    for index, line in enumerate(lines):
        path, units = line.rsplit(" ", 1)
        short, long = totals[4 * index + 1], totals[4 * index + 3]
        counts[path] = round((long - short) / int(units))
    return counts


def build_key() -> str:
    """Names this build of Python: another compiler or other options count otherwise."""
    build = (sys.version, sysconfig.get_config_var("CONFIG_ARGS"), sysconfig.get_config_var("OPT"), platform.libc_ver())
    digest = hashlib.sha256(repr(build).encode()).hexdigest()[:12]
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {digest}"


def read(path: Path) -> dict[str, Counts]:
    """The counts of each build that are in the file."""
    if not path.exists():
        return {}
    content: dict[str, Counts] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, key: str, counts: Counts) -> None:
    """Put the counts of this build into the file, and leave the others in it alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**read(path), key: dict(sorted(counts.items()))}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
