"""Nodes that use Noise: which peers they accept, and what happens when the traffic is tampered with."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from pea2pea import (
    Addr,
    ConfigError,
    Decoder,
    DisconnectReason,
    Encoder,
    HandshakeError,
    LengthDelimited,
    Origin,
    Peer,
    Raw,
)
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
    perform_handshake,
)
from pea2pea.noise.codec import LENGTH
from pea2pea.noise.state import CipherState
from support import Pipe, StreamEndpoint, accept, listening, turns
from support.noise import ANN, BOB, EVE, Secret, config_for, sessions, states

PATTERNS = ["NN", "NK", "NX", "XX", "IK", "XK", "KK", "NNpsk0", "XXpsk3", "IKpsk2", "X1X1"]
XX = "Noise_XX_25519_ChaChaPoly_SHA256"


def address(node: Secret) -> Addr:
    assert node.listening_addr is not None
    return node.listening_addr


# Exchanging messages


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


async def test_nothing_is_sent_in_plaintext(memory: MemoryNetwork) -> None:
    async with (
        Secret(config_for("XX", initiator=False), memory, listen=True) as bob,
        Secret(config_for("XX", initiator=True), memory) as ann,
        Wire(memory, address(bob)) as wire,
    ):
        peer = await wire.connect(ann)
        await ann.send(peer, b"the quick brown fox")
        await bob.messages.count(1)
        assert b"quick" not in wire.passed[0]
        # Of the keys that the handshake carries, only the ephemeral ones.
        assert ANN.public not in wire.passed[0] and BOB.public not in wire.passed[1]


async def test_both_sides_rekey_while_they_exchange_messages(net: Network) -> None:
    configs = [NoiseConfig(protocol=XX, static_key=key, rekey_after=3) for key in (ANN, BOB)]
    async with Secret(configs[1], net, listen=True) as bob, Secret(configs[0], net) as ann:
        peer = await ann.connect(address(bob))
        for number in range(20):
            await ann.send(peer, b"%d" % number)
            await ann.flush(peer)
        assert await bob.messages.count(20) == [b"%d" % number for number in range(20)]


class Payloads(Secret):
    """Sends a payload in each handshake message, and records those of the peer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.payloads: list[tuple[int, bytes, bytes | None]] = []
        self.refuses: bytes | None = None

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        return b"message %d" % state.messages_done

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        self.payloads.append((state.messages_done, payload, state.remote_static))
        if payload == self.refuses:
            raise PermissionError("refused")


async def test_messages_of_the_handshake_carry_payloads(memory: MemoryNetwork) -> None:
    async with (
        Payloads(config_for("XX", initiator=False), memory, listen=True) as bob,
        Payloads(config_for("XX", initiator=True), memory) as ann,
    ):
        await ann.connect(address(bob))
        await bob.handshakes.count(1)
        assert ann.payloads == [(2, b"message 1", BOB.public)]
        assert bob.payloads == [(1, b"message 0", None), (3, b"message 2", ANN.public)]


async def test_a_payload_can_be_refused(memory: MemoryNetwork) -> None:
    async with (
        Payloads(config_for("XX", initiator=False), memory, listen=True) as bob,
        Payloads(config_for("XX", initiator=True), memory) as ann,
    ):
        bob.refuses = b"message 2"
        await ann.connect(address(bob))
        await ann.ended.count(1)
        (refused,) = await bob.handshakes.count(1)
        assert isinstance(refused, PermissionError)


@pytest.mark.parametrize("inbound", [True, False])
async def test_bytes_behind_the_last_handshake_message_are_the_first_of_the_transport(
    net: Network, inbound: bool
) -> None:
    """In the same packet. An implementation that loses them works only with peers that wait."""
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


class Continuing(Secret):
    """Continues the handshake over the session: each side sends five bytes."""

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
async def test_the_rest_of_a_message_that_a_handshake_read_does_not_wait_for_more(
    net: Network, messages: list[bytes], ends: bool
) -> None:
    """All in one packet with the end of the handshake, and then nothing."""
    async with Continuing(config_for("NN", initiator=False), net, listen=True) as node:
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


