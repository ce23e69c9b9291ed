"""What ``mypy --strict`` says to users: nothing about a right node, and where exactly a wrong one is wrong.

The snippets are in ``typing/``; a comment ``# refused: CODE`` marks each line that mypy has to refuse.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from pea2pea import ConfigError

ROOT = Path(__file__).parents[2]
SNIPPETS = sorted((ROOT / "tests" / "typing").glob("*.py"))
BAD = [path.name for path in SNIPPETS if path.name.startswith("bad_")]

ERROR = re.compile(r"(?P<name>\w+\.py):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")
REFUSED = re.compile(r"# refused: (?P<code>[\w-]+)$")

Marks = dict[str, list[tuple[int, str]]]


@cache
def found() -> Marks:
    """Every error of one run of mypy over all snippets."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary", *map(str, SNIPPETS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
    errors: Marks = defaultdict(list)
    for match in filter(None, map(ERROR.search, done.stdout.splitlines())):
        errors[match["name"]].append((int(match["line"]), match["code"]))
    return errors


def marked(path: Path) -> list[tuple[int, str]]:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [(n, match["code"]) for n, line in lines if (match := REFUSED.search(line))]


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.name)
@pytest.mark.timeout(180)  # a cold cache has mypy read the standard library
def test_mypy_refuses_what_is_wrong_and_nothing_else(path: Path) -> None:
    assert found()[path.name] == marked(path)


@pytest.mark.parametrize("name", BAD)
def test_every_wrong_snippet_marks_something(name: str) -> None:
    assert marked(ROOT / "tests" / "typing" / name)


def test_a_misspelt_hook_fails_when_run_too() -> None:
    spec = importlib.util.spec_from_file_location("bad_hook_name", ROOT / "tests" / "typing" / "bad_hook_name.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ConfigError, match="did you mean 'process_message'"):
        spec.loader.exec_module(module)
