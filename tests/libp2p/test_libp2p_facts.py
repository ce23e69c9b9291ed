"""Facts about js-libp2p and py-libp2p that can be tested without them: pipelined handshakes, frames and messages.

The facts are numbered as in ``FACTS`` of ``interop/test_libp2p_interop.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pea2pea import MemoryNetwork, Peer
from pea2pea.libp2p import Connection, Host
from pea2pea.libp2p.channel import SecureStream, negotiate
from pea2pea.libp2p.frames import PING, SYN, Frame, FrameEncoder
from pea2pea.libp2p.host import YAMUX
from pea2pea.libp2p.multistream import HEADER, Proposal, encode_message
from pea2pea.libp2p.noise import NOISE, secure_with_noise
from support import Recorder
from support.libp2p import ANN, BOB, NoiseHost
from support.node import CALLER, OPEN


class HoldingWriter:
    """A writer that writes the first message, and holds the following ones."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.held: list[bytes] = []
        self._first = True

    def write(self, data: bytes) -> None:
        if self._first:
            self._first = False
            self._writer.write(data)
        else:
            self.held.append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class Pipelining(NoiseHost):
    """Sends its last Noise message, the proposal of the muxer and its first frames in one packet."""

    #: The plaintext of each Noise message; the first follows the proposal, in the same Noise message.
    messages: tuple[bytes, ...] = ()

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Connection:
        await negotiate(Proposal((NOISE,)), reader, writer)
        holding = HoldingWriter(writer)
        channel = await secure_with_noise(self.identity, reader, cast(asyncio.StreamWriter, holding), initiator=True)
        negotiation = encode_message(HEADER) + encode_message(YAMUX)
        first, *others = self.messages
        writer.write(b"".join([*holding.held, channel.seal(negotiation + first), *map(channel.seal, others)]))
        proposal = Proposal((YAMUX,))
        proposal.take()  # sent above
        secure = SecureStream(channel, reader, writer)
        await negotiate(proposal, secure, secure)
        return Connection(peer, channel, self._serve, early=bytes(secure.rest))


class PingRecorder(Host):
    """Records the pings that its connections receive."""

    security = (NOISE,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pings: Recorder[int] = Recorder()

    async def on_connect(self, peer: Peer) -> None:
        connection = cast(Connection, peer.session)
        receive = connection.yamux.receive

        def spy(frame: Frame) -> Any:
            if frame.kind == PING and frame.flags == SYN:
                self.pings.add(frame.length)
            return receive(frame)

        connection.yamux.receive = spy  # type: ignore[method-assign]
        await super().on_connect(peer)


def pings(*values: int) -> bytes:
    return b"".join(FrameEncoder().encode([Frame(PING, SYN, 0, value) for value in values]))


async def exchange(memory: MemoryNetwork, *messages: bytes) -> list[int]:
    """Return the three pings that a host receives in these messages, which follow the negotiation at once."""

    class Dialler(Pipelining):
        pass

    Dialler.messages = messages
    async with PingRecorder(**OPEN, identity=ANN, network=memory) as called, Dialler(CALLER, memory, BOB) as caller:
        peer = await caller.dial(called.multiaddrs[0])
        assert await caller.ping(peer) >= 0
        return await called.pings.count(3)


async def test_bytes_after_the_last_handshake_message_are_the_first_of_the_connection(memory: MemoryNetwork) -> None:
    """Fact 1."""
    assert await exchange(memory, b"", pings(1, 2, 3)) == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 11, 12, 13, 24, 30, 35])
async def test_frame_boundaries_are_independent_of_noise_messages(memory: MemoryNetwork, cut: int) -> None:
    """Facts 1 and 2. The message that ends the negotiation may hold a frame too, or a part of one."""
    data = pings(1, 2, 3)
    assert await exchange(memory, data[:cut], data[cut:]) == [1, 2, 3]
    assert await exchange(memory, data[:cut], *(data[n : n + 1] for n in range(cut, len(data)))) == [1, 2, 3]
