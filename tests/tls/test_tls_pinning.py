"""Peers that are trusted by their key or certificate: both ways, changed while the node runs."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from OpenSSL import SSL

from pea2pea import Addr, ConfigError, Peer
from pea2pea.errors import DialError
from pea2pea.network import Network
from pea2pea.tls import (
    AlpnError,
    CertificateFileError,
    CertificateRefusedError,
    NoCertificateError,
    NotAllowedError,
    NotPinnedError,
    PeerAlertError,
    RefusedByPeerError,
    TlsConfig,
    TlsNetwork,
    fingerprint_of,
    tls_session,
)
from pea2pea.tls.certificates import Identity
from pea2pea.tls.pinning import PinningContext
from support import Recorder, StreamEndpoint
from support.node import CALLER, OPEN, Witness, address, check_idle, settled
from support.tls import DAY, NOW, Networks, Secure, authority, context_of, issued
from support.tls_wire import End

ID = "0123456789abcdef" * 4
Refusal = tuple[Addr, CertificateRefusedError]


@pytest.fixture
def networks(tmp_path: Path, net: Network) -> Networks:
    return Networks(tmp_path, net)


def fingerprint(identity: Identity) -> str:
    return fingerprint_of(identity.certificate.public_bytes(Encoding.DER))


async def both_settled(left: Witness, right: Witness) -> None:
    await settled(left)
    await settled(right)


async def why_left(calling: Witness, called: Witness) -> BaseException | None:
    """Dial, and return the exception with which the peer leaves again: in TLS 1.3 a refusal comes after that."""
    before = len(calling.left.items)
    await calling.connect(address(called))
    left = await calling.left.count(before + 1)
    await both_settled(calling, called)
    return left[before][1].exception


async def meet(calling: Witness, called: Witness) -> tuple[Peer, Peer]:
    """Dial, send a message each way, and return the peer of each side."""
    before = len(called.met.items)
    there = await calling.connect(address(called))
    here = (await called.met.count(before + 1))[before]
    for node, peer, other in ((calling, there, called), (called, here, calling)):
        count = len(other.got.items)
        await node.send(peer, b"hello")
        assert (await other.got.count(count + 1))[count][1] == b"hello"
    return there, here


# The question "accept this device?"


@pytest.mark.parametrize("pin", ["node_id", "fingerprint"])
async def test_a_listener_that_was_refused_is_accepted_once_it_is_pinned(networks: Networks, pin: str) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")
    pins: set[str] = set()
    called = networks.pinned(bob, {ann.node_id})
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, pins)) as left:
        with pytest.raises(DialError) as caught:
            await left.connect(address(right))
        error = caught.value.__cause__
        assert type(error) is NotPinnedError
        assert (error.node_id, error.fingerprint) == (bob.node_id, fingerprint(bob))
        assert error.certificate == bob.certificate.public_bytes(Encoding.DER)
        assert bob.node_id in str(error) and fingerprint(bob) in str(error)
        await both_settled(left, right)
        pins.add(getattr(error, pin))
        there, here = await meet(left, right)
        assert (there.session.node_id, here.session.node_id) == (bob.node_id, ann.node_id)
        assert there.session.fingerprint == fingerprint(bob)


@pytest.mark.parametrize("pin", ["node_id", "fingerprint"])
async def test_a_dialler_that_was_refused_is_accepted_once_it_is_pinned(networks: Networks, pin: str) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")
    pins: set[str] = set()
    asked: Recorder[Refusal] = Recorder()
    called = networks.pinned(bob, pins, lambda addr, error: asked.add((addr, error)))
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        error = await why_left(left, right)
        assert type(error) is RefusedByPeerError and error.alert == "unknown ca"
        ((addr, refusal),) = await asked.count(1)
        assert addr.host == "127.0.0.1" and type(refusal) is NotPinnedError
        assert (refusal.node_id, refusal.fingerprint) == (ann.node_id, fingerprint(ann))
        assert refusal.certificate == ann.certificate.public_bytes(Encoding.DER)
        assert right.met.items == []
        check_idle(right)
        pins.add(getattr(refusal, pin))
        there, here = await meet(left, right)
        assert (there.session.node_id, here.session.node_id) == (bob.node_id, ann.node_id)


async def test_a_pin_that_is_removed_no_longer_counts(networks: Networks) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")
    pins = {ann.node_id}
    called = networks.pinned(bob, pins)
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        there, _ = await meet(left, right)
        await left.disconnect(there)
        await both_settled(left, right)
        pins.clear()
        left.left.items.clear()
        assert type(await why_left(left, right)) is RefusedByPeerError


async def test_the_ids_of_a_peer_that_is_not_allowed_are_reported_too(networks: Networks) -> None:
    asked: Recorder[Refusal] = Recorder()
    config = networks(issued(name="bob"), allowed=set()).config
    called = TlsNetwork(config, networks.below, on_refused=lambda addr, error: asked.add((addr, error)))
    ann = issued(name="ann")
    async with Secure(OPEN, called) as right, Secure(CALLER, networks(ann)) as left:
        await why_left(left, right)
        ((_, refusal),) = await asked.count(1)
        assert type(refusal) is NotAllowedError
        assert (refusal.node_id, refusal.fingerprint) == (ann.node_id, fingerprint(ann))


@pytest.mark.expects_errors
async def test_a_callback_that_raises_changes_nothing(networks: Networks, caplog: pytest.LogCaptureFixture) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")

    def fail(addr: Addr, error: CertificateRefusedError) -> None:
        raise LookupError("of the user's own")

    called = networks.pinned(bob, set(), fail)
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        assert type(await why_left(left, right)) is RefusedByPeerError
    assert "of the user's own" in caplog.text


# What a pin is about


@pytest.mark.parametrize(
    "make",
    [
        lambda: Identity.make(not_before=NOW - 2 * DAY, not_after=NOW - DAY),
        lambda: Identity.make(not_before=NOW + DAY, not_after=NOW + 2 * DAY),
        lambda: Identity.make(hosts=("elsewhere.test",)),
        lambda: Identity.make(kind="p256"),
        lambda: authority().issue(),
        lambda: Identity.make_authority(),
        lambda: Identity.make().issue(),
    ],
    ids=["expired", "not yet valid", "another name", "p256", "issued", "authority", "issued by a node"],
)
async def test_nothing_else_about_a_pinned_certificate_is_checked(
    networks: Networks, make: Callable[[], Identity]
) -> None:
    ann, bob = make(), make()
    called = networks.pinned(bob, {ann.node_id})
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        await meet(left, right)


async def test_a_key_stays_pinned_when_its_certificate_is_renewed_and_a_certificate_does_not(
    networks: Networks,
) -> None:
    ann, bob = Identity.make("ann"), authority().issue("bob")
    renewed = authority().issue("bob", key=bob.key)
    called = networks.pinned(renewed, {ann.node_id})
    async with Secure(OPEN, called) as right:
        async with Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
            await meet(left, right)
        async with Secure(CALLER, networks.pinned(ann, {fingerprint(bob)})) as left:
            with pytest.raises(DialError) as caught:
                await left.connect(address(right))
            assert type(caught.value.__cause__) is NotPinnedError
        await settled(right)


async def test_the_pin_of_an_issuer_is_not_a_pin_of_what_it_issued(networks: Networks) -> None:
    """Only the certificate of the peer itself counts, also if it sends its issuer's along."""
    ann, bob = Identity.make("ann"), issued(name="bob")
    chain = networks.save(bob, authority())
    config = TlsConfig(certificate=chain, pinned={ann.node_id})
    async with Secure(OPEN, TlsNetwork(config, networks.below)) as right:
        for pins, welcome in (({authority().node_id, fingerprint(authority())}, False), ({bob.node_id}, True)):
            async with Secure(CALLER, networks.pinned(ann, pins)) as left:
                if welcome:
                    await meet(left, right)
                    continue
                with pytest.raises(DialError) as caught:
                    await left.connect(address(right))
                assert isinstance(caught.value.__cause__, NotPinnedError)
                assert caught.value.__cause__.node_id == bob.node_id
            await settled(right)


