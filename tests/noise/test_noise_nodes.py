"""Nodes that speak Noise: whom they let in, what they do about a wire that lies, and what they leave behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from pea2pea import Addr, ConfigError, DisconnectReason, HandshakeError, LengthDelimited, Origin, Peer, Raw
from pea2pea.errors import UsageError
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.noise import (
    DecryptError,
    HandshakeCutError,
    HandshakeState,
    MalformedMessageError,
    NoiseConfig,
    NoiseError,
    NoiseReader,
    NoiseSession,
    PeerNotAllowedError,
    shake_hands,
)
from pea2pea.noise.codec import LENGTH
from pea2pea.noise.state import CipherState
from support import Pipe, StreamEndpoint, accept, listening
from support.noise import ANN, BOB, EVE, Secret, config_for, sessions, states

PATTERNS = ["NN", "NK", "NX", "XX", "IK", "XK", "KK", "NNpsk0", "XXpsk3", "IKpsk2", "X1X1"]
XX = "Noise_XX_25519_ChaChaPoly_SHA256"


def address(node: Secret) -> Addr:
    assert node.listening_addr is not None
    return node.listening_addr


# What works


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_two_nodes_talk(net: Network, pattern: str) -> None:
    async with (
        Secret(config_for(pattern, initiator=False), net, listen=True) as bob,
        Secret(config_for(pattern, initiator=True), net) as ann,
    ):
        peer = await ann.connect(address(bob))
        batch = [b"hello", b"", bytes(300_000), b"bye"]
        for message in batch:
            await ann.send(peer, message)
        assert await bob.messages.count(4) == batch
        (other,) = bob.peers
        for message in batch:
            await bob.send(other, message)
        assert await ann.messages.count(4) == batch
        assert peer.session.handshake_hash == other.session.handshake_hash
        wanted = peer.session.protocol.pattern
        assert peer.session.remote_static == (BOB.public if wanted.has_static(initiator=False) else None)
        assert other.session.remote_static == (ANN.public if wanted.has_static(initiator=True) else None)


async def test_nothing_is_sent_in_the_clear(memory: MemoryNetwork) -> None:
    async with (
        Secret(config_for("XX", initiator=False), memory, listen=True) as bob,
        Secret(config_for("XX", initiator=True), memory) as ann,
        Wire(memory, address(bob)) as wire,
    ):
        peer = await wire.connect(ann)
        await ann.send(peer, b"the quick brown fox")
        await bob.messages.count(1)
        assert b"quick" not in wire.passed[0]
        # Of the keys that the handshake carries, only those that are made for it.
        assert ANN.public not in wire.passed[0] and BOB.public not in wire.passed[1]


async def test_both_sides_rekey_while_they_talk(net: Network) -> None:
    configs = [NoiseConfig(protocol=XX, static_key=key, rekey_after=3) for key in (ANN, BOB)]
    async with Secret(configs[1], net, listen=True) as bob, Secret(configs[0], net) as ann:
        peer = await ann.connect(address(bob))
        for number in range(20):
            await ann.send(peer, b"%d" % number)
            await ann.flush(peer)
        assert await bob.messages.count(20) == [b"%d" % number for number in range(20)]


class Payloads(Secret):
    """Says something in each handshake message, and writes down what the other side said."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: list[tuple[int, bytes, bytes | None]] = []

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        return b"message %d" % state.messages_done

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        self.said.append((state.messages_done, payload, state.remote_static))
        if payload == b"message 2" and self.messages.items:
            raise PermissionError("not again")


async def test_messages_of_the_handshake_carry_payloads(memory: MemoryNetwork) -> None:
    async with (
        Payloads(config_for("XX", initiator=False), memory, listen=True) as bob,
        Payloads(config_for("XX", initiator=True), memory) as ann,
    ):
        await ann.connect(address(bob))
        await bob.handshakes.count(1)
        assert ann.said == [(2, b"message 1", BOB.public)]
        assert bob.said == [(1, b"message 0", None), (3, b"message 2", ANN.public)]


