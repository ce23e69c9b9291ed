"""``--noise`` and ``--tls`` on the command line, and in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pea2pea.tls.certificates import load_or_make_identity
from support.cli_process import process
from support.share import make_file, same


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 5.5)


@pytest.mark.parametrize("kind", ["noise", "tls"])
def test_share_and_get_in_processes_of_their_own(file: Path, tmp_path: Path, kind: str) -> None:
    options: dict[str, list[str]] = {"noise": ["--noise"], "tls": ["--tls", "--cert", str(tmp_path / "mesh.pem")]}
    if kind == "tls":
        load_or_make_identity(tmp_path / "mesh.pem")
    with process("share", file, *options[kind]) as one:
        assert one.stdout is not None
        link = one.stdout.readline().strip()
        assert link.startswith(f"pea2pea+{kind}://")
        # The link is enough for Noise; for TLS this side has to have a certificate.
        command = [sys.executable, "-m", "pea2pea", "get", link, "-o", str(tmp_path / "copy"), *options[kind][1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert same(file, tmp_path / "copy")


@pytest.mark.parametrize("kind", ["--noise", "--tls"])
def test_the_demonstration_is_secured(file: Path, kind: str) -> None:
    with process("demo", file, "--nodes", 3, "--topology", "ring", kind) as one:
        out, errors = one.communicate(timeout=40)
    assert one.returncode == 0, errors
    assert out.splitlines()[-1].startswith("OK: 3 nodes (ring)")
