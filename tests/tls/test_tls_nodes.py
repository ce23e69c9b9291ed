"""Nodes over TLS: which peers are accepted, which are refused and why; all else works as over any network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pea2pea import (
    ConfigError,
    DisconnectReason,
    HandshakeError,
    LengthDelimited,
    NotConnectedError,
    Origin,
    Peer,
    Settings,
)
from pea2pea.errors import DialError, UsageError
from pea2pea.identity import DuplicateError, OnePerPeer
from pea2pea.network import Network
from pea2pea.tls import (
    AlpnError,
    ExpiredError,
    NoCertificateError,
    NotAllowedError,
    NotTlsError,
    NotYetValidError,
    PeerAlertError,
    RefusedByPeerError,
    SelfSignedError,
    TlsCutError,
    TlsError,
    TlsNetwork,
    UnknownAuthorityError,
    WrongNameError,
    tls_session,
)
from pea2pea.tls.certificates import Identity
from support import StreamEndpoint, accept, listening, turns
from support.node import CALLER, OPEN, Witness, address, check_idle, logged, settled, transport_of
from support.tls import Networks, Secure, context_of, expired, issued, not_yet_valid


@pytest.fixture
def networks(tmp_path: Path, net: Network) -> Networks:
    return Networks(tmp_path, net)


@asynccontextmanager
async def pair(
    calling: TlsNetwork, called: TlsNetwork, kind: type[Witness] = Secure
) -> AsyncIterator[tuple[Witness, Witness, Peer, Peer]]:
    """A node that dialled, one that was dialled, and each one's peer."""
    async with kind(OPEN, called) as right, kind(CALLER, calling) as left:
        there = await left.connect(address(right))
        (here,) = await right.met.count(1)
        yield left, right, there, here


# What works


async def test_each_session_has_the_id_of_the_other_side(networks: Networks) -> None:
    ann, bob = issued(name="ann"), issued(name="bob", kind="p256")
    async with pair(networks(ann), networks(bob)) as (_, _, there, here):
        assert (there.session.node_id, here.session.node_id) == (bob.node_id, ann.node_id)
        assert there.session.version == here.session.version == "TLSv1.3"
        assert there.session.cipher.startswith("TLS_")
        assert there.session.details["subject"] == ((("commonName", "bob"),),)
        assert there.session == tls_session(there)
        assert there.session.alpn is None


async def test_self_signed_certificates_can_be_trusted_one_by_one(networks: Networks) -> None:
    ann, bob = Identity.make(), Identity.make()
    calling, called = networks(ann, bob, check_name=False), networks(bob, ann)
    async with pair(calling, called) as (_, _, there, here):
        assert (there.session.node_id, here.session.node_id) == (bob.node_id, ann.node_id)


async def test_messages_of_all_sizes_arrive_whole_both_ways(networks: Networks) -> None:
    sizes = (0, 1, 16_383, 16_384, 16_385, 300_000, 1_000_000)
    messages = [bytes([n % 251]) * size for n, size in enumerate(sizes)] * 2
    async with pair(networks(issued(name="ann")), networks(issued(name="bob"))) as (left, right, there, here):
        for node, peer, other in ((left, there, right), (right, here, left)):
            for message in messages:
                await node.send(peer, message)
            await node.flush(peer)
            got = await other.got.count(len(messages))
            assert [message for _, message in got] == messages
        assert there.stats.bytes_sent == there.stats.bytes_received == sum(map(len, messages)) + 4 * len(messages)


async def test_the_last_message_of_a_leaving_node_arrives(networks: Networks) -> None:
    async with pair(networks(issued(name="ann")), networks(issued(name="bob"))) as (left, right, there, here):
        for node, peer, other in ((left, there, right),):
            await node.send(peer, bytes(200_000))
            node.send_nowait(peer, b"bye")
            assert await node.disconnect(peer)
            assert (await other.got.count(2))[-1] == (here, b"bye")
        assert (await right.left.count(1))[0][1].exception is None
        with pytest.raises(NotConnectedError):
            left.send_nowait(there, b"too late")
        await settled(left)


async def test_a_slow_reader_pauses_the_sender(networks: Networks) -> None:
    async with pair(networks(issued(name="ann")), networks(issued(name="bob"))) as (left, right, there, _):
        right.gates["process_message"].close()

        async def send_all() -> None:
            for _ in range(600):
                await left.send(there, bytes(64 * 1024))
            await left.flush(there)

        sending = asyncio.create_task(send_all())
        await right.gates["process_message"].reached.count(1)
        await turns(200)
        assert not sending.done()
        right.gates["process_message"].open()
        await sending
        await right.got.count(600)
        assert transport_of(there).get_write_buffer_size() == 0


