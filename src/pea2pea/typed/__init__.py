"""Codecs of typed messages, in JSON and in MessagePack. Needs ``msgspec``; may import ``codec`` and ``errors``.

A framing codec says where a message ends; msgspec turns its bytes into a value of the type, and
checks them on the way: what a peer sends is a value of that type or the end of its connection.
"""

from __future__ import annotations

try:
    import msgspec  # noqa: F401
except ImportError as error:
    raise ImportError("pea2pea.typed needs msgspec: pip install 'pea2pea[msgspec]'", name="msgspec") from error

from .codecs import Json, Msgpack

__all__ = ["Json", "Msgpack"]