async def test_a_continued_handshake_rekeys_in_step(memory: MemoryNetwork) -> None:
    """Each message counts once, whether it is read by the handshake, by the decoder or by both."""
    configs = [NoiseConfig(protocol=XX, static_key=key, rekey_after=2) for key in (ANN, BOB)]
    async with Continuing(configs[1], memory, listen=True) as bob, Continuing(configs[0], memory) as ann:
        peer = await ann.connect(address(bob))
        for number in range(7):
            await ann.send(peer, b"%d" % number)
            await ann.flush(peer)
        assert await bob.messages.count(7) == [b"%d" % number for number in range(7)]


async def test_damage_after_a_continued_handshake_does_not_lose_what_precedes_it(memory: MemoryNetwork) -> None:
    async with Continuing(config_for("NN", initiator=False), memory, listen=True) as node:
        them, endpoint = states("NN")[0], StreamEndpoint()
        await memory.dial(address(node), endpoint)
        endpoint.transport.write(framed(them.write_message()))
        them.read_message((await endpoint.until_data(50))[2:50])
        good = framed(them.split()[0].encrypt(b"", b"hello" + FIRST))
        endpoint.transport.write(good + framed(bytes(20)))
        (reason,) = await node.ended.count(1)
        assert isinstance(reason.exception, DecryptError) and node.messages.items == [b"first"]
        await endpoint.aclose()


async def test_a_continued_handshake_that_is_cut(memory: MemoryNetwork) -> None:
    for said in (b"", b"\0", framed(b"x" * 30)[:-1]):
        async with Continuing(config_for("NN", initiator=False), memory, listen=True) as node:
            them, endpoint = states("NN")[0], StreamEndpoint()
            await memory.dial(address(node), endpoint)
            endpoint.transport.write(framed(them.write_message()) + said)
            endpoint.transport.write_eof()
            await endpoint.events.has("lost")
            assert not node.peers and not node.messages.items
        assert isinstance(node.refusal, HandshakeCutError)


async def test_a_reader_of_plaintext_gives_back_what_it_does_not_read() -> None:
    ann, bob = sessions()
    reader = asyncio.StreamReader()
    reader.feed_data(ann.seal(b"one two ") + ann.seal(b"three "))
    with NoiseReader(bob, reader) as plain:
        assert await plain.readexactly(4) == b"one "
    with pytest.raises(RuntimeError), NoiseReader(bob, reader) as plain:  # an exception in the block loses nothing
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
    """Each message as a frame in a Noise message of its own; ``after`` is the number of messages before them."""
    cipher: CipherState = state.split()[0]
    cipher.nonce = after
    frames = (b"".join(map(bytes, LengthDelimited().encode([message]))) for message in messages)
    return b"".join(framed(cipher.encrypt(b"", frame)) for frame in frames)


async def test_a_handshake_needs_no_node() -> None:
    readers = asyncio.StreamReader(), asyncio.StreamReader()

    async def perform(initiator: bool) -> NoiseSession:
        reader, other = readers if initiator else readers[::-1]
        writer = cast(asyncio.StreamWriter, Pipe(other))
        return await perform_handshake(config_for("XX", initiator=initiator), reader, writer, initiator=initiator)

    ann, bob = await asyncio.gather(perform(True), perform(False))
    assert bob.unseal(ann.seal(b"hello")[2:]) == b"hello"
    assert (ann.remote_static, bob.remote_static) == (BOB.public, ANN.public)


# Which peers are accepted


async def refused(net: Network, ann_has: NoiseConfig, bob_has: NoiseConfig) -> tuple[HandshakeError, BaseException]:
    """Ann dials Bob, and one of them refuses. Return what Ann's ``connect`` and Bob's ``handshake`` raised."""
    async with Secret(bob_has, net, listen=True) as bob, Secret(ann_has, net) as ann:
        with pytest.raises(HandshakeError) as caught:
            await ann.connect(address(bob))
        (result,) = await bob.handshakes.count(1)
        assert isinstance(result, BaseException)
        assert not ann.peers and not bob.peers
        return caught.value, result