async def test_tls_session_needs_no_handshake_of_the_node(networks: Networks) -> None:
    bob = issued(name="bob")
    async with pair(networks(issued(name="ann")), networks(bob), Witness) as (_, _, there, _):
        assert there.session is None
        assert tls_session(there).node_id == bob.node_id


@pytest.mark.expects_errors
async def test_a_connection_without_tls_has_no_session(net: Network) -> None:
    async with Secure(OPEN, net) as right, Witness(CALLER, net) as left:
        peer = await left.connect(address(right))
        with pytest.raises(UsageError, match="TlsNetwork"):
            tls_session(peer)
        await settled(right)


async def test_application_protocols_are_agreed_on(networks: Networks) -> None:
    calling = networks(issued(name="ann"), alpn=("chess/2", "chess/1"))
    async with pair(calling, networks(issued(name="bob"), alpn=("chess/1",))) as (_, _, there, here):
        assert there.session.alpn == here.session.alpn == "chess/1"


async def test_a_dialler_needs_no_certificate_without_mutual(networks: Networks) -> None:
    async with pair(networks(None), networks(issued(name="bob"), mutual=False)) as (_, _, there, here):
        assert there.session.node_id == issued(name="bob").node_id
        assert here.session.node_id is None and here.session.certificate is None


async def test_tls_1_2_is_used_only_if_it_is_allowed(networks: Networks) -> None:
    old = {"minimum_version": ssl.TLSVersion.TLSv1_2}
    called = networks(issued(name="bob"), **old)
    context_of(called, server=True).maximum_version = ssl.TLSVersion.TLSv1_2
    async with pair(networks(issued(name="ann"), **old), called) as (left, right, there, _):
        assert there.session.version == "TLSv1.2"
        await left.send(there, b"hello")
        await right.got.count(1)
    async with Secure(OPEN, called) as node:
        await refused(networks(issued(name="ann")), node, PeerAlertError, TlsError)


async def test_data_that_arrives_with_the_end_of_the_handshake_is_not_lost(networks: Networks) -> None:
    """The dialler's first bytes come in one read with the end of its handshake."""
    called = networks(issued(name="bob"))
    async with Secure(OPEN, called) as node:
        tls = Bare(context_of(networks(issued(name="ann"))))
        endpoint = StreamEndpoint()
        await networks.below.dial(node.listening_addr, endpoint)  # type: ignore[arg-type]
        await tls.shake_hands(endpoint)
        (first,) = LengthDelimited().encode([b"early"])
        tls.tls.write(first)
        endpoint.transport.write(tls.outgoing.read())
        assert (await node.got.count(1))[0][1] == b"early"
        await endpoint.aclose()
        await node.left.count(1)


class Bare:
    """A dialler's TLS whose bytes a test moves by hand."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def step(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def shake_hands(self, endpoint: StreamEndpoint) -> None:
        """Up to this side's last message, which stays in ``outgoing``."""
        seen = 0
        while not self.step():
            endpoint.transport.write(self.outgoing.read())
            data = await endpoint.until_data(seen + 1)
            self.incoming.write(data[seen:])
            seen = len(data)


# Refusals


