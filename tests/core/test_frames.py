"""Frames: messages of a codec inside a handshake, and the bytes behind them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pea2pea import (
    Addr,
    Delimited,
    Frames,
    FrameTooLargeError,
    Handshake,
    HandshakeError,
    LengthDelimited,
    Peer,
    Settings,
    UsageError,
    VarintDelimited,
)
from pea2pea.network import Network
from support import StreamEndpoint
from support.link import both_ways, facing, frame, join, messages
from support.node import OPEN, Witness

CODECS = [LengthDelimited(max_frame=1000), VarintDelimited(max_frame=1000), Delimited(max_frame=1000)]


class Framed(Witness, Handshake):
    """Sends its greeting, receives ``count`` messages, and returns them."""

    def __init__(self, net: Network, codec: Any, count: int, config: Settings = OPEN) -> None:
        super().__init__(config, net)
        self.hello = codec
        self.count = count

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        frames = Frames(reader, writer, self.hello)
        await frames.send(b"hello")
        return [await frames.receive() for _ in range(self.count)]


@both_ways
@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
async def test_messages_are_exchanged_however_they_are_cut_and_what_is_behind_them_is_decoded(
    net: Network, way: str, codec: Any, chunk: int
) -> None:
    greetings = [b"one", b"", b"three" * 100]
    stream = b"".join(codec.encode(greetings)) + frame(b"first message") + frame(b"second")

    def say(transport: asyncio.Transport) -> None:
        for i in range(0, len(stream), chunk):
            transport.write(stream[i : i + chunk])

    node, end = Framed(net, codec, 3), StreamEndpoint(keep_open=True, on_made=say)
    async with facing(way, net, node, end) as (peer, _):
        assert peer.session == greetings
        await node.got.count(2)
        assert messages(node) == [b"first message", b"second"]
        assert await end.until_data(6) == b"".join(codec.encode([b"hello"]))


@both_ways
async def test_two_nodes_shake_hands_in_frames(net: Network, way: str) -> None:
    one, other = Framed(net, CODECS[0], 1), Framed(net, CODECS[0], 1)
    async with one, other:
        there = await one.connect(other.address)
        (here,) = await other.met.count(1)
        assert (there.session, here.session) == ([b"hello"], [b"hello"])


@pytest.mark.parametrize(
    ("data", "cause"),
    [(b"\0\0\xff\xff", FrameTooLargeError), (b"\0\0\0\x05half", HandshakeError), (b"", HandshakeError)],
)
async def test_bad_data_and_an_early_end_refuse_the_peer(net: Network, data: bytes, cause: type[Exception]) -> None:
    def say(transport: asyncio.Transport) -> None:
        transport.write(data)
        transport.write_eof()

    async with Framed(net, CODECS[0], 1) as node:
        end = StreamEndpoint(keep_open=True, on_made=say)
        with pytest.raises(HandshakeError) as error:
            await join("dialler", net, node, end)
        assert isinstance(error.value.__cause__, cause)
        await end.aclose()
        assert not node.peers


async def test_the_reader_cannot_be_used_past_what_frames_has_read(net: Network) -> None:
    class Mixed(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            greeting = await Frames(reader, writer, CODECS[0]).receive()
            for work in (reader.read(), reader.readexactly(1), reader.readuntil(), reader.readline()):
                with pytest.raises(UsageError, match="Frames has read beyond"):
                    await work
            return greeting

    node = Mixed(OPEN, net)
    end = StreamEndpoint(keep_open=True, on_made=lambda transport: transport.write(frame(b"hello") + frame(b"rest")))
    async with facing("listener", net, node, end) as (peer, _):
        assert peer.session == b"hello"
        await node.got.count(1)
        assert messages(node) == [b"rest"]


async def test_frames_needs_the_reader_of_a_handshake() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(UsageError, match="handshake hook"):
        Frames(asyncio.StreamReader(loop=loop), None, CODECS[0])  # type: ignore[arg-type]


async def test_start_tls_in_a_handshake_is_refused_and_not_silently_undone(net: Network) -> None:
    refusals: list[UsageError] = []

    class Secure(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with pytest.raises(UsageError, match=r"pea2pea\.tls\.start_tls") as error:
                await writer.start_tls(None)  # type: ignore[arg-type]
            refusals.append(error.value)

    async with Secure(OPEN, net) as node:
        end = StreamEndpoint(keep_open=True)
        await net.dial(Addr.of(node.address), end)
        await node.met.count(1)
        assert refusals
        await end.aclose()
