"""Installs, starts and stops the peers of other implementations, on loopback.

They are installed below ``build/interop``, again whenever their requirement files change. If the installation or a
start fails, it raises: these tests fail then, and are not skipped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "interop"
BUILD = HERE.parent.parent / "build" / "interop"
#: Seconds for an installation, and for a peer to end.
INSTALL = 600
PATIENCE = 60

Event = dict[str, Any]


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command. If it fails, raise with the end of its output."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSTALL, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-4000:]}")


def is_current(place: Path, *sources: Path) -> bool:
    """Return whether ``place`` was installed from these files, unchanged."""
    stamp = place / ".installed"
    return stamp.is_file() and stamp.read_text() == _digest(*sources)


def _digest(*sources: Path) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def js_command() -> list[str]:
    """Install the js-libp2p peer, and return the command that starts it."""
    if not (node := shutil.which("node")) or not (npm := shutil.which("npm")):
        raise RuntimeError("these tests need node (version 20 or newer) and npm")
    place, wanted = BUILD / "js", [HERE / "js" / name for name in ("package.json", "package-lock.json", ".npmrc")]
    place.mkdir(parents=True, exist_ok=True)
    if not is_current(place, *wanted):
        for path in wanted:
            shutil.copy(path, place)
        run(npm, "ci", cwd=place)
        (place / ".installed").write_text(_digest(*wanted))
    # Node looks for packages in the directory of the program.
    shutil.copy(HERE / "js" / "peer.mjs", place)
    return [node, str(place / "peer.mjs")]


def py_command() -> list[str]:
    """Install the py-libp2p peer, and return the command that starts it."""
    place, wanted = BUILD / "py", HERE / "py" / "requirements.txt"
    python = place / "bin" / "python"
    if not is_current(place, wanted):
        _install_headers()
        run(sys.executable, "-m", "venv", "--clear", place)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        (place / ".installed").write_text(_digest(wanted))
    return [str(python), str(HERE / "py" / "peer.py")]


def _install_headers() -> None:
    """Install gcc and the headers of GMP, which one of its dependencies is built with."""
    if shutil.which("gcc") and any(Path("/usr/include").rglob("gmp.h")):
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise RuntimeError("these tests need gcc and the headers of GMP (libgmp-dev); install them, or run as root")
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "--no-install-recommends", "gcc", "libc6-dev", "libgmp-dev")


@contextmanager
def listener(command: list[str], *arguments: str) -> Iterator[Event]:
    """Start a peer that listens, and yield the event with which it reports that it is ready."""
    process = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{command[-1]} {' '.join(arguments)} did not start: exit code {process.wait(PATIENCE)}")
        yield json.loads(line)
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()


@asynccontextmanager
async def dialler(command: list[str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a peer that dials, and kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def events(process: asyncio.subprocess.Process) -> list[Event]:
    """Return all events of a peer once it has ended. Raises if its exit code is not 0."""
    assert process.stdout is not None
    reported = [json.loads(line) async for line in process.stdout]
    if await process.wait():
        raise RuntimeError(f"the peer failed: {reported}")
    return reported