async def test_a_payload_can_be_refused(memory: MemoryNetwork) -> None:
    async with (
        Payloads(config_for("XX", initiator=False), memory, listen=True) as bob,
        Payloads(config_for("XX", initiator=True), memory) as ann,
    ):
        bob.messages.add(b"one was here before")
        await ann.connect(address(bob))
        await ann.ended.count(1)
        (refused,) = await bob.handshakes.count(1)
        assert isinstance(refused, PermissionError)


@pytest.mark.parametrize("inbound", [True, False])
async def test_bytes_behind_the_last_handshake_message_are_the_first_of_the_transport(
    net: Network, inbound: bool
) -> None:
    """In the same packet: whoever drops them works until the peer does not wait."""
    async with Secret(config_for("NN", initiator=not inbound), net, listen=inbound) as node:
        them = states("NN")[0 if inbound else 1]
        endpoint = StreamEndpoint()
        if inbound:
            await net.dial(address(node), endpoint)
            endpoint.transport.write(framed(them.write_message()))
            them.read_message((await endpoint.until_data(50))[2:])
            endpoint.transport.write(sealed(them, b"first", b"second"))
        else:
            async with listening(net) as listener:
                connecting = asyncio.create_task(node.connect(listener.addr))
                await (await accept(listener)).open(endpoint)
                them.read_message((await endpoint.until_data(34))[2:])
                endpoint.transport.write(framed(them.write_message()) + sealed(them, b"first", b"second"))
                await connecting
        assert await node.messages.count(2) == [b"first", b"second"]
        await endpoint.aclose()


async def test_the_end_of_xx_and_what_follows_it_in_one_packet(net: Network) -> None:
    async with Secret(config_for("XX", initiator=False), net, listen=True) as node:
        them, endpoint = states("XX")[0], StreamEndpoint()
        await net.dial(address(node), endpoint)
        endpoint.transport.write(framed(them.write_message()))
        them.read_message((await endpoint.until_data(98))[2:])
        endpoint.transport.write(framed(them.write_message()) + sealed(them, b"first", b"second"))
        assert await node.messages.count(2) == [b"first", b"second"]
        await endpoint.aclose()


class Greeter(Secret):
    """Goes on with the handshake over the session: five bytes of greeting from either side."""

    refusal: NoiseError | None = None

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> NoiseSession:
        session = await super().handshake(peer, reader, writer)
        writer.write(session.seal(b"hello"))
        try:
            with NoiseReader(session, reader) as plain:
                assert await plain.readexactly(2) + await plain.readexactly(3) == b"hello"
        except NoiseError as error:
            self.refusal = error
            raise
        return session


FIRST, SECOND = (b"".join(map(bytes, LengthDelimited().encode([text]))) for text in (b"first", b"second"))


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
@pytest.mark.parametrize(
    "messages",
    [
        [b"hello" + FIRST + SECOND],
        [b"hel", b"lo" + FIRST + SECOND],
        [b"hello" + FIRST, SECOND],
        [b"hello", FIRST + SECOND],
        [b"hello" + FIRST[:2], FIRST[2:] + SECOND],
        [b"", b"hello" + FIRST + SECOND[:-1], b"", SECOND[-1:]],
        [b"hello" + FIRST, b"", SECOND],
    ],
)
async def test_what_is_left_of_a_message_of_a_longer_handshake_does_not_wait_for_more(
    net: Network, messages: list[bytes], ends: bool
) -> None:
    """All in one packet with the end of the handshake, and then no byte more."""
    async with Greeter(config_for("NN", initiator=False), net, listen=True) as node:
        them, endpoint = states("NN")[0], StreamEndpoint()
        await net.dial(address(node), endpoint)
        endpoint.transport.write(framed(them.write_message()))
        them.read_message((await endpoint.until_data(50))[2:50])
        sending, receiving = them.split()
        endpoint.transport.write(b"".join(framed(sending.encrypt(b"", part)) for part in messages))
        if ends:
            endpoint.transport.write_eof()
        assert await node.messages.count(2) == [b"first", b"second"]
        assert receiving.decrypt(b"", (await endpoint.until_data(50 + 23))[52:]) == b"hello"
        if not ends:
            endpoint.transport.write(sealed(them, b"third", after=len(messages)))
            assert (await node.messages.count(3))[2] == b"third"
        await endpoint.aclose()


