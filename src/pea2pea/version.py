"""The version of the library, said once: the package's metadata is read from here. Imports nothing."""

from __future__ import annotations

__version__ = "0.2.0.dev0"