async def test_a_dialler_without_a_certificate_is_refused(networks: Networks) -> None:
    bob = Identity.make("bob")
    asked: Recorder[Refusal] = Recorder()
    called = networks.pinned(bob, set(), lambda addr, error: asked.add((addr, error)))
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(None, {bob.node_id})) as left:
        error = await why_left(left, right)
        assert isinstance(error, RefusedByPeerError) and error.alert == "certificate required"
        ((_, refusal),) = await asked.count(1)
        assert type(refusal) is NoCertificateError and refusal.node_id is None


async def test_a_dialler_needs_no_certificate_without_mutual(networks: Networks) -> None:
    bob = Identity.make("bob")
    called = networks.pinned(bob, set(), mutual=False)
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(None, {bob.node_id})) as left:
        there, here = await meet(left, right)
        assert (there.session.node_id, here.session.node_id) == (bob.node_id, None)


async def test_pinned_and_trusted_peers_understand_each_other(networks: Networks) -> None:
    """The two libraries, each as the dialler and as the listener."""
    ann, bob = issued(name="ann"), issued(name="bob")
    networks_of_ann = [networks(ann), networks.pinned(ann, {bob.node_id}, server_name="localhost")]
    networks_of_bob = [networks(bob), networks.pinned(bob, {ann.node_id})]
    for calling in networks_of_ann:
        for called in networks_of_bob:
            async with Secure(OPEN, called) as right, Secure(CALLER, calling) as left:
                there, here = await meet(left, right)
                assert (there.session.version, here.session.cipher) == ("TLSv1.3", there.session.cipher)
                assert tls_session(there) == there.session
            await both_settled(left, right)


