"""Count the instructions of the hot paths, and compare them with the baseline in ``bench/instructions.json``.

``python tests/instructions/check.py`` fails if a path takes over 10 % more instructions than its baseline, or has none.
``--update`` writes the baseline: use it when a path may cost more, and when a path got faster, so that it stays so. A
baseline holds for one build of Python. For a build without one, the counts are printed and written to
``build/instructions.json``. Without valgrind, nothing is counted.
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

#: Per cent that a path may exceed its baseline by. Smaller differences come from the layout of memory.
ALLOWED = 10
#: Timeout in seconds for one run of the workload, which takes about a tenth of it.
PATIENCE = 300

#: Instructions per unit, by path.
Counts = dict[str, int]


def main() -> int:
    """Count, compare and report; return 1 if a path grew."""
    parser = argparse.ArgumentParser(description="Compare instruction counts with their baseline.")
    parser.add_argument("--update", action="store_true", help="write the baseline instead")
    update = parser.parse_args().update
    if shutil.which("valgrind") is None:
        print("instruction counts: valgrind is not installed, nothing was counted")
        return 0
    counts = count()
    key = build_key()
    write(LAST, key, counts)
    if update:
        write(BASELINE, key, counts)
        print(f"instruction counts: wrote {len(counts)} to {BASELINE.relative_to(ROOT)}")
        return 0
    baseline = read(BASELINE).get(key)
    if baseline is None:
        print(f"instruction counts: no baseline for this build of Python ({key}); the counts are:")
        print("\n".join(f"  {path}: {count}" for path, count in counts.items()))
        return 0
    grown = compare(baseline, counts)
    print("\n".join(grown) or f"instruction counts: {len(counts)} paths, none grew by more than {ALLOWED} %")
    return bool(grown)


def compare(baseline: Counts, counts: Counts) -> list[str]:
    """Return a line for each path that grew, or that only the baseline or only the workload has."""
    problems = []
    for path in sorted(baseline.keys() | counts.keys()):
        before, now = baseline.get(path), counts.get(path)
        if before is None or now is None:
            problems.append(f"{path}: {before} in the baseline, {now} counted; run `make update-instructions`")
        elif now * 100 > before * (100 + ALLOWED):
            problems.append(f"{path}: {now} instructions, {before} in the baseline: {100 * now / before - 100:+.1f} %")
    return problems


def count() -> Counts:
    """Count all paths without the C module, and with it if it is built."""
    counts = {f"{path}, pure": n for path, n in run_workload({"PEA2PEA_PURE": "1"}).items()}
    if find_spec("pea2pea._speedups") is not None:
        counts |= {f"{path}, C": n for path, n in run_workload({}).items()}
    return counts


def run_workload(env: dict[str, str]) -> Counts:
    """Run the workload under callgrind; return the instructions of each path per unit."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        done = subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}", "--quiet",
                sys.executable, str(WORKLOAD),
            ],
            # No other variables: the size of the environment changes the layout of memory, and so the counts.
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath, **env},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        totals = [total(Path(f"{out}.{n}")) for n in range(1, len(list(Path(folder).iterdir())))]
    return per_unit(done.stdout.splitlines(), totals)


def total(dump: Path) -> int:
    """Return the instructions counted in one dump."""
    found = re.search(r"^totals: (\d+)$", dump.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def per_unit(lines: list[str], totals: list[int]) -> Counts:
    """Return the instructions per unit, from four marks per path. The overhead of its two runs cancels."""
    counts = {}
    for index, line in enumerate(lines):
        path, units = line.rsplit(" ", 1)
        short, long = totals[4 * index + 1], totals[4 * index + 3]
        counts[path] = round((long - short) / int(units))
    return counts


def build_key() -> str:
    """Return a name for this build of Python: other compilers and options give other counts."""
    build = (sys.version, sysconfig.get_config_var("CONFIG_ARGS"), sysconfig.get_config_var("OPT"), platform.libc_ver())
    digest = hashlib.sha256(repr(build).encode()).hexdigest()[:12]
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {digest}"


def read(path: Path) -> dict[str, Counts]:
    """Return the counts in the file, by build."""
    if not path.exists():
        return {}
    content: dict[str, Counts] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, key: str, counts: Counts) -> None:
    """Write the counts of this build to the file; keep those of other builds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**read(path), key: dict(sorted(counts.items()))}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
