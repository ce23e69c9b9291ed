"""The one thing that ``pyproject.toml`` cannot say: how the optional C module is built.

Without a compiler the installation goes on, and the Python beside the C does the work.
"""

from __future__ import annotations

import sysconfig

from setuptools import Extension, setup

# One build serves Python 3.11 and all later ones, where there is a stable ABI: not yet on builds without a GIL.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

speedups = Extension(
    "pea2pea._speedups",
    sources=["src/pea2pea/_speedups.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else [],
    py_limited_api=STABLE_ABI,
    optional=True,
)

setup(
    ext_modules=[speedups],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
