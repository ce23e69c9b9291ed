"""The programs in docs/: each page's run in their order, in one namespace, as a reader would type them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from pea2pea import Decoder, DisconnectReason, Encoder, Node, OnDisconnect, Origin, Peer, Reading, Writing
from pea2pea.errors import DecodeError, FrameTooLargeError
from pea2pea.libp2p import Host, Identity
from pea2pea.tls import TlsConfig, TlsNetwork
from pea2pea.tls.certificates import load_identity
from support import Recorder

pytestmark = pytest.mark.loop("tcp")

DOCS = Path(__file__).parents[2] / "docs"


class Page:
    """Its programs, what they named, and the lines that they printed."""

    def __init__(self, name: str) -> None:
        text = (DOCS / name).read_text(encoding="utf-8")
        # No port of the reader's is taken on this machine.
        text = re.sub(r"(listen=\"(?:127\.0\.0\.1|0\.0\.0\.0)):\d+", r"\1:0", text)
        self.programs = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.printed: Recorder[tuple[Any, ...]] = Recorder()
        # A dataclass looks up the module that it is defined in.
        module = sys.modules[name] = ModuleType(name)
        self.names: dict[str, Any] = vars(module)
        self.names["print"] = self._print

    def _print(self, *values: Any) -> None:
        self.printed.add(values)

    async def run(self) -> None:
        for number, program in enumerate(self.programs):
            where = f"{self.names['__name__']}:{number}"
            running = eval(compile(program, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), self.names)
            if inspect.isawaitable(running):
                await running


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_page_with_a_program_is_run_here() -> None:
    pages = {path.name for path in DOCS.glob("*.md") if "```python" in path.read_text(encoding="utf-8")}
    assert pages == {"noise.md", "tls.md", "libp2p.md", "testing.md", "codecs.md"}


async def test_noise() -> None:
    page = Page("noise.md")
    await page.run()
    chat, named = page.names["Chat"], page.names["Named"]
    page.printed.items.clear()
    async with chat(listen="127.0.0.1:0") as ann, chat() as bob:
        peer = await bob.connect(ann.listening_addr)
        await bob.send(peer, b"hello")
        assert await page.printed.count(1) == [(chat.key.public.hex(), b"hello")]
    page.printed.items.clear()
    datagrams = page.names["Datagrams"]
    async with datagrams(listen="127.0.0.1:0") as ann, datagrams() as bob:
        peer = await bob.connect(ann.listening_addr)
        await bob.send(peer, b"")
        assert await page.printed.count(1) == [(chat.key.public.hex(), b"")]
    page.printed.items.clear()
    async with named(listen="127.0.0.1:0", name="ann") as ann, named(name="bob") as bob:
        peer = await bob.connect(ann.listening_addr)
        assert sorted(await page.printed.count(2)) == [("this is", "ann"), ("this is", "bob")]
        await bob.send(peer, b"hello")
        assert (await page.printed.count(3))[2] == (chat.key.public.hex(), b"hello")


async def test_tls(directory: Path) -> None:
    page = Page("tls.md")
    await page.run()
    node, network, ann = page.names["node"], page.names["network"], page.names["ann"]
    listener = page.names["Listener"]
    assert load_identity("authority.pem") == page.names["authority"] and load_identity("ann.pem") == ann
    assert load_identity("me.pem") == page.names["me"]
    assert set(os.listdir(directory)) == {"me.pem", "authority.pem", "mesh.pem", "ann.pem"}
    mine = TlsNetwork(TlsConfig(certificate="me.pem", trusted_pem=page.names["known"], check_name=False))
    async with node, listener(network=mine) as caller:
        peer = await caller.connect(f"127.0.0.1:{node.listening_addr.port}")
        assert peer.session.node_id == page.names["me"].node_id
    async with listener(listen="127.0.0.1:0", network=network) as one, listener(network=network) as other:
        peer = await other.connect(one.listening_addr)
        assert peer.session.node_id == ann.node_id
    device, pinned = page.names["device"], page.names["pinned"]
    theirs = TlsNetwork(TlsConfig(certificate="ann.pem", pinned={page.names["me"].node_id}))
    async with listener(listen="127.0.0.1:0", network=device) as one:
        async with listener(network=theirs) as other:
            await other.connect(one.listening_addr)
            ((_, said, fingerprint),) = await page.printed.count(1)
            assert said == "is not a known device:"
        pinned.add(fingerprint)
        async with listener(network=theirs) as other:
            peer = await other.connect(one.listening_addr)
            assert peer.session.node_id == page.names["me"].node_id
    mail = page.names["Mail"]
    async with mail(listen="127.0.0.1:0") as one, mail() as other:
        peer = await other.connect(one.listening_addr)
        assert peer.session.node_id == page.names["me"].node_id


async def test_libp2p() -> None:
    page = Page("libp2p.md")
    await page.run()
    assert page.printed.items[0] == (b"HELLO",)
    seconds, told = page.printed.items[1]
    assert seconds > 0 and "/shout/1.0.0" in told.protocols
    host = page.names["host"]
    assert isinstance(host, Host) and host.peer_id == Identity.load("host.key").peer_id


def test_testing() -> None:
    page = Page("testing.md")
    asyncio.run(page.run())
    page.names["test_idle_peers_are_disconnected_after_an_hour"]()


@pytest.mark.expects_errors
async def test_codecs() -> None:
    page = Page("codecs.md")
    await page.run()
    unpack, pack, most = page.names["Unpack"], page.names["Pack"], page.names["MAX"]

    class Sender(Node, Writing[bytes]):
        def encoder(self, peer: Peer) -> Encoder[bytes]:
            return cast(Encoder[bytes], pack())

    class Receiver(Node, Reading[bytes], OnDisconnect):
        def decoder(self, peer: Peer) -> Decoder[bytes]:
            return cast(Decoder[bytes], unpack())

        async def process_message(self, peer: Peer, message: bytes) -> None:
            received.add(message)

        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            ended.add(reason)

    received: Recorder[bytes] = Recorder()
    ended: Recorder[DisconnectReason] = Recorder()
    messages = [b"", b"a", bytes(range(256)) * (4 << 10), b"b" * most, b"c"]
    async with Receiver(listen="127.0.0.1:0") as receiver, Sender() as sender:
        assert receiver.listening_addr is not None
        peer = await sender.connect(receiver.listening_addr)
        for message in messages:
            await sender.send(peer, message)
        assert await received.count(len(messages)) == messages
        await sender.send(peer, b"d" * (most + 1))
        assert (await ended.count(1))[0].origin is Origin.READING
    good = pack().encode([b"good"])
    assert unpack().decode(memoryview(b"".join([*good, b"garbage"]))) == ([b"good"], len(b"".join(good)))
    for wrong, error in ((b"garbage", DecodeError), (b"PP\xff\xff\xff\xff", FrameTooLargeError)):
        with pytest.raises(error):
            unpack().decode(memoryview(wrong))
