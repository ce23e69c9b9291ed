"""The TLS channel of libp2p without a node: decoding plaintext, and floods of records that carry none."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, cast

import pytest

from pea2pea import Decoder
from pea2pea.errors import IncompleteFrameError
from pea2pea.libp2p import Identity
from pea2pea.libp2p import tls as tls_module
from pea2pea.libp2p.channel import Channel
from pea2pea.libp2p.errors import ChannelError, MalformedFrameError
from pea2pea.libp2p.frames import DATA, PING, SYN, Frame, FrameDecoder, FrameEncoder
from support import Pipe
from support.libp2p import ANN, BOB
from support.tls import DATA as TLS_DATA
from support.tls import UPDATE_BOTH, Forger

FRAME = Frame(PING, SYN, 0, 7)


class Channels(NamedTuple):
    """Both ends of a connection."""

    dialler: Channel
    listener: Channel
    #: Makes records in the name of the dialler.
    forger: Forger
    #: What the listener has sent, and the dialler has not read.
    unread: asyncio.StreamReader


async def open_channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    log: list[str] = []
    make_context = tls_module.make_context

    def make_logging_context(*args: Any) -> Any:
        context = make_context(*args)
        context.set_keylog_callback(lambda _, line: log.append(line.decode()))
        return context

    monkeypatch.setattr(tls_module, "make_context", make_logging_context)
    readers = asyncio.StreamReader(), asyncio.StreamReader()

    def secure(identity: Identity, number: int) -> Coroutine[Any, Any, Channel]:
        writer = cast(asyncio.StreamWriter, Pipe(readers[1 - number]))
        return tls_module.secure_with_tls(identity, readers[number], writer, initiator=not number)

    dialler, listener = await asyncio.gather(secure(ANN, 0), secure(BOB, 1))
    return Channels(dialler, listener, Forger("\n".join(log), "CLIENT_TRAFFIC_SECRET_0"), readers[0])


# Decoding


def data(size: int) -> Frame:
    return Frame(DATA, 0, 1, size, bytes(size))


@pytest.mark.parametrize("seed", range(5))
async def test_frames_are_the_same_however_the_records_are_cut(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Frames of all sizes, the largest of which are received in memory of their own."""
    choose = random.Random(seed)
    channels = await open_channels(monkeypatch)
    encoder, decoder = channels.dialler.encoder(FrameEncoder()), channels.listener.decoder(FrameDecoder())
    sizes = (0, 1, 100, 16 * 1024, 65_507, 64 * 1024, 200_000, 256 * 1024)
    frames = [choose.choice((FRAME, data(choose.choice(sizes)))) for _ in range(40)]
    wire = b"".join(itertools.chain.from_iterable(encoder.encode([frame]) for frame in frames))
    received: list[Frame] = []
    while wire:
        size = choose.choice((1, 100, 20_000, 300_000, 1_000_000))
        found, used = decoder.decode(memoryview(wire[:size]))
        assert used == len(wire[:size])
        received += found
        wire = wire[size:]
    assert received == frames
    assert decoder.finish(memoryview(b"")) == ()


async def test_two_connections_share_memory_and_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for _ in range(2):
        channels = await open_channels(monkeypatch)
        ends.append((channels.dialler.encoder(FrameEncoder()), channels.listener.decoder(FrameDecoder())))
    frames = [Frame(DATA, 0, 1, 50_000, bytes((number,)) * 50_000) for number in range(2)]
    wires = [b"".join(encoder.encode([frame])) for (encoder, _), frame in zip(ends, frames, strict=True)]
    for start in range(0, 60_000, 20_000):
        for number, (_, decoder) in enumerate(ends):
            found, _ = decoder.decode(memoryview(wires[number][start : start + 20_000]))
            assert list(found) == ([frames[number]] if start == 40_000 else [])


@pytest.mark.parametrize("broken", ["record", "frame"])
async def test_messages_before_a_failure_are_returned_and_then_it_is_raised(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    channels = await open_channels(monkeypatch)
    encoder, decoder = channels.dialler.encoder(FrameEncoder()), channels.listener.decoder(FrameDecoder())
    good = b"".join(encoder.encode([FRAME, FRAME]))
    bad = b"\x17\x03\x03\x00\x20" + bytes(32) if broken == "record" else b"".join(encoder.encode([Frame(9, 0, 0, 0)]))
    messages, used = decoder.decode(memoryview(good + bad))
    assert (messages, used) == ([FRAME, FRAME], len(good + bad) - 1)
    for attempt in (decoder.decode, decoder.finish):
        with pytest.raises(ChannelError if broken == "record" else MalformedFrameError):
            attempt(memoryview(b"\0"))


async def test_the_end_of_the_connection_inside_a_frame_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = await open_channels(monkeypatch)
    decoder = channels.listener.decoder(FrameDecoder())
    assert decoder.decode(memoryview(channels.forger.record(TLS_DATA, b"\0\0"))) == ([], 24)
    with pytest.raises(IncompleteFrameError):
        decoder.finish(memoryview(b""))


class Strings(Decoder[str]):
    """Completes a message at the end of the stream."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[str], int]:
        return [], 0

    def finish(self, rest: memoryview) -> Sequence[str]:
        return [bytes(rest).decode()]


async def test_the_end_of_the_connection_may_complete_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = await open_channels(monkeypatch)
    decoder = channels.listener.decoder(Strings())
    for letter in (b"a", b"b"):
        decoder.decode(memoryview(channels.forger.record(TLS_DATA, letter)))
    assert decoder.finish(memoryview(b"")) == ["ab"]


# Records without data


async def test_a_peer_that_pads_its_records_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = await open_channels(monkeypatch)
    decoder = channels.listener.decoder(FrameDecoder())
    content = b"".join(FrameEncoder().encode([FRAME])) + bytes([TLS_DATA]) + bytes(1200)
    for _ in range(4 * tls_module.MAX_OVERHEAD // len(content)):
        assert decoder.decode(memoryview(channels.forger.record(0, content)))[0] == [FRAME]


@pytest.mark.parametrize("talks", [False, True], ids=["sends nothing else", "sends data, too"])
async def test_a_peer_that_keeps_requesting_new_keys_fails(monkeypatch: pytest.MonkeyPatch, talks: bool) -> None:
    """OpenSSL replies to each request; the replies wait for this side's next write, and are bounded."""
    channels = await open_channels(monkeypatch)
    decoder, encoder = channels.listener.decoder(FrameDecoder()), channels.listener.encoder(FrameEncoder())
    theirs = channels.dialler.decoder(FrameDecoder())
    channels.unread.feed_eof()
    theirs.decode(memoryview(await channels.unread.read()))  # session tickets, if any
    for _ in range(2):
        for _ in range(100):
            assert decoder.decode(memoryview(channels.forger.update(UPDATE_BOTH))) == ([], 27)
        assert theirs.decode(memoryview(b"".join(encoder.encode([FRAME]))))[0] == [FRAME]
    most = tls_module.MAX_REPLIES if talks else tls_module.MAX_OVERHEAD
    requested = 0
    with pytest.raises(ChannelError, match="requesting new keys" if talks else "without data"):
        while requested < 2 * most:
            requested += decoder.decode(memoryview(channels.forger.update(UPDATE_BOTH)))[1]
            if talks:
                decoder.decode(memoryview(channels.forger.record(TLS_DATA, b"".join(FrameEncoder().encode([FRAME])))))
    assert requested > most // 2
