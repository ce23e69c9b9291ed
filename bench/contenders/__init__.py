"""The contenders, each in a module of its own, which only their own processes import."""

from __future__ import annotations

from typing import Final

from .base import Entry

_OURS = "the library itself; read_queue_depth 16,384, write_queue_depth 256 KiB of messages (16 to 8,192)"

#: In the order in which they take turns.
CONTENDERS: Final[dict[str, Entry]] = {
    "pea2pea uvloop C": Entry("ours", ("uvloop", "pea2pea._speedups"), ("uvloop",), {"PEA2PEA_PURE": ""}, _OURS),
    "pea2pea asyncio C": Entry("ours", ("pea2pea._speedups",), ("asyncio",), {"PEA2PEA_PURE": ""}, _OURS),
    "pea2pea uvloop pure": Entry("ours", ("uvloop",), ("uvloop",), {"PEA2PEA_PURE": "1"}, _OURS),
    "pea2pea asyncio pure": Entry("ours", (), ("asyncio",), {"PEA2PEA_PURE": "1"}, _OURS),
    "raw sockets": Entry(
        "raw",
        note="blocking sockets, TCP_NODELAY, writes of 256 KiB or one larger frame, received into one buffer and not"
        " decoded: the limit, without work per message",
    ),
    "asyncio streams": Entry(
        "streams", (), ("asyncio",), note="a 4-byte length, readexactly; one write per message, one drain per batch"
    ),
    "uvloop streams": Entry("streams", ("uvloop",), ("uvloop",), note="the same on uvloop"),
    "websockets": Entry(
        "ws", ("websockets", "uvloop"), ("uvloop",),
        note="on uvloop; compression, keepalive and size limit off, and bytes sent, as its FAQ recommends",
    ),
    "picows": Entry(
        "pico", ("picows", "uvloop"), ("uvloop",),
        note="on uvloop; its core API with callbacks and aiofastnet, which its documentation calls the fastest;"
        " payloads as bytes",
    ),
    "pyzmq": Entry(
        "zeromq", ("zmq",),
        note="blocking PUSH and PULL (DEALER for the round trip), zero-copy from 64 KiB, default high-water marks;"
        " its I/O thread runs beside the interpreter",
        lacks={
            "accept": "it connects and reconnects in the background, so there is no moment to measure",
            "plain": "its connections are hidden from the user, and plain sockets do not speak ZMTP",
        },
    ),
    "libp2p": Entry(
        "p2p", ("libp2p", "trio"),
        note="TCP, plaintext, yamux, one stream; no encryption, as for the others",
        lacks={
            "plain": "plain sockets do not speak its handshake",
            "chain": "setting up a connection takes a quarter of a second",
        },
    ),
}
