"""Who is measured. Each is a module of its own, imported by the parties that play it."""

from __future__ import annotations

from typing import Final

from .base import Entry

_OURS = "the library itself; read_queue_depth 16,384, write_queue_depth 256 KiB of messages (16 to 8,192)"

#: In the order of each round.
CONTENDERS: Final[dict[str, Entry]] = {
    "pea2pea uvloop C": Entry("ours", ("uvloop", "pea2pea._speedups"), ("uvloop",), {"PEA2PEA_PURE": ""}, _OURS),
    "pea2pea asyncio C": Entry("ours", ("pea2pea._speedups",), ("asyncio",), {"PEA2PEA_PURE": ""}, _OURS),
    "pea2pea uvloop pure": Entry("ours", ("uvloop",), ("uvloop",), {"PEA2PEA_PURE": "1"}, _OURS),
    "pea2pea asyncio pure": Entry("ours", (), ("asyncio",), {"PEA2PEA_PURE": "1"}, _OURS),
    "raw sockets": Entry(
        "raw",
        note="blocking sockets, TCP_NODELAY, writes of 256 KiB or one larger frame, received into one buffer and not"
        " taken apart: the limit, which does no work per message",
    ),
    "asyncio streams": Entry(
        "streams", (), ("asyncio",), note="a 4-byte length, readexactly; write per message, drain once a batch"
    ),
    "uvloop streams": Entry("streams", ("uvloop",), ("uvloop",), note="the same on uvloop"),
    "websockets": Entry(
        "ws", ("websockets", "uvloop"), ("uvloop",),
        note="on uvloop; compression, keepalive and size limit off, and bytes sent, as its FAQ has it for benchmarks",
    ),
    "picows": Entry(
        "pico", ("picows", "uvloop"), ("uvloop",),
        note="on uvloop; its core API with callbacks and aiofastnet, which it says is the fastest; payloads as bytes",
    ),
    "pyzmq": Entry(
        "zeromq", ("zmq",),
        note="blocking PUSH and PULL (DEALER for the round trip), zero-copy from 64 KiB, default high-water marks;"
        " its I/O thread runs beside the interpreter",
        lacks={
            "accept": "it connects in the background, by itself and again: there is no moment to measure",
            "plain": "its connections are not the user's to count, and plain sockets do not speak ZMTP",
        },
    ),
    "libp2p": Entry(
        "p2p", ("libp2p", "trio"),
        note="TCP, plaintext, yamux, one stream: no encryption, as the others have none",
        lacks={
            "plain": "plain sockets do not speak its handshake",
            "chain": "each connection takes it a quarter of a second to set up",
        },
    ),
}