async def test_a_longer_handshake_rekeys_in_step(memory: MemoryNetwork) -> None:
    """Whatever is read of the messages by hand, and whatever by the decoder, each counts once."""
    configs = [NoiseConfig(protocol=XX, static_key=key, rekey_after=2) for key in (ANN, BOB)]
    async with Greeter(configs[1], memory, listen=True) as bob, Greeter(configs[0], memory) as ann:
        peer = await ann.connect(address(bob))
        for number in range(7):
            await ann.send(peer, b"%d" % number)
            await ann.flush(peer)
        assert await bob.messages.count(7) == [b"%d" % number for number in range(7)]


async def test_damage_behind_what_was_read_by_hand_ends_the_connection_after_the_good(memory: MemoryNetwork) -> None:
    async with Greeter(config_for("NN", initiator=False), memory, listen=True) as node:
        them, endpoint = states("NN")[0], StreamEndpoint()
        await memory.dial(address(node), endpoint)
        endpoint.transport.write(framed(them.write_message()))
        them.read_message((await endpoint.until_data(50))[2:50])
        good = framed(them.split()[0].encrypt(b"", b"hello" + FIRST))
        endpoint.transport.write(good + framed(bytes(20)))
        (reason,) = await node.ended.count(1)
        assert isinstance(reason.exception, DecryptError) and node.messages.items == [b"first"]
        await endpoint.aclose()


async def test_a_longer_handshake_that_is_cut(memory: MemoryNetwork) -> None:
    for said in (b"", b"\0", framed(b"x" * 30)[:-1]):
        async with Greeter(config_for("NN", initiator=False), memory, listen=True) as node:
            them, endpoint = states("NN")[0], StreamEndpoint()
            await memory.dial(address(node), endpoint)
            endpoint.transport.write(framed(them.write_message()) + said)
            endpoint.transport.write_eof()
            await endpoint.events.has("lost")
            assert not node.peers and not node.messages.items
        assert isinstance(node.refusal, HandshakeCutError)


async def test_plaintext_is_read_by_hand_until_there_is_a_decoder() -> None:
    ann, bob = sessions()
    reader = asyncio.StreamReader()
    reader.feed_data(ann.seal(b"one two ") + ann.seal(b"three "))
    with NoiseReader(bob, reader) as plain:
        assert await plain.readexactly(4) == b"one "
    with pytest.raises(RuntimeError), NoiseReader(bob, reader) as plain:  # what goes wrong in it loses nothing
        assert await plain.readexactly(2) == b"tw"
        raise RuntimeError
    reader.feed_eof()
    with NoiseReader(bob, reader) as plain:
        assert await plain.readexactly(2) == b"o "
    with NoiseReader(bob, reader) as plain:
        assert await plain.readexactly(0) == b""
        assert await plain.readexactly(3) == b"thr"
    decoder = bob.decoder(Raw())
    assert decoder.decode(memoryview(await reader.read())) == ([b"ee "], 24)
    with pytest.raises(UsageError):
        NoiseReader(bob, reader)


