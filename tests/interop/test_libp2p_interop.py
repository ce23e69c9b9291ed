"""js-libp2p and py-libp2p in both directions: ping, identify, an unknown protocol, 64 MiB each way, parallel streams.

:data:`FACTS` lists nine facts about these implementations, and the tests of each.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from pea2pea import HandshakeError, Peer
from pea2pea.libp2p import ChannelError, Connection, Identity, PeerId, PeerIdentityError, UnsupportedProtocolError
from pea2pea.libp2p import noise as noise_module
from pea2pea.libp2p import tls as tls_module
from pea2pea.libp2p.certificates import make_certificate
from pea2pea.libp2p.channel import negotiate
from pea2pea.libp2p.frames import DATA, FIN, PING, RST, SYN, WINDOW_UPDATE, Frame
from pea2pea.libp2p.multistream import HEADER, Proposal, encode_message
from pea2pea.libp2p.yamux import Event
from support.libp2p import ANN, ECHO, KINDS, MIB, WitnessHost, echoed
from support.libp2p_peers import Event as PeerEvent
from support.libp2p_peers import dialler, events, js_command, listener, py_command
from support.node import CALLER, OPEN

# These run on a real clock. The first run installs the peers, which takes minutes.
pytestmark = [pytest.mark.interop, pytest.mark.loop("tcp"), pytest.mark.timeout(900)]

FACTS = {
    1: ["libp2p/test_libp2p_facts.py::test_bytes_after_the_last_handshake_message_are_the_first_of_the_connection"],
    2: [
        "interop/test_libp2p_interop.py::test_js_sends_frames_larger_than_a_noise_message",
        "libp2p/test_libp2p_facts.py::test_frame_boundaries_are_independent_of_noise_messages",
    ],
    3: [
        "interop/test_libp2p_interop.py::test_how_streams_are_opened_and_ended",
        "libp2p/test_libp2p_yamux.py::test_a_stream_is_opened_by_either_kind_of_frame",
        "libp2p/test_libp2p_yamux.py::test_ack_and_fin_are_received_in_either_kind_of_frame",
    ],
    4: [
        "interop/test_libp2p_interop.py::test_refusing_identify_keeps_the_connection",
        "libp2p/test_libp2p_yamux.py::test_pings_are_answered_in_both_directions",
    ],
    5: [
        "interop/test_libp2p_interop.py::test_py_waits_for_our_header_and_js_does_not",
        "libp2p/test_libp2p_multistream.py::test_a_header_alone_is_answered_at_once",
    ],
    6: [
        "interop/test_libp2p_interop.py::test_js_sends_its_muxers_in_the_noise_payload",
        "libp2p/test_libp2p_hostile.py::test_extensions_of_a_payload_are_ignored",
    ],
    7: [
        "interop/test_libp2p_interop.py::test_the_first_read_of_a_refused_client_fails",
        "libp2p/test_libp2p_hostile.py::test_a_tls_peer_with_a_false_certificate_receives_an_alert",
    ],
    8: ["interop/test_libp2p_interop.py::test_js_refuses_the_tls_certificate_of_py_and_we_accept_it"],
    9: ["interop/test_libp2p_interop.py::test_every_peer_listens_on_port_0"],
}


# The peers: commands, with the arguments that select the secure channel


@pytest.fixture(scope="session")
def js() -> list[str]:
    return js_command()


@pytest.fixture(scope="session")
def py() -> list[str]:
    return py_command()


@pytest.fixture(scope="session")
def listeners(js: list[str], py: list[str]) -> Iterator[dict[str, PeerEvent]]:
    starts = {"js-noise": [*js, "listen", "noise"], "js-tls": [*js, "listen", "tls"], "py-noise": [*py, "listen"]}
    with ExitStack() as stack:
        yield {name: stack.enter_context(listener(command)) for name, command in starts.items()}


@pytest.fixture(params=["js-noise", "js-tls", "py-noise"])
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def command(which: str, js: list[str], py: list[str]) -> list[str]:
    return [*js, "dial", which.partition("-")[2]] if which.startswith("js") else [*py, "dial"]


@pytest.fixture
def ready(which: str, listeners: dict[str, PeerEvent]) -> PeerEvent:
    return listeners[which]


@pytest.fixture
def kind(which: str) -> type[WitnessHost]:
    return KINDS[which.partition("-")[2]]


def recording(kind: type[WitnessHost]) -> type[WitnessHost]:
    """A host that records the frames it receives."""

    class Recording(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            self.frames: list[Frame] = []

        async def handshake(
            self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> Connection:
            connection = cast(Connection, await super().handshake(peer, reader, writer))
            receive = connection.yamux.receive

            def spy(frame: Frame) -> Sequence[Event]:
                self.frames.append(frame)
                return receive(frame)

            connection.yamux.receive = spy  # type: ignore[method-assign]
            return connection

    return Recording


# Connections in both directions


async def test_we_dial(kind: type[WitnessHost], ready: PeerEvent) -> None:
    async with kind(CALLER) as host:
        peer = await host.dial(ready["address"])
        assert str(host.remote_id(peer)) == ready["peer"]
        assert host.connection(peer).channel.name == kind.security[0]
        for _ in range(3):
            assert 0 < await host.ping(peer) < 10
        found = await host.identify(peer)
        assert found.public_key is not None and str(found.public_key.peer_id) == ready["peer"]
        assert {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", ECHO} <= set(found.protocols)
        with pytest.raises(UnsupportedProtocolError):
            await host.open_stream(peer, "/pea2pea/unknown/1.0.0")
        assert await echoed(host, peer, 64 * MIB)
        assert all(await asyncio.gather(*(echoed(host, peer, MIB) for _ in range(8))))
        assert await host.ping(peer) > 0


async def test_we_are_dialled(kind: type[WitnessHost], which: str, command: list[str]) -> None:
    async with kind(OPEN) as host:
        async with dialler(command, str(host.multiaddrs[0])) as process:
            reported = await events(process)
        (reason,) = await host.left.count(1)
    by_name = {event["event"]: event for event in reported}
    assert by_name["connected"]["peer"] == str(host.peer_id)
    assert by_name["connected"]["encryption"] == kind.security[0]
    assert sum(event["event"] == "ping" for event in reported) == 3
    assert by_name["unknown"]["error"] is not None
    assert by_name["big"] == {"event": "big", "ok": True}
    assert by_name["several"] == {"event": "several", "ok": True, "count": 8}
    assert by_name["asked"]["agent"] == host.agent_version
    assert set(by_name["asked"]["protocols"]) == set(host.protocols)
    assert reason.exception is None or isinstance(reason.exception, ConnectionError)


async def test_a_peer_with_another_id_than_expected_is_refused(kind: type[WitnessHost], ready: PeerEvent) -> None:
    async with kind(CALLER) as host:
        address = ready["address"].rpartition("/")[0]
        with pytest.raises(HandshakeError) as caught:
            await host.dial(f"{address}/{ANN.peer_id}")
        assert isinstance(caught.value.__cause__, PeerIdentityError)


# Keys

JS_READS = """
import { readFileSync } from 'node:fs'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
process.stdout.write(peerIdFromPrivateKey(privateKeyFromProtobuf(readFileSync(process.argv[1]))).toString())
"""
JS_WRITES = """
import { writeFileSync } from 'node:fs'
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
const key = await generateKeyPair('Ed25519')
writeFileSync(process.argv[1], privateKeyToProtobuf(key), { mode: 0o600 })
process.stdout.write(peerIdFromPrivateKey(key).toString())
"""


def test_js_reads_our_key_files_and_we_read_those_of_js(js: list[str], tmp_path: Path) -> None:
    node, place = js[0], Path(js[1]).parent

    def run_js(program: str, path: Path) -> str:
        words = [node, "--input-type=module", "--eval", program, str(path)]
        return subprocess.run(words, cwd=place, capture_output=True, text=True, check=True).stdout

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    identity = Identity.load_or_make(ours)
    assert run_js(JS_READS, ours) == str(identity.peer_id)
    assert run_js(JS_WRITES, theirs) == str(Identity.load(theirs).peer_id)


# The facts


def test_every_fact_has_its_tests() -> None:
    here = Path(__file__).parent.parent
    assert list(FACTS) == list(range(1, 10))
    for named in FACTS.values():
        for path, _, name in (test.partition("::") for test in named):
            assert f"def {name}(" in (here / path).read_text(encoding="utf-8"), name


async def test_js_sends_frames_larger_than_a_noise_message(listeners: dict[str, PeerEvent]) -> None:
    """Fact 2."""
    async with recording(KINDS["noise"])(CALLER) as host:
        peer = await host.dial(listeners["js-noise"]["address"])
        assert await echoed(host, peer, 8 * MIB, part=bytes(MIB))
        frames: list[Frame] = host.frames  # type: ignore[attr-defined]
        assert max(frame.length for frame in frames if frame.kind == DATA) > 65535


async def test_how_streams_are_opened_and_ended(kind: type[WitnessHost], ready: PeerEvent) -> None:
    """Fact 3."""
    async with recording(kind)(CALLER) as host:
        peer = await host.dial(ready["address"])
        # Open a stream with Data|SYN, instead of the WindowUpdate|SYN that open() has queued.
        connection = host.connection(peer)
        state = connection.yamux.open()
        connection.yamux.take(0)
        stream = connection.add_stream(state)
        hello = encode_message(HEADER) + encode_message(ECHO)
        await host.send(peer, Frame(DATA, SYN, state.id, len(hello), hello))
        proposal = Proposal([ECHO])
        proposal.take()  # sent above
        await negotiate(proposal, stream, stream)
        stream.write(b"and back")
        stream.close_write()
        assert await stream.read() == b"and back"
        await host.ping(peer)
        frames: list[Frame] = host.frames  # type: ignore[attr-defined]
        opened = [frame for frame in frames if frame.flags & SYN and frame.kind != PING]
        assert opened and all((frame.kind, frame.flags, frame.length) == (WINDOW_UPDATE, SYN, 0) for frame in opened)
        ended = [frame for frame in frames if frame.flags & FIN]
        assert ended and all((frame.kind, frame.length) == (WINDOW_UPDATE, 0) for frame in ended)


async def test_refusing_identify_keeps_the_connection(
    kind: type[WitnessHost], which: str, ready: PeerEvent
) -> None:
    """Fact 4."""
    async with recording(kind)(CALLER) as host:
        host.unhandle("/ipfs/id/1.0.0")
        peer = await host.dial(ready["address"])
        frames: list[Frame] = host.frames  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while not any(frame.flags & RST for frame in frames) or not any(frame.kind == PING for frame in frames):
                await host.ping(peer)
        assert any(frame.payload.endswith(b"/ipfs/id/1.0.0\n") for frame in frames if isinstance(frame.payload, bytes))
        unasked = next(frame for frame in frames if frame.kind == PING)
        assert unasked.flags == SYN and (which.startswith("py") or unasked.length == 0)
        assert await host.ping(peer) > 0


@pytest.mark.parametrize(("peer", "waits"), [("js", False), ("py", True)])
async def test_py_waits_for_our_header_and_js_does_not(js: list[str], py: list[str], peer: str, waits: bool) -> None:
    """Fact 5: js sends its header and the first proposal together, py its header only."""
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *ends: came.set_result(ends), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = [*js, "dial", "noise"] if peer == "js" else [*py, "dial"]
    async with server, dialler(command, f"/ip4/127.0.0.1/tcp/{port}/p2p/{ANN.peer_id}"):
        reader, writer = await came
        assert await reader.readexactly(20) == encode_message(HEADER)
        proposal = asyncio.create_task(reader.readexactly(8))
        done, _ = await asyncio.wait({proposal}, timeout=2 if waits else 20)
        assert bool(done) is not waits
        writer.write(encode_message(HEADER))
        assert await proposal == encode_message("/noise")
        writer.close()
        await writer.wait_closed()


async def test_js_sends_its_muxers_in_the_noise_payload(
    monkeypatch: pytest.MonkeyPatch, listeners: dict[str, PeerEvent]
) -> None:
    """Fact 6."""
    seen: list[bytes] = []
    check = noise_module.check_payload

    def spy(content: bytes, static_key: bytes, expected: PeerId | None) -> PeerId:
        seen.append(content)
        return check(content, static_key, expected)

    monkeypatch.setattr(noise_module, "check_payload", spy)
    async with KINDS["noise"](CALLER) as host:
        for name in ("js-noise", "py-noise"):
            peer = await host.dial(listeners[name]["address"])
            assert await host.ping(peer) > 0
    assert [b"/yamux/1.0.0" in payload for payload in seen] == [True, False]


async def test_the_first_read_of_a_refused_client_fails(
    monkeypatch: pytest.MonkeyPatch, listeners: dict[str, PeerEvent]
) -> None:
    """Fact 7."""
    lie = make_certificate(ANN, b"of no use")
    monkeypatch.setattr(tls_module, "make_certificate", lambda identity: lie)
    secured: list[object] = []

    class Noted(tls_module.TlsChannel):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            secured.append(self)

    monkeypatch.setattr(tls_module, "TlsChannel", Noted)
    async with KINDS["tls"](CALLER) as host:
        with pytest.raises(HandshakeError) as caught:
            await host.dial(listeners["js-tls"]["address"])
    assert secured, "the client's side of the handshake succeeded"
    assert isinstance(caught.value.__cause__, ChannelError | ConnectionError)


async def test_js_refuses_the_tls_certificate_of_py_and_we_accept_it(js: list[str], py: list[str]) -> None:
    """Fact 8. js reports that the libp2p extension is missing; it is there, after two others, and valid."""
    with listener(py, "listen-default") as ready:
        async with dialler([*js, "dial", "tls"], ready["address"]) as process:
            with pytest.raises(RuntimeError, match="libp2p public key extension"):
                await events(process)
        async with KINDS["tls"](CALLER) as host:
            peer = await host.dial(ready["address"])
            assert host.connection(peer).channel.name == "/tls/1.0.0" and str(host.remote_id(peer)) == ready["peer"]
            assert await host.ping(peer) > 0 and await echoed(host, peer, 4 * MIB)


def test_every_peer_listens_on_port_0(listeners: dict[str, PeerEvent]) -> None:
    """Fact 9: a fixed port would be in use on some machine."""
    for path in Path(__file__).parent.rglob("peer.*"):
        assert set(re.findall(r"/tcp/(\d+)", path.read_text(encoding="utf-8"))) == {"0"}
    ports = {ready["address"].split("/")[4] for ready in listeners.values()}
    assert len(ports) == len(listeners) and "0" not in ports