# TLS


async def test_application_protocols_are_agreed_on(networks: Networks) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")
    called = networks.pinned(bob, {ann.node_id}, alpn=("b", "c"))
    async with Secure(OPEN, called) as right:
        async with Secure(CALLER, networks.pinned(ann, {bob.node_id}, alpn=("a", "c"))) as left:
            there, here = await meet(left, right)
            assert there.session.alpn == here.session.alpn == "c"
        async with Secure(CALLER, networks.pinned(ann, {bob.node_id}, alpn=("a",))) as left:
            with pytest.raises(DialError) as caught:
                await left.connect(address(right))
            assert isinstance(caught.value.__cause__, AlpnError)
        await settled(right)


async def test_the_versions_of_tls_are_those_of_the_setting(networks: Networks) -> None:
    ann, bob = issued(name="ann"), issued(name="bob")
    old = networks(bob, minimum_version=ssl.TLSVersion.TLSv1_2)
    context_of(old, server=True).maximum_version = ssl.TLSVersion.TLSv1_2
    async with Secure(OPEN, old) as right:
        both = networks.pinned(ann, {bob.node_id}, minimum_version=ssl.TLSVersion.TLSv1_2)
        async with Secure(CALLER, both) as left:
            there, _ = await meet(left, right)
            assert there.session.version == "TLSv1.2"
        await settled(right)
        async with Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
            with pytest.raises(DialError) as caught:
                await left.connect(address(right))
            assert isinstance(caught.value.__cause__, PeerAlertError)
            assert caught.value.__cause__.alert == "protocol version"
        await settled(right)


async def test_messages_of_all_sizes_arrive_whole_both_ways(networks: Networks) -> None:
    ann, bob = Identity.make("ann"), Identity.make("bob")
    messages = [bytes([n]) * size for n, size in enumerate((0, 1, 16_383, 16_384, 16_385, 300_000, 3_000_000))]
    called = networks.pinned(bob, {ann.node_id})
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        there = await left.connect(address(right))
        (here,) = await right.met.count(1)
        for node, peer, other in ((left, there, right), (right, here, left)):
            for message in messages:
                await node.send(peer, message)
            await node.flush(peer)
            assert [message for _, message in await other.got.count(len(messages))] == messages