async def refused(calling: TlsNetwork, node: Witness, there: type[Exception], here: type[Exception] | None) -> Any:
    """Dial ``node``, and show that both sides say why it comes to nothing; the dialler's exception is returned.

    ``there`` is what the dialler says. Where it is a refusal by the peer it may be told on the first read.
    """
    with logged() as lines:
        async with Secure(CALLER, calling) as left:
            if here is not None and issubclass(there, RefusedByPeerError):
                peer = await left.connect(address(node))
                ((gone, reason),) = await left.left.count(1)
                assert gone is peer and reason.origin is Origin.READING
                error: BaseException | None = reason.exception
            else:
                with pytest.raises(DialError) as caught:
                    await left.connect(address(node))
                error = caught.value.__cause__
            assert isinstance(error, there), error
            if here is not None:
                await lines.when(lambda all_: [one for one in all_ if "not let in" in one.getMessage()])
        await settled(node)
        said = [one.args for one in lines.items if "not let in" in one.getMessage()]
    if here is not None:
        cause = said[0][1].__cause__  # type: ignore[index, union-attr]
        assert isinstance(cause, here), cause
    return error


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (expired, ExpiredError),
        (not_yet_valid, NotYetValidError),
        (lambda: issued(hosts=("elsewhere.test",)), WrongNameError),
        (lambda: issued(hosts=("10.1.2.3",)), WrongNameError),
        (lambda: Identity.make_authority().issue(hosts=("127.0.0.1",)), UnknownAuthorityError),
        (lambda: Identity.make(hosts=("127.0.0.1",)), SelfSignedError),
        (lambda: issued(name="bob").issue(hosts=("127.0.0.1",)), UnknownAuthorityError),
    ],
    ids=["expired", "not-yet", "name", "address", "authority", "self-signed", "no-authority"],
)
async def test_a_listener_is_refused(networks: Networks, make: Callable[[], Identity], error: type[Exception]) -> None:
    async with Secure(OPEN, networks(make())) as node:
        found = await refused(networks(issued(name="ann")), node, error, PeerAlertError)
        assert str(found)
        check_idle(node)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (expired, ExpiredError),
        (not_yet_valid, NotYetValidError),
        (lambda: Identity.make_authority().issue(), UnknownAuthorityError),
        (lambda: Identity.make(), SelfSignedError),
        (lambda: None, NoCertificateError),
    ],
    ids=["expired", "not-yet", "authority", "self-signed", "none"],
)
async def test_a_dialler_is_refused(
    networks: Networks, make: Callable[[], Identity | None], error: type[Exception]
) -> None:
    """In TLS 1.3 it is told after its handshake, by its first read: here it is the reason why the peer left."""
    async with Secure(OPEN, networks(issued(name="bob"))) as node:
        await refused(networks(make()), node, RefusedByPeerError, error)
        check_idle(node)


async def test_a_handshake_of_the_node_gets_the_refusal_from_its_first_read(networks: Networks) -> None:
    class Curious(Secure):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            return await reader.readexactly(1)

    async with Secure(OPEN, networks(issued(name="bob"))) as node, Curious(CALLER, networks(Identity.make())) as left:
        with pytest.raises(HandshakeError) as caught:
            await left.connect(address(node))
        assert isinstance(caught.value.__cause__, RefusedByPeerError)
        assert caught.value.__cause__.alert == "unknown ca"


async def test_a_trusted_self_signed_certificate_cannot_issue_others(networks: Networks) -> None:
    """Trusting the certificate that a node signed for itself lets in that node alone."""
    bob, ann = Identity.make(), Identity.make()
    async with Secure(OPEN, networks(bob, ann)) as node:
        await refused(networks(ann.issue(), bob, check_name=False), node, RefusedByPeerError, UnknownAuthorityError)


async def test_a_peer_that_is_not_allowed_is_refused(networks: Networks) -> None:
    ann, bob, eve = issued(name="ann"), issued(name="bob"), issued(name="eve")
    welcome = {ann.node_id}
    async with Secure(OPEN, networks(bob, allowed=welcome)) as node:
        async with Secure(CALLER, networks(eve)) as left:
            with logged() as lines:
                await left.connect(address(node))
                ((_, reason),) = await left.left.count(1)
                assert reason.exception is None
                await settled(node)
            (said,) = [one.args for one in lines.items if "not let in" in one.getMessage()]
            assert isinstance(said[1].__cause__, NotAllowedError)  # type: ignore[index, union-attr]
        welcome.add(eve.node_id)  # it is looked at anew
        async with Secure(CALLER, networks(eve)) as left:
            await left.connect(address(node))
            await node.met.count(1)
            assert [peer.session.node_id for peer in node.peers] == [eve.node_id]
        await node.left.count(1)
        with_wrong_idea = networks(ann, allowed={eve.node_id})
        await refused(with_wrong_idea, node, NotAllowedError, None)


async def test_without_a_common_application_protocol_there_is_no_connection(networks: Networks) -> None:
    async with Secure(OPEN, networks(issued(name="bob"), alpn=("chess/1",))) as node:
        await refused(networks(issued(name="ann"), alpn=("go/1",)), node, AlpnError, None)
        check_idle(node)


# Peers without TLS, and silent ones


async def test_plain_text_to_a_listener(networks: Networks) -> None:
    async with Secure(OPEN, networks(issued(name="bob"))) as node:
        for text in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x05hello", b"\xff" * 300_000):
            endpoint = StreamEndpoint()
            with logged() as lines:
                await networks.below.dial(address(node), endpoint)  # type: ignore[arg-type]
                endpoint.transport.write(text)
                await endpoint.events.has("lost")
                await settled(node)
            (said,) = [one.args for one in lines.items if "not let in" in one.getMessage()]
            assert isinstance(said[1].__cause__, TlsError)  # type: ignore[index, union-attr]
        check_idle(node)


