"""The environment of a run: enough to interpret its figures, and nothing that identifies the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("pea2pea", "uvloop", "websockets", "picows", "aiofastnet", "pyzmq", "libp2p", "trio", "matplotlib")


def machine() -> dict[str, str]:
    """Return processor, cores, kernel, Python, load and commit."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_build()}",
        "load at the start": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "commit": _commit(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the installed libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _build() -> str:
    profiled = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "built with profile-guided optimization" if profiled else "built without profile-guided optimization"


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or "unknown"


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, timeout=10
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
