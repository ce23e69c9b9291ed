"""Codecs of typed messages, in JSON and in MessagePack. Needs ``msgspec``; may import ``codec`` and ``errors``.

A framing finds the end of each message. msgspec turns the bytes into a value of the type, and validates them: a message
that is not of the type ends the connection of the peer that sent it.
"""

from __future__ import annotations

try:
    import msgspec  # noqa: F401
except ImportError as error:
    raise ImportError("pea2pea.typed needs msgspec: pip install 'pea2pea[msgspec]'", name="msgspec") from error

from .codecs import Json, Msgpack

__all__ = ["Json", "Msgpack"]
