"""Against Noise implementations of others, each a process of its own: both ways, in bytes that they chose."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pea2pea import LengthDelimited, Peer
from pea2pea.network import TcpNetwork
from pea2pea.noise import HandshakeState, NoiseConfig, NoiseProtocol, NoiseSession
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
    """Puts something into its handshake messages; sends back what it gets, if it is the one to answer."""

    def __init__(self, noise: NoiseConfig, *, listen: bool) -> None:
        super().__init__(noise, TcpNetwork(), listen=listen)
        self.payloads: Recorder[bytes] = Recorder()

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        return b"ours"

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        self.payloads.add(payload)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await super().process_message(peer, message)
        if peer.inbound:
            await self.send(peer, message)


def settings_for(name: str, *, initiator: bool) -> tuple[NoiseConfig, dict[str, Any]]:
    """What our side needs, and what theirs does. We are Ann, they are Bob."""
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
    """The other side's process, which says a line of JSON now and then."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the other side ended without a word"
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
        # Its pipe is closed in a later turn than its end is known.
        process._transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


def check_agreement(node: Talker, said: dict[str, Any], name: str, *, initiator: bool) -> None:
    session = node.handshakes.items[0]
    assert isinstance(session, NoiseSession)
    wanted = NoiseProtocol.of(name).pattern
    assert said["hash"] == session.handshake_hash.hex()
    assert session.remote_static == (BOB.public if wanted.has_static(initiator=not initiator) else None)
    assert said["remote"] == (ANN.public.hex() if wanted.has_static(initiator=initiator) else "")
    assert set(said["payloads"]) == {"ours"}
    assert set(node.payloads.items) == {b"not ours"}


@both_roles
async def test_we_dial_them(library: str, protocol: str) -> None:
    ours, theirs = settings_for(protocol, initiator=True)
    async with started(library, "listen", theirs) as other, Talker(ours, listen=False) as node:
        peer = await node.connect(("127.0.0.1", (await other.says())["port"]))
        for message in MESSAGES:
            await node.send(peer, message)
        assert await node.messages.count(len(MESSAGES)) == MESSAGES
        check_agreement(node, await other.says(), protocol, initiator=True)
        await node.disconnect(peer)
        assert await other.says() == {"ended": True}


@both_roles
async def test_they_dial_us_and_do_not_wait(library: str, protocol: str) -> None:
    """Their frames are spread over Noise messages, and the first is in the same packet as the end of the handshake."""
    ours, theirs = settings_for(protocol, initiator=False)
    stream = b"".join(bytes(buffer) for buffer in LengthDelimited().encode(MESSAGES))
    bounds = [0, 5, 6, 60_000, len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(bounds)]
    theirs["frames"] = [p[i : i + 65_000].hex() for p in pieces for i in range(0, len(p), 65_000)]
    async with Talker(ours, listen=True) as node:
        assert node.listening_addr is not None
        theirs["port"] = node.listening_addr.port
        async with started(library, "dial", theirs) as other:
            check_agreement_at = await other.says()
            assert await node.messages.count(len(MESSAGES)) == MESSAGES
            check_agreement(node, check_agreement_at, protocol, initiator=False)
            assert await other.says() == {"echoed": True}
            reasons = await node.ended.count(1)
            assert reasons[0].exception is None