async def test_the_last_message_of_a_dialler_that_reads_nothing_arrives(networks: Networks) -> None:
    """Its session tickets would be unread when it closes, so that closing would reset the connection."""
    ann, bob = Identity.make("ann"), Identity.make("bob")
    called = networks.pinned(bob, {ann.node_id})
    async with Secure(OPEN, called) as right, Secure(CALLER, networks.pinned(ann, {bob.node_id})) as left:
        for count in range(1, 21):
            there = await left.connect(address(right))
            await left.send(there, bytes(200_000))
            left.send_nowait(there, b"last")
            assert await left.disconnect(there)
            assert (await right.got.count(2 * count))[-1][1] == b"last"
            assert (await right.left.count(count))[-1][1].exception is None
            await both_settled(left, right)


# Settings and files


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("pinned", {"pinned": ID}),
        ("pinned", {"pinned": {ID.upper()}}),
        ("pinned", {"pinned": [":".join([ID[:2]] * 32)]}),
        ("pinned", {"pinned": {ID}, "trusted": ("x.pem",)}),
        ("pinned", {"pinned": {ID}, "trusted_pem": ("x",)}),
        ("pinned", {"pinned": {ID}, "system_trust": True}),
        ("pinned", {"pinned": {ID}, "allowed": {ID}}),
        ("server_name", {"pinned": {ID}, "server_name": ""}),
    ],
)
def test_wrong_settings_are_named(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        TlsConfig(**settings)
    assert caught.value.field == field


def test_files_are_checked_as_without_pins(tmp_path: Path) -> None:
    path, other = tmp_path / "me.pem", tmp_path / "other.pem"
    identity = Identity.make()
    identity.save(path)
    Identity.make().save(other)
    assert TlsNetwork(TlsConfig(certificate=path, pinned=()))
    with pytest.raises(CertificateFileError, match="does not match"):
        TlsNetwork(TlsConfig(certificate=path, key=other, pinned=()))
    with pytest.raises(FileNotFoundError):
        TlsNetwork(TlsConfig(certificate=tmp_path / "nowhere", pinned=()))
    with pytest.raises(FileNotFoundError):
        TlsNetwork(TlsConfig(certificate=tmp_path / "nowhere", key=path, pinned=()))
    other.write_text("nonsense", encoding="utf-8")
    with pytest.raises(CertificateFileError, match=r"other\.pem: contains no certificate"):
        TlsNetwork(TlsConfig(certificate=other, pinned=()))
    other.write_bytes(
        identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        + identity.certificate_pem.encode()
    )
    with pytest.raises(CertificateFileError, match="password"):
        TlsNetwork(TlsConfig(certificate=other, pinned=()))
    path.chmod(0o644)
    with pytest.raises(CertificateFileError, match="chmod 600"):
        TlsNetwork(TlsConfig(certificate=path, pinned=()))


def test_without_pyopenssl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    monkeypatch.delitem(sys.modules, "pea2pea.tls.pinning", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'pea2pea\[tls\]'"):
        TlsNetwork(TlsConfig(pinned=()))


async def test_session_tickets_leave_with_the_first_data(tmp_path: Path, memory: Network) -> None:
    """Before, they would be unread if the dialler closes, and the reset would discard its last data."""
    make, ann, bob = Networks(tmp_path, memory), Identity.make("ann"), Identity.make("bob")
    left = End(make.pinned(ann, {bob.node_id}), StreamEndpoint(), server=False)
    right = End(make.pinned(bob, {ann.node_id}), StreamEndpoint(), server=True)
    right.feed(left.pipe.take())
    left.feed(right.pipe.take())
    left.wire.write(b"from the dialler")
    right.feed(left.pipe.take())
    assert right.endpoint.data == b"from the dialler"
    assert right.pipe.sent == []
    right.wire.write(b"x")
    sent = right.pipe.take()
    assert len(sent) > 100
    left.feed(sent)
    assert left.endpoint.data == b"x"


def test_a_certificate_that_cannot_be_parsed_is_refused(tmp_path: Path, memory: Network) -> None:
    """OpenSSL takes some that cryptography does not."""

    class Odd:
        def to_cryptography(self) -> Any:
            raise ValueError("odd")

    context = Networks(tmp_path, memory).pinned(Identity.make(), set())._listening
    assert isinstance(context, PinningContext)
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert not context._verify(tls._connection, Odd(), 18, 0, 0)
    error = tls._failure(SSL.Error([]))
    assert isinstance(error, NotPinnedError) and "odd" in str(error)