def framed(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


def sealed(state: HandshakeState, *messages: bytes, after: int = 0) -> bytes:
    """Each message as a frame, in a Noise message of its own, ``after`` so many others."""
    cipher: CipherState = state.split()[0]
    cipher.nonce = after
    frames = (b"".join(map(bytes, LengthDelimited().encode([message]))) for message in messages)
    return b"".join(framed(cipher.encrypt(b"", frame)) for frame in frames)


async def test_a_handshake_needs_no_node() -> None:
    readers = asyncio.StreamReader(), asyncio.StreamReader()

    async def shake(initiator: bool) -> NoiseSession:
        reader, other = readers if initiator else readers[::-1]
        writer = cast(asyncio.StreamWriter, Pipe(other))
        return await shake_hands(config_for("XX", initiator=initiator), reader, writer, initiator=initiator)

    ann, bob = await asyncio.gather(shake(True), shake(False))
    assert bob.unseal(ann.seal(b"hello")[2:]) == b"hello"
    assert (ann.remote_static, bob.remote_static) == (BOB.public, ANN.public)


# Who is let in


async def refused(net: Network, ann_has: NoiseConfig, bob_has: NoiseConfig) -> tuple[HandshakeError, BaseException]:
    """Ann dials Bob, and one of them does not want to. Returns what Ann's connect raised, and Bob's handshake."""
    async with Secret(bob_has, net, listen=True) as bob, Secret(ann_has, net) as ann:
        with pytest.raises(HandshakeError) as caught:
            await ann.connect(address(bob))
        (result,) = await bob.handshakes.count(1)
        assert isinstance(result, BaseException)
        assert not ann.peers and not bob.peers
        return caught.value, result


@pytest.mark.parametrize("protocol", [XX, XX.replace("XX", "IK")])
async def test_whoever_is_on_the_list_is_let_in(net: Network, protocol: str) -> None:
    allowed = {ANN.public}
    ik = NoiseConfig(protocol=protocol, static_key=BOB, allowed=allowed)
    known = BOB.public
    async with Secret(ik, net, listen=True) as bob, Secret(
        NoiseConfig(protocol=protocol, static_key=ANN, remote_key=known, allowed=[EVE.public, BOB.public]), net
    ) as ann:
        peer = await ann.connect(address(bob))
        await ann.send(peer, b"hello")
        await bob.messages.count(1)
        # The list is looked at anew each time.
        allowed.clear()
        await ann.disconnect(peer)
        await bob.ended.count(1)
        try:
            await ann.connect(address(bob))
        except HandshakeError as error:
            assert isinstance(error.__cause__, HandshakeCutError | OSError)
        else:
            assert (await ann.ended.count(2))[1].origin is Origin.READING
        assert isinstance((await bob.handshakes.count(2))[1], PeerNotAllowedError)


async def test_a_listener_that_is_not_on_the_list_learns_nothing_of_the_dialler(net: Network) -> None:
    config = NoiseConfig(protocol=XX, static_key=ANN, allowed=[EVE.public])
    error, seen = await refused(net, config, NoiseConfig(protocol=XX, static_key=BOB))
    assert isinstance(error.__cause__, PeerNotAllowedError)
    # It left before the message that has its key in it.
    assert isinstance(seen, HandshakeCutError | OSError)


async def test_a_dialler_that_is_not_on_the_list_is_turned_away_at_once(net: Network) -> None:
    ik = XX.replace("XX", "IK")
    error, seen = await refused(
        net,
        NoiseConfig(protocol=ik, static_key=EVE, remote_key=BOB.public),
        NoiseConfig(protocol=ik, static_key=BOB, allowed=[ANN.public]),
    )
    assert isinstance(seen, PeerNotAllowedError)
    assert isinstance(error.__cause__, HandshakeCutError | OSError)


async def test_the_one_who_answers_is_not_the_one_who_was_dialled(net: Network) -> None:
    config = NoiseConfig(protocol=XX, static_key=ANN, remote_key=EVE.public)
    error, _ = await refused(net, config, NoiseConfig(protocol=XX, static_key=BOB))
    assert isinstance(error.__cause__, PeerNotAllowedError)


async def test_a_key_that_the_pattern_has_known_must_be_the_one(net: Network) -> None:
    nk = XX.replace("XX", "NK")
    error, seen = await refused(
        net, NoiseConfig(protocol=nk, remote_key=EVE.public), NoiseConfig(protocol=nk, static_key=BOB)
    )
    assert isinstance(seen, DecryptError)
    assert isinstance(error.__cause__, HandshakeCutError | OSError)


async def test_another_protocol_is_not_understood(net: Network) -> None:
    error, _ = await refused(
        net, NoiseConfig(protocol=XX.replace("SHA256", "BLAKE2b"), static_key=ANN), NoiseConfig(static_key=BOB)
    )
    assert isinstance(error.__cause__, DecryptError)


@pytest.mark.expects_errors
async def test_a_setting_that_lacks_is_the_cause(memory: MemoryNetwork) -> None:
    error, _ = await refused(memory, NoiseConfig(protocol=XX), NoiseConfig(protocol=XX, static_key=BOB))
    assert isinstance(error.__cause__, ConfigError) and error.__cause__.field == "static_key"


async def test_what_is_logged_has_no_key_in_it(memory: MemoryNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pea2pea")
    config = NoiseConfig(protocol=XX, static_key=ANN, allowed=[EVE.public])
    await refused(memory, config, NoiseConfig(protocol=XX, static_key=BOB))
    assert "not on the allow-list" in caplog.text
    for key in (ANN, BOB, EVE):
        for secret in (key.public, key.private_bytes()):
            assert secret.hex() not in caplog.text and repr(secret)[2:-1] not in caplog.text


# A wire that lies


class Wire:
    """A listener that passes on what comes, both ways, and tampers with it.

    Direction 0 is from the dialler. ``flip`` is a direction and which byte of it is altered; ``cut`` is one and
    after how many bytes both connections end.
    """

    def __init__(
        self, net: Network, target: Addr, *, flip: tuple[int, int] | None = None, cut: tuple[int, int] | None = None
    ) -> None:
        self.net = net
        self.target = target
        self.flip = flip
        self.cut = cut
        self.passed = [bytearray(), bytearray()]
        self.ends = [Tap(self, 0), Tap(self, 1)]

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for end in self.ends:
            if end.events.items:
                await end.aclose()

    async def connect(self, node: Secret) -> Peer:
        """Have ``node`` connect to the target through this."""
        async with listening(self.net) as listener:
            connecting = asyncio.create_task(node.connect(listener.addr))
            incoming = await accept(listener)
            await self.net.dial(self.target, self.ends[1])
            await incoming.open(self.ends[0])
            return await connecting

    def carry(self, direction: int, data: bytes) -> None:
        end = self.ends[1 - direction]
        before = len(self.passed[direction])
        changed = bytearray(data)
        if self.flip and self.flip[0] == direction and before <= self.flip[1] < before + len(data):
            changed[self.flip[1] - before] ^= 0x40
        ends_here = self.cut is not None and self.cut[0] == direction and before + len(data) >= self.cut[1]
        if ends_here and self.cut is not None:
            del changed[self.cut[1] - before :]
        self.passed[direction] += changed
        end.transport.write(bytes(changed))
        if ends_here:
            self.close()

    def close(self) -> None:
        for end in self.ends:
            end.transport.close()


class Tap(StreamEndpoint):
    """One end of a wire."""

    def __init__(self, wire: Wire, direction: int) -> None:
        super().__init__()
        self.wire = wire
        self.direction = direction

    def got(self, data: bytes | memoryview) -> None:
        self.wire.carry(self.direction, bytes(data))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.wire.close()


async def shake_hands_over(
    net: Network, ann: Secret, bob: Secret, **tampering: Any
) -> tuple[HandshakeError | DisconnectReason | None, BaseException | NoiseSession]:
    """How a handshake over a lying wire ends: for Ann, who dials, and for Bob."""
    done, over = len(bob.handshakes.items), len(bob.ended.items)
    gone = len(ann.ended.items)
    async with Wire(net, address(bob), **tampering) as wire:
        try:
            await wire.connect(ann)
        except HandshakeError as error:
            mine: HandshakeError | DisconnectReason | None = error
        else:
            mine = (await ann.ended.count(gone + 1))[-1]
        theirs = (await bob.handshakes.count(done + 1))[-1]
        if isinstance(theirs, NoiseSession):
            # It was over before the damage; then the connection is.
            await bob.ended.count(over + 1)
    return mine, theirs


ATTACKED = ["NN", "NK", "NX", "XX", "IK", "XK", "KK", "XXpsk0", "IKpsk2"]


async def wire_sizes(net: Network, pattern: str) -> list[int]:
    """How many bytes a handshake sends in each direction."""
    async with (
        Secret(config_for(pattern, initiator=False), net, listen=True) as bob,
        Secret(config_for(pattern, initiator=True), net) as ann,
        Wire(net, address(bob)) as wire,
    ):
        await wire.connect(ann)
        await bob.handshakes.count(1)
        return [len(passed) for passed in wire.passed]


async def attack(pattern: str, how: str, check: Callable[[Any, Any, int, int], None]) -> None:
    net = MemoryNetwork()
    sizes = await wire_sizes(net, pattern)
    async with (
        Secret(config_for(pattern, initiator=False), net, listen=True) as bob,
        Secret(config_for(pattern, initiator=True), net) as ann,
    ):
        for direction, size in enumerate(sizes):
            for place in range(size):
                mine, theirs = await shake_hands_over(net, ann, bob, **{how: (direction, place)})
                check(mine, theirs, direction, place)
    assert not ann.peers and not bob.peers and not ann.messages.items and not bob.messages.items


@pytest.mark.parametrize("pattern", ATTACKED)
async def test_a_handshake_with_any_byte_flipped_fails_on_both_sides(pattern: str) -> None:
    noticed = 0

    def check(mine: Any, theirs: Any, direction: int, place: int) -> None:
        nonlocal noticed
        if isinstance(mine, HandshakeError):
            # A length that grew is waited for in vain.
            assert isinstance(mine.__cause__, NoiseError | TimeoutError | ConnectionError), (direction, place)
        else:
            # Ann had no more to wait for: Bob noticed, or waited for a length that grew, and left.
            assert mine.origin is Origin.READING and isinstance(theirs, NoiseError | asyncio.CancelledError)
        assert isinstance(theirs, NoiseError | NoiseSession | asyncio.CancelledError | ConnectionError)
        noticed += isinstance(theirs, NoiseError) or isinstance(getattr(mine, "__cause__", None), NoiseError)

    await attack(pattern, "flip", check)
    assert noticed > 30


@pytest.mark.parametrize("pattern", ATTACKED)
async def test_a_handshake_that_is_cut_at_any_byte_fails_on_both_sides(pattern: str) -> None:
    def check(mine: Any, theirs: Any, direction: int, place: int) -> None:
        ours = mine.__cause__ if isinstance(mine, HandshakeError) else mine.origin
        assert isinstance(ours, HandshakeCutError | ConnectionError) or ours is Origin.READING, (direction, place)
        assert isinstance(theirs, HandshakeCutError | ConnectionError | NoiseSession), (direction, place)

    await attack(pattern, "cut", check)


async def test_bytes_flipped_after_the_handshake_end_the_connection(memory: MemoryNetwork) -> None:
    async with (
        Secret(config_for("NN", initiator=False), memory, listen=True) as bob,
        Secret(config_for("NN", initiator=True), memory) as ann,
        Wire(memory, address(bob), flip=(0, 34 + 23 + 5)) as wire,
    ):
        peer = await wire.connect(ann)
        await ann.send(peer, b"x")
        await ann.flush(peer)
        await bob.messages.count(1)
        await ann.send(peer, b"y")
        (reason,) = await bob.ended.count(1)
        assert isinstance(reason.exception, DecryptError) and bob.messages.items == [b"x"]
        await ann.ended.count(1)


@pytest.mark.parametrize("says", [b"", b"\x00", b"\xff\xff", b"\xff\xff" + bytes(60_000), bytes(33)])
async def test_a_peer_that_stalls_is_given_up(memory: MemoryNetwork, says: bytes) -> None:
    """A claim costs nothing but the time of a handshake, and at most the 64 KiB that a message can have."""
    async with Secret(config_for("XX", initiator=False), memory, listen=True) as bob:
        endpoint = StreamEndpoint()
        await memory.dial(address(bob), endpoint)
        endpoint.transport.write(says)
        (result,) = await bob.handshakes.count(1)
        assert isinstance(result, asyncio.CancelledError | MalformedMessageError)
        await endpoint.events.has("lost")
        assert asyncio.get_running_loop().time() <= bob.handshake_timeout + 1
        assert not bob.num_connecting


@pytest.mark.parametrize("size", [0, 31, 33 + 65, 65535])
async def test_garbage_is_no_handshake(memory: MemoryNetwork, size: int) -> None:
    async with Secret(config_for("IK", initiator=False), memory, listen=True) as bob:
        endpoint = StreamEndpoint()
        await memory.dial(address(bob), endpoint)
        endpoint.transport.write(LENGTH.pack(size) + bytes(size))
        (result,) = await bob.handshakes.count(1)
        assert isinstance(result, NoiseError)
        await endpoint.events.has("lost")