@pytest.mark.parametrize("protocol", [XX, XX.replace("XX", "IK")])
async def test_peers_on_the_allow_list_are_accepted(net: Network, protocol: str) -> None:
    allowed = {ANN.public}
    ik = NoiseConfig(protocol=protocol, static_key=BOB, allowed=allowed)
    known = BOB.public
    async with Secret(ik, net, listen=True) as bob, Secret(
        NoiseConfig(protocol=protocol, static_key=ANN, remote_key=known, allowed=[EVE.public, BOB.public]), net
    ) as ann:
        peer = await ann.connect(address(bob))
        await ann.send(peer, b"hello")
        await bob.messages.count(1)
        # The list is read at every handshake.
        allowed.clear()
        await ann.disconnect(peer)
        await bob.ended.count(1)
        try:
            await ann.connect(address(bob))
        except HandshakeError as error:
            assert isinstance(error.__cause__, HandshakeCutError)
        else:
            assert (await ann.ended.count(2))[1].origin is Origin.READING
        assert isinstance((await bob.handshakes.count(2))[1], PeerNotAllowedError)


async def test_a_listener_that_is_not_allowed_does_not_learn_the_key_of_the_dialler(net: Network) -> None:
    config = NoiseConfig(protocol=XX, static_key=ANN, allowed=[EVE.public])
    error, seen = await refused(net, config, NoiseConfig(protocol=XX, static_key=BOB))
    assert isinstance(error.__cause__, PeerNotAllowedError)
    # Ann left before the message that carries her key.
    assert isinstance(seen, HandshakeCutError)


async def test_in_ik_a_dialler_that_is_not_allowed_fails_to_connect(net: Network) -> None:
    ik = XX.replace("XX", "IK")
    error, seen = await refused(
        net,
        NoiseConfig(protocol=ik, static_key=EVE, remote_key=BOB.public),
        NoiseConfig(protocol=ik, static_key=BOB, allowed=[ANN.public]),
    )
    assert isinstance(seen, PeerNotAllowedError)
    assert isinstance(error.__cause__, HandshakeCutError)


async def test_a_listener_with_another_key_than_expected_is_refused(net: Network) -> None:
    config = NoiseConfig(protocol=XX, static_key=ANN, remote_key=EVE.public)
    error, _ = await refused(net, config, NoiseConfig(protocol=XX, static_key=BOB))
    assert isinstance(error.__cause__, PeerNotAllowedError)


async def test_a_wrong_key_of_the_responder_fails_if_the_pattern_uses_it_first(net: Network) -> None:
    nk = XX.replace("XX", "NK")
    error, seen = await refused(
        net, NoiseConfig(protocol=nk, remote_key=EVE.public), NoiseConfig(protocol=nk, static_key=BOB)
    )
    assert isinstance(seen, DecryptError)
    assert isinstance(error.__cause__, HandshakeCutError)


async def test_sides_with_different_protocols_fail(net: Network) -> None:
    error, _ = await refused(
        net, NoiseConfig(protocol=XX.replace("SHA256", "BLAKE2b"), static_key=ANN), NoiseConfig(static_key=BOB)
    )
    assert isinstance(error.__cause__, DecryptError)


@pytest.mark.expects_errors
async def test_a_setting_that_this_role_needs_is_the_cause(memory: MemoryNetwork) -> None:
    ik = XX.replace("XX", "IK")
    error, _ = await refused(
        memory, NoiseConfig(protocol=ik, static_key=ANN), NoiseConfig(protocol=ik, static_key=BOB)
    )
    assert isinstance(error.__cause__, ConfigError) and error.__cause__.field == "remote_key"


class Misconfigured(Secret):
    def noise(self, peer: Peer) -> NoiseConfig:
        return None  # type: ignore[return-value]


@pytest.mark.expects_errors
async def test_a_node_without_settings_says_so(memory: MemoryNetwork) -> None:
    async with (
        Secret(config_for("NN", initiator=False), memory, listen=True) as bob,
        Misconfigured(config_for("NN", initiator=True), memory) as ann,
    ):
        with pytest.raises(HandshakeError, match="expected a NoiseConfig, got NoneType"):
            await ann.connect(address(bob))


# Confirmation


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_with_confirmation_two_nodes_talk(net: Network, pattern: str) -> None:
    async with (
        Secret(confirmed(config_for(pattern, initiator=False)), net, listen=True) as bob,
        Secret(confirmed(config_for(pattern, initiator=True)), net) as ann,
    ):
        peer = await ann.connect(address(bob))
        await ann.send(peer, b"hello")
        assert await bob.messages.count(1) == [b"hello"]
        await bob.send(bob.peers[0], b"hello yourself")
        assert await ann.messages.count(1) == [b"hello yourself"]


