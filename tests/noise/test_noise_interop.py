"""Against other implementations of Noise, each in a process of its own, in both roles."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pea2pea import Decoder, Encoder, LengthDelimited, Peer
from pea2pea.noise import HandshakeState, NoiseConfig, NoiseProtocol, NoiseSession
from pea2pea.tcp import TcpNetwork
from support import Recorder
from support.noise import ANN, BOB, PSKS, Secret

SCRIPT = Path(__file__).parents[1] / "peers" / "noise_peer.py"
CASES = [
    ("noiseprotocol", "Noise_XX_25519_ChaChaPoly_SHA256"),
    ("noiseprotocol", "Noise_XX_25519_AESGCM_SHA512"),
    ("noiseprotocol", "Noise_IK_25519_ChaChaPoly_BLAKE2s"),
    ("noiseprotocol", "Noise_XK_25519_AESGCM_BLAKE2b"),
    ("noiseprotocol", "Noise_KK_25519_ChaChaPoly_SHA256"),
    ("noiseprotocol", "Noise_NNpsk0_25519_AESGCM_SHA256"),
    ("dissononce", "Noise_XX_25519_ChaChaPoly_SHA256"),
    ("dissononce", "Noise_IK_25519_AESGCM_SHA256"),
    ("dissononce", "Noise_NX_25519_ChaChaPoly_BLAKE2b"),
    ("dissononce", "Noise_XXpsk3_25519_AESGCM_SHA512"),
]
MESSAGES = [b"one", b"", b"x" * 100, b"y" * 200_000, b"last"]
both_roles = pytest.mark.parametrize(("library", "protocol"), CASES)

pytestmark = pytest.mark.loop("tcp")


class Talker(Secret):
    """Sends payloads in the handshake. As the responder, it returns the messages that it receives.

    With ``counted``, each message is one Noise message.
    """

    def __init__(self, noise: NoiseConfig, *, listen: bool, counted: bool = False) -> None:
        super().__init__(noise, TcpNetwork(), listen=listen)
        self.counted = counted
        self.payloads: Recorder[bytes] = Recorder()

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        return b"ours"

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        self.payloads.add(payload)

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.message_codec() if self.counted else super().decoder(peer)

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.message_codec() if self.counted else super().encoder(peer)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await super().process_message(peer, message)
        if peer.inbound:
            await self.send(peer, message)


def settings_for(name: str, *, initiator: bool) -> tuple[NoiseConfig, dict[str, Any]]:
    """Return the settings of our side and of theirs. We are Ann, they are Bob."""
    wanted = NoiseProtocol.of(name).pattern
    theirs: dict[str, Any] = {"protocol": name}
    if wanted.has_static(initiator=not initiator):
        theirs["static"] = BOB.private_bytes().hex()
    if wanted.known[not initiator]:
        theirs["remote"] = ANN.public.hex()
    if wanted.psks:
        theirs["psk"] = PSKS[0].hex()
    ours = NoiseConfig(
        protocol=name,
        static_key=ANN if wanted.has_static(initiator=initiator) else None,
        remote_key=BOB.public if wanted.has_static(initiator=not initiator) else None,
        psks=PSKS[: wanted.psks],
    )
    return ours, theirs


class Other:
    """The process of the other side, which reports with lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def reports(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the process ended without a report"
        return json.loads(line)  # type: ignore[no-any-return]


@asynccontextmanager
async def started(library: str, role: str, settings: dict[str, Any]) -> AsyncIterator[Other]:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), library, role]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    try:
        yield Other(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # asyncio closes the pipe in a later iteration of the loop than the one in which wait() returns.
        process._transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


def check_agreement(node: Talker, reported: dict[str, Any], name: str, *, initiator: bool) -> None:
    session = node.handshakes.items[0]
    assert isinstance(session, NoiseSession)
    wanted = NoiseProtocol.of(name).pattern
    assert reported["hash"] == session.handshake_hash.hex()
    assert session.remote_static == (BOB.public if wanted.has_static(initiator=not initiator) else None)
    assert reported["remote"] == (ANN.public.hex() if wanted.has_static(initiator=initiator) else "")
    assert set(reported["payloads"]) == {"ours"}
    assert set(node.payloads.items) == {b"not ours"}


@both_roles
async def test_we_dial_them(library: str, protocol: str) -> None:
    ours, theirs = settings_for(protocol, initiator=True)
    async with started(library, "listen", theirs) as other, Talker(ours, listen=False) as node:
        peer = await node.connect(("127.0.0.1", (await other.reports())["port"]))
        for message in MESSAGES:
            await node.send(peer, message)
        assert await node.messages.count(len(MESSAGES)) == MESSAGES
        check_agreement(node, await other.reports(), protocol, initiator=True)
        await node.disconnect(peer)
        assert await other.reports() == {"ended": True}


@both_roles
async def test_they_dial_us_and_do_not_wait(library: str, protocol: str) -> None:
    """Their frames are divided over Noise messages. The first is in the same packet as the end of the handshake."""
    ours, theirs = settings_for(protocol, initiator=False)
    stream = b"".join(bytes(buffer) for buffer in LengthDelimited().encode(MESSAGES))
    bounds = [0, 5, 6, 60_000, len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(bounds)]
    theirs["frames"] = [p[i : i + 65_000].hex() for p in pieces for i in range(0, len(p), 65_000)]
    async with Talker(ours, listen=True) as node:
        assert node.listening_addr is not None
        theirs["port"] = node.listening_addr.port
        async with started(library, "dial", theirs) as other:
            reported = await other.reports()
            assert await node.messages.count(len(MESSAGES)) == MESSAGES
            check_agreement(node, reported, protocol, initiator=False)
            assert await other.reports() == {"echoed": True}
            reasons = await node.ended.count(1)
            assert reasons[0].exception is None


# One message per Noise message, and confirmation

COUNTED = [b"one", b"", b"x" * 100, b"y" * 65_519, b"", b"last"]
CONFIRMED = [
    ("noiseprotocol", "Noise_XX_25519_ChaChaPoly_SHA256"),
    ("noiseprotocol", "Noise_IK_25519_ChaChaPoly_BLAKE2s"),
    ("dissononce", "Noise_XX_25519_ChaChaPoly_SHA256"),
    ("dissononce", "Noise_NX_25519_ChaChaPoly_BLAKE2b"),
]
both_counted = pytest.mark.parametrize(
    ("library", "protocol", "confirm"), [(*case, False) for case in CASES] + [(*case, True) for case in CONFIRMED]
)


def counted_settings_for(name: str, confirm: bool, *, initiator: bool) -> tuple[NoiseConfig, dict[str, Any]]:
    ours, theirs = settings_for(name, initiator=initiator)
    return replace(ours, confirm=confirm), {**theirs, "confirm": confirm, "messages": True}


async def check_confirmation(other: Other, name: str, *, initiator: bool) -> None:
    if NoiseProtocol.of(name).pattern.sends_last(initiator=not initiator):
        assert await other.reports() == {"confirmation": 0}


@both_counted
async def test_we_dial_them_and_count_messages(library: str, protocol: str, confirm: bool) -> None:
    ours, theirs = counted_settings_for(protocol, confirm, initiator=True)
    async with started(library, "listen", theirs) as other, Talker(ours, listen=False, counted=True) as node:
        peer = await node.connect(("127.0.0.1", (await other.reports())["port"]))
        for message in COUNTED:
            await node.send(peer, message)
        assert await node.messages.count(len(COUNTED)) == COUNTED
        check_agreement(node, await other.reports(), protocol, initiator=True)
        if confirm:
            await check_confirmation(other, protocol, initiator=True)
        await node.disconnect(peer)
        assert await other.reports() == {"ended": True}


@both_counted
async def test_they_dial_us_and_count_messages(library: str, protocol: str, confirm: bool) -> None:
    ours, theirs = counted_settings_for(protocol, confirm, initiator=False)
    theirs["frames"] = [message.hex() for message in COUNTED]
    async with Talker(ours, listen=True, counted=True) as node:
        assert node.listening_addr is not None
        theirs["port"] = node.listening_addr.port
        async with started(library, "dial", theirs) as other:
            reported = await other.reports()
            if confirm:
                await check_confirmation(other, protocol, initiator=False)
            assert await node.messages.count(len(COUNTED)) == COUNTED
            check_agreement(node, reported, protocol, initiator=False)
            assert await other.reports() == {"echoed": True}
            reasons = await node.ended.count(1)
            assert reasons[0].exception is None