async def test_a_listener_that_speaks_plain_text(networks: Networks) -> None:
    async with (
        listening(networks.below) as listener,
        Secure(CALLER, networks(issued(name="ann"))) as node,
    ):
        dialling = asyncio.create_task(node.connect(listener.addr))
        endpoint = StreamEndpoint()
        await (await accept(listener)).open(endpoint)
        endpoint.transport.write(b"220 mail.test ESMTP\r\n")
        with pytest.raises(DialError) as caught:
            await dialling
        assert isinstance(caught.value.__cause__, NotTlsError)
        await endpoint.events.has("lost")
        check_idle(node)


async def test_a_silent_dialler_is_disconnected_and_frees_its_slot(networks: Networks) -> None:
    config = Settings(listen="127.0.0.1:0", max_connections=1, connect_timeout=0.2)
    async with Secure(config, networks(issued(name="bob"))) as node:
        endpoint = StreamEndpoint()
        await networks.below.dial(address(node), endpoint)  # type: ignore[arg-type]
        await endpoint.events.has("lost")
        await settled(node)
        check_idle(node)
        async with Secure(CALLER, networks(issued(name="ann"))) as left:
            await left.connect(address(node))


async def test_dialling_a_silent_listener_times_out(networks: Networks) -> None:
    config = Settings(connect_timeout=0.2)
    async with listening(networks.below) as listener, Secure(config, networks(issued(name="ann"))) as node:
        dialling = asyncio.create_task(node.connect(listener.addr))
        endpoint = StreamEndpoint()
        await (await accept(listener)).open(endpoint)
        with pytest.raises(DialError, match="connect_timeout"):
            await dialling
        await endpoint.events.has("lost")
        check_idle(node)


async def test_a_cancelled_dial_leaves_nothing_behind(networks: Networks) -> None:
    async with listening(networks.below) as listener, Secure(CALLER, networks(issued(name="ann"))) as node:
        dialling = asyncio.create_task(node.connect(listener.addr))
        endpoint = StreamEndpoint()
        await (await accept(listener)).open(endpoint)
        await endpoint.until_data(1)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await endpoint.events.has("lost")
        check_idle(node)


async def test_a_node_that_closes_during_handshakes_leaves_nothing_behind(networks: Networks) -> None:
    async with Secure(OPEN, networks(issued(name="bob"))) as node:
        endpoints = [StreamEndpoint() for _ in range(5)]
        for endpoint in endpoints:
            await networks.below.dial(address(node), endpoint)  # type: ignore[arg-type]
            endpoint.transport.write(b"\x16\x03\x01")
        await turns(50)
        assert node.num_connecting == 5
    for endpoint in endpoints:
        await endpoint.events.has("lost")
    check_idle(node)


async def test_an_end_without_close_notify_is_an_error(networks: Networks) -> None:
    async with pair(networks(issued(name="ann")), networks(issued(name="bob"))) as (_, right, there, _):
        wire = transport_of(there).wire  # type: ignore[attr-defined]
        wire.raw.close()
        ((_, reason),) = await right.left.count(1)
        assert isinstance(reason.exception, TlsCutError)


async def test_a_listener_needs_a_certificate(networks: Networks) -> None:
    with pytest.raises(ConfigError, match="certificate"):
        async with Secure(OPEN, networks(None)):
            pass


class One(Secure, OnePerPeer):
    """Knows its peers by their keys, and keeps one connection with each."""

    own = ""

    @property
    def own_identity(self) -> bytes:
        return bytes.fromhex(self.own)

    def identity_of(self, peer: Peer) -> bytes:
        return bytes.fromhex(peer.session.node_id)

    async def on_connect(self, peer: Peer) -> None:
        await OnePerPeer.on_connect(self, peer)
        await Secure.on_connect(self, peer)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await OnePerPeer.on_disconnect(self, peer, reason)
        await Secure.on_disconnect(self, peer, reason)


async def test_simultaneous_dials_are_resolved_to_one_connection_by_key(networks: Networks) -> None:
    ann, bob = issued(name="ann"), issued(name="bob")
    async with One(OPEN, networks(ann)) as left, One(OPEN, networks(bob)) as right:
        left.own, right.own = ann.node_id, bob.node_id
        await left.connect(address(right))
        await right.met.count(1)
        await right.connect(address(left))
        for node in (left, right):
            ((_, reason),) = await node.left.count(1)
            assert reason.exception is None or isinstance(reason.exception, DuplicateError)
        kept, other = left.peer_of(right.own_identity), right.peer_of(left.own_identity)
        assert kept is not None and other is not None
        await left.send(kept, b"still here")
        assert (await right.got.count(1))[0] == (other, b"still here")