#: For each pattern: whether Ann's settings or Bob's refuse the other.
REFUSALS = [("XX", "bob"), ("XX", "ann"), ("XXpsk3", "bob"), ("IK", "bob"), ("IK", "ann"), ("IX", "ann"), ("IX", "bob"),
            ("NX", "ann"), ("XN", "bob"), ("XK", "bob"), ("X1X1", "bob"), ("X1X1", "ann"), ("NX1", "ann")]  # fmt: skip


@pytest.mark.parametrize(("pattern", "who"), REFUSALS)
async def test_with_confirmation_neither_side_gets_a_peer_that_refuses_it(
    net: Network, pattern: str, who: str
) -> None:
    configs = {"ann": config_for(pattern, initiator=True), "bob": config_for(pattern, initiator=False)}
    configs[who] = replace(configs[who], allowed=[EVE.public])
    ann, bob = (confirmed(config) for config in configs.values())
    error, seen = await refused(net, ann, bob)
    causes = {"ann": error.__cause__, "bob": seen}
    assert isinstance(causes.pop(who), PeerNotAllowedError)
    assert isinstance(causes.popitem()[1], HandshakeCutError)


@pytest.mark.parametrize("pattern", ["XX", "NX"])
async def test_without_confirmation_the_last_to_send_gets_a_peer_that_refuses_it(net: Network, pattern: str) -> None:
    """As documented. In XX that is the dialler, in NX the listener."""
    configs = {side: config_for(pattern, initiator=side) for side in (True, False)}
    refuses = pattern == "NX"
    configs[refuses] = replace(configs[refuses], allowed=[EVE.public])
    async with Secret(configs[False], net, listen=True) as bob, Secret(configs[True], net) as ann:
        if refuses:
            with pytest.raises(HandshakeError):
                await ann.connect(address(bob))
            assert isinstance((await bob.handshakes.count(1))[0], NoiseSession)
        else:
            await ann.connect(address(bob))
            await ann.ended.count(1)


@pytest.mark.parametrize("pattern", ["XX", "NN"])
async def test_a_refusal_in_a_hook_is_not_confirmed(net: Network, pattern: str) -> None:
    """Raised for the last message: by Bob in XX, by Ann in NN."""
    ann_has, bob_has = (confirmed(config_for(pattern, initiator=side)) for side in (True, False))
    async with Payloads(bob_has, net, listen=True) as bob, Payloads(ann_has, net) as ann:
        ann.refuses = bob.refuses = b"message 2" if pattern == "XX" else b"message 1"
        with pytest.raises(HandshakeError) as caught:
            await ann.connect(address(bob))
        causes = [caught.value.__cause__, *await bob.handshakes.count(1)]
        assert sorted(type(cause).__name__ for cause in causes) == ["HandshakeCutError", "PermissionError"]


async def test_a_side_that_does_not_confirm_is_refused_at_its_first_message(memory: MemoryNetwork) -> None:
    async with (
        Secret(config_for("XX", initiator=False), memory, listen=True) as bob,
        Secret(confirmed(config_for("XX", initiator=True)), memory) as ann,
    ):
        connecting = asyncio.create_task(ann.connect(address(bob)))
        await bob.handshakes.count(1)
        await turns()
        await bob.send(bob.peers[0], b"hello")
        with pytest.raises(HandshakeError) as caught:
            await connecting
        assert isinstance(caught.value.__cause__, MalformedMessageError)
        assert "confirm must be the same on both sides" in str(caught.value)


async def test_a_confirmation_counts_for_rekeying(memory: MemoryNetwork) -> None:
    configs = [NoiseConfig(protocol=XX, static_key=key, rekey_after=2, confirm=True) for key in (ANN, BOB)]
    async with Secret(configs[1], memory, listen=True) as bob, Secret(configs[0], memory) as ann:
        await ann.connect(address(bob))
        await turns()
        (peer,) = bob.peers
        for number in range(5):
            await bob.send(peer, b"%d" % number)
            await bob.flush(peer)
        assert await ann.messages.count(5) == [b"%d" % number for number in range(5)]


def confirmed(config: NoiseConfig) -> NoiseConfig:
    return replace(config, confirm=True)


# Messages


class Counted(Secret):
    """Sends and receives one message per Noise message."""

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.message_codec()  # type: ignore[no-any-return]

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.message_codec()  # type: ignore[no-any-return]


async def test_two_nodes_exchange_noise_messages(net: Network) -> None:
    batch = [b"hello", b"", bytes(65_519), b"", b"bye"]
    async with (
        Counted(confirmed(config_for("XX", initiator=False)), net, listen=True) as bob,
        Counted(confirmed(config_for("XX", initiator=True)), net) as ann,
    ):
        peer = await ann.connect(address(bob))
        for message in batch:
            await ann.send(peer, message)
        assert await bob.messages.count(5) == batch
        for message in batch:
            await bob.send(bob.peers[0], message)
        # The confirmation is part of the handshake, and not a message.
        assert await ann.messages.count(5) == batch


async def test_log_records_and_errors_show_no_keys(memory: MemoryNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pea2pea")
    ik = XX.replace("XX", "IK")
    config = NoiseConfig(protocol=ik, static_key=ANN, remote_key=BOB.public)
    error, seen = await refused(memory, config, NoiseConfig(protocol=ik, static_key=BOB, allowed=[EVE.public]))
    assert "not on the allow-list" in caplog.text
    shown = "".join([caplog.text, *traceback.format_exception(error), *traceback.format_exception(seen)])
    for key in (ANN, BOB, EVE):
        for secret in (key.public, key.private_bytes()):
            assert secret.hex() not in shown and repr(secret)[2:-1] not in shown


# Tampering on the wire


class Wire:
    """A listener that forwards the bytes of both directions, and tampers with them.

    Direction 0 is from the dialler. ``flip`` is a direction and the position of the byte in it that is altered. ``cut``
    is a direction and the number of its bytes after which both connections are closed.
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
        """Let ``node`` connect to the target through this."""
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


async def handshake_over(
    net: Network, ann: Secret, bob: Secret, **tampering: Any
) -> tuple[HandshakeError | DisconnectReason | None, BaseException | NoiseSession]:
    """Return how a handshake that is tampered with ends: for Ann, who dials, and for Bob."""
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
            # His handshake was finished before the damage, which then ends the connection.
            await bob.ended.count(over + 1)
    return mine, theirs


ATTACKED = ["NN", "NK", "NX", "XX", "IK", "XK", "KK", "XXpsk0", "IKpsk2"]


async def wire_sizes(net: Network, pattern: str) -> list[int]:
    """Return the number of bytes that a handshake sends in each direction."""
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
                mine, theirs = await handshake_over(net, ann, bob, **{how: (direction, place)})
                check(mine, theirs, direction, place)
    assert not ann.peers and not bob.peers and not ann.messages.items and not bob.messages.items


@pytest.mark.parametrize("pattern", ATTACKED)
async def test_a_handshake_with_any_byte_flipped_fails_on_both_sides(pattern: str) -> None:
    noticed = 0

    def check(mine: Any, theirs: Any, direction: int, place: int) -> None:
        nonlocal noticed
        if isinstance(mine, HandshakeError):
            # A length that was increased is waited for until the timeout.
            assert isinstance(mine.__cause__, NoiseError | TimeoutError | ConnectionError), (direction, place)
        else:
            # Ann was finished. Bob detected it, or waited for a length that was increased until the timeout.
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
async def test_a_peer_that_stalls_is_disconnected(memory: MemoryNetwork, says: bytes) -> None:
    """It costs no more than the handshake timeout, and the 64 KiB that a message can have."""
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
async def test_garbage_fails_the_handshake(memory: MemoryNetwork, size: int) -> None:
    async with Secret(config_for("IK", initiator=False), memory, listen=True) as bob:
        endpoint = StreamEndpoint()
        await memory.dial(address(bob), endpoint)
        endpoint.transport.write(LENGTH.pack(size) + bytes(size))
        (result,) = await bob.handshakes.count(1)
        assert isinstance(result, NoiseError)
        await endpoint.events.has("lost")
