"""Peer ids, keys, key files and multiaddrs.

The keys and ids of the specification are the examples in libp2p's peer-ids specification.
"""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Addr
from pea2pea.errors import DecodeError
from pea2pea.keyfile import write_private
from pea2pea.libp2p import (
    Host,
    Identity,
    IdentityFileError,
    KeyKindError,
    MalformedAddressError,
    MalformedKeyError,
    Multiaddr,
    PeerId,
    PublicKey,
    schema,
)
from pea2pea.libp2p.peer_id import ECDSA, ED25519, MAX_FILE, RSA, SECP256K1, base58_decode, base58_encode
from pea2pea.libp2p.varint import decode_varint, encode_varint

PRIVATE = (
    "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
PUBLIC = "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
SECP256K1_PUBLIC = "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99"
ECDSA_PUBLIC = (
    "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab44abf3161f162a4bc9"
    "01d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62"
)
ID = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
HASHED = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
HASHED_CID = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"

peer_ids = st.one_of(
    st.binary(min_size=1, max_size=42).map(lambda key: PeerId(bytes((0, len(key))) + key)),
    st.binary(min_size=32, max_size=32).map(lambda digest: PeerId(b"\x12\x20" + digest)),
)


# Varints


@given(st.integers(0, 2**63 - 1), st.binary())
def test_varint_round_trip(number: int, after: bytes) -> None:
    encoded = encode_varint(number)
    assert decode_varint(encoded + after) == (number, len(encoded))


@pytest.mark.parametrize("data", ["", "80", "8000", "ffffffffffffffffff01", "ff" * 20])
def test_a_malformed_varint_is_refused(data: str) -> None:
    with pytest.raises(DecodeError):
        decode_varint(bytes.fromhex(data))


# Keys


def test_the_keys_of_the_specification() -> None:
    identity = Identity.from_bytes(bytes.fromhex(PRIVATE))
    assert identity.public_key.encoded.hex() == PUBLIC
    assert identity.to_bytes().hex() == PRIVATE
    assert PublicKey(bytes.fromhex(SECP256K1_PUBLIC)).kind == SECP256K1
    assert PublicKey(bytes.fromhex(ECDSA_PUBLIC)).kind == ECDSA


def test_signatures_of_each_kind_of_key_are_verified() -> None:
    data = b"signed"
    rsa_key = rsa.generate_private_key(65537, 2048)
    curves = {ECDSA: ec.generate_private_key(ec.SECP256R1()), SECP256K1: ec.generate_private_key(ec.SECP256K1())}
    info = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    point = curves[SECP256K1].public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    encoded = {
        RSA: rsa_key.public_key().public_bytes(*info),
        ECDSA: curves[ECDSA].public_key().public_bytes(*info),
        SECP256K1: point,
    }
    signatures = {kind: key.sign(data, ec.ECDSA(hashes.SHA256())) for kind, key in curves.items()}
    signatures[RSA] = rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    for kind, public in encoded.items():
        key = PublicKey(schema.encode("PublicKey", type=kind, data=public))
        assert key.verify(signatures[kind], data)
        assert not key.verify(signatures[kind], data + b"!")
        assert not key.verify(signatures[kind][:-1], data)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff",
        schema.encode("PublicKey", type=ED25519),
        schema.encode("PublicKey", data=bytes(32)),
        schema.encode("PublicKey", type=ED25519, data=bytes(31)),
        schema.encode("PublicKey", type=SECP256K1, data=bytes(33)),
        schema.encode("PublicKey", type=ECDSA, data=b"0"),
        schema.encode("PublicKey", type=RSA, data=bytes(200)),
        schema.encode("PublicKey", type=RSA, data=bytes.fromhex(ECDSA_PUBLIC)[4:]),
        schema.encode("PublicKey", type=4, data=bytes(32)),
    ],
)
def test_a_malformed_public_key_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedKeyError):
        PublicKey(encoded)


def test_an_rsa_key_that_is_too_small_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()
    data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(MalformedKeyError):
        PublicKey(schema.encode("PublicKey", type=RSA, data=data))


def test_an_identity_round_trip_does_not_expose_the_key() -> None:
    identity = Identity.generate()
    private = identity.to_bytes()
    again = Identity.from_bytes(private)
    assert again.peer_id == identity.peer_id
    assert again.public_key == identity.public_key and hash(again.public_key) == hash(identity.public_key)
    assert identity.public_key.verify(again.sign(b"x"), b"x")
    assert private.hex()[8:40] not in repr(identity) + repr(vars(type(identity)))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(identity)


@pytest.mark.parametrize("private", [b"", b"\xff", bytes.fromhex(PUBLIC), bytes.fromhex(PRIVATE)[:-1] + b"\0"])
def test_a_malformed_private_key_is_refused_and_not_shown(private: bytes) -> None:
    with pytest.raises(MalformedKeyError) as caught:
        Identity.from_bytes(private)
    assert repr(private) not in str(caught.value)


# Files


def test_an_identity_is_saved_for_its_owner_only_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    identity = Identity.load_or_make(path)
    assert Identity.load_or_make(path).peer_id == Identity.load(path).peer_id == identity.peer_id
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
    other = Identity.generate()
    with pytest.raises(FileExistsError):
        other.save(path)
    assert Identity.load(path).peer_id == identity.peer_id
    other.save(path, replace=True)
    loaded = Identity.load(path)
    assert loaded.peer_id == other.peer_id and other.public_key.verify(loaded.sign(b"x"), b"x")
    assert os.listdir(tmp_path) == ["host.key"]
    with pytest.raises(FileNotFoundError):
        Identity.load(tmp_path / "none")


def test_the_file_has_the_format_of_other_implementations(tmp_path: Path) -> None:
    """A file holds the protobuf form of the private key, and nothing else."""
    path = tmp_path / "host.key"
    Identity.from_bytes(bytes.fromhex(PRIVATE)).save(path)
    assert path.read_bytes().hex() == PRIVATE
    seed_and_public = bytes.fromhex(PRIVATE)[4:]
    older = schema.encode("PrivateKey", type=ED25519, data=seed_and_public + seed_and_public[32:])
    write_private(path, older, replace=True)
    assert Identity.load(path).to_bytes().hex() == PRIVATE


def test_programs_that_create_a_file_at_once_get_one_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first, second = tmp_path / "host.key", Identity.generate(), Identity.generate()

    def lose_the_race() -> Identity:
        first.save(path)
        return second

    monkeypatch.setattr(Identity, "generate", lose_the_race)
    assert Identity.load_or_make(path).peer_id == first.peer_id


@pytest.mark.skipif(os.name != "posix", reason="files have no POSIX modes")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "host.key"
    Identity.generate().save(path)
    path.chmod(mode)
    for load in (Identity.load, Identity.load_or_make):
        with pytest.raises(IdentityFileError, match="others can use it") as caught:
            load(path)
        assert isinstance(caught.value, OSError) and not isinstance(caught.value, KeyKindError)
    with pytest.raises(IdentityFileError, match="not a file"):
        Identity.load(tmp_path)


def test_a_file_that_is_damaged_anywhere_is_refused_and_not_shown(tmp_path: Path) -> None:
    """Truncated or altered at any byte. The public key beside it detects an altered private key."""
    path, good = tmp_path / "host.key", bytes.fromhex(PRIVATE)
    damaged = [good[:cut] for cut in range(len(good))] + [good + b"\n", good + bytes(MAX_FILE), good * 200]
    damaged += [good[:at] + bytes((good[at] ^ 0x41,)) + good[at + 1 :] for at in range(len(good))]
    for content in damaged:
        write_private(path, content, replace=True)
        with pytest.raises(IdentityFileError) as caught:
            Identity.load(path)
        shown = "".join(traceback.format_exception(caught.value))
        assert str(path) in str(caught.value) and "cause" not in shown and "During" not in shown
        assert PRIVATE[8:24] not in shown and repr(good[4:12])[2:-1] not in shown


@pytest.mark.parametrize(("kind", "name"), [(RSA, "RSA"), (SECP256K1, "secp256k1"), (ECDSA, "ECDSA"), (9, "unknown")])
def test_a_key_of_another_kind_is_refused_with_its_kind(tmp_path: Path, kind: int, name: str) -> None:
    path, encoded = tmp_path / "host.key", schema.encode("PrivateKey", type=kind, data=bytes(32))
    write_private(path, encoded)
    with pytest.raises(KeyKindError, match=f"host.key: expected an Ed25519 private key, got one of the kind {name}"):
        Identity.load(path)
    with pytest.raises(KeyKindError, match=name) as caught:
        Identity.from_bytes(encoded)
    assert isinstance(caught.value, MalformedKeyError) and isinstance(caught.value, IdentityFileError)


def test_no_repr_shows_a_private_key() -> None:
    identity = Identity.generate()
    host = Host(identity=identity)
    shown = "".join(map(repr, (identity, identity.public_key, identity.peer_id, host, [identity], {1: identity})))
    assert str(identity) == repr(identity) == f"<Identity {identity.peer_id}>"
    for secret in (identity.to_bytes(), identity.to_bytes()[4:36]):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown


# Ids


def test_the_ids_of_the_specification() -> None:
    assert str(PeerId.parse(ID)) == ID
    assert PeerId.parse(HASHED).cid == HASHED_CID
    assert PeerId.parse(HASHED_CID) == PeerId.parse(HASHED)
    assert PeerId.parse(HASHED).public_key is None


@given(peer_ids)
def test_peer_id_round_trip_in_both_text_forms(peer_id: PeerId) -> None:
    assert PeerId.parse(peer_id.cid) == peer_id
    assert PeerId.parse("z" + base58_encode(b"\x01\x72" + peer_id.multihash)) == peer_id
    if str(peer_id).startswith(("1", "Qm")):
        assert PeerId.parse(str(peer_id)) == peer_id


def test_a_small_key_is_part_of_its_id() -> None:
    key = PublicKey(bytes.fromhex(PUBLIC))
    assert key.peer_id.public_key == key
    assert PublicKey(bytes.fromhex(ECDSA_PUBLIC)).peer_id.multihash[:2] == b"\x12\x20"


@given(st.binary())
def test_base58_round_trip(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


@pytest.mark.parametrize(
    "text",
    ["", "x", "1", "12D3", "1" * 200, "Qm0", "QmOl", "b", "bafz", HASHED_CID.upper(), "B" + HASHED_CID[1:], "z1",
     HASHED_CID[:-1], "baeaaa", HASHED + "1", "b1"],
)
def test_malformed_text_is_not_a_peer_id(text: str) -> None:
    with pytest.raises(MalformedAddressError):
        PeerId.parse(text)


@given(st.binary(max_size=50))
def test_any_bytes_are_a_peer_id_or_refused(data: bytes) -> None:
    try:
        peer_id = PeerId(data)
    except MalformedAddressError:
        return
    assert peer_id.multihash == data and PeerId.parse(peer_id.cid) == peer_id


# Multiaddrs


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("/ip4/127.0.0.1/tcp/4001", "047f000001060fa1"),
        ("/ip6/::1/udp/1/quic-v1", "290000000000000000000000000000000191020001cd03"),
        ("/dns4/example.com/tcp/443/wss", "360b6578616d706c652e636f6d0601bbde03"),
        ("/p2p/" + HASHED, "a503221220" + PeerId.parse(HASHED).multihash[2:].hex()),
        ("/p2p-circuit", "a202"),
    ],
)
def test_a_multiaddr_as_text_and_bytes(text: str, data: str) -> None:
    """The protocol codes come from the multicodec table."""
    address = Multiaddr.parse(text)
    assert address.to_bytes().hex() == data
    assert Multiaddr.from_bytes(bytes.fromhex(data)) == address
    assert str(address) == text and text in repr(address)


parts = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: ("ip4", str(ip))),
    st.ip_addresses(v=6).map(lambda ip: ("ip6", str(ip))),
    st.integers(0, 65535).map(lambda port: ("tcp", str(port))),
    st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True).map(lambda name: ("dns", name)),
    peer_ids.filter(lambda p: str(p).startswith(("1", "Qm"))).map(lambda p: ("p2p", str(p))),
    st.binary(min_size=1, max_size=30).map(lambda b: Multiaddr.from_bytes(b"\xd2\x03" + bytes((len(b),)) + b).parts[0]),
    st.sampled_from([("ws", None), ("tls", None), ("quic", None), ("webtransport", None), ("p2p-circuit", None)]),
)


@given(st.lists(parts, min_size=1, max_size=6))
def test_multiaddr_round_trip(of: list[tuple[str, str | None]]) -> None:
    address = Multiaddr(tuple(of))
    assert Multiaddr.parse(str(address)) == address
    assert Multiaddr.from_bytes(address.to_bytes()) == address


@given(st.binary(max_size=60))
def test_any_bytes_are_a_multiaddr_or_refused(data: bytes) -> None:
    try:
        address = Multiaddr.from_bytes(data)
    except MalformedAddressError:
        return
    assert Multiaddr.from_bytes(address.to_bytes()) == address


@given(st.text(max_size=60).map(lambda text: "/" + text))
def test_any_text_is_a_multiaddr_or_refused(text: str) -> None:
    try:
        address = Multiaddr.parse(text)
    except MalformedAddressError:
        return
    assert Multiaddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "ip4/1.2.3.4", "/ip4", "/ip4/1.2.3", "/ip4/::1", "/ip6/1.2.3.4", "/ip6/fe80::1%eth0", "/tcp/65536", "/tcp/-1",
     "/tcp/x", "/what/1", "/dns/", "/p2p/1", "/certhash/x", "/", "/" + "x" * 2000],
)
def test_malformed_text_is_not_a_multiaddr(text: str) -> None:
    with pytest.raises(MalformedAddressError):
        Multiaddr.parse(text)


def test_too_many_bytes_are_not_a_multiaddr() -> None:
    with pytest.raises(MalformedAddressError):
        Multiaddr.from_bytes(b"\xa2\x02" * 600)


def test_the_address_and_peer_id_of_a_multiaddr() -> None:
    address = Multiaddr.of(f"/ip4/127.0.0.1/tcp/4001/ipfs/{ID}/")
    assert address.addr == Addr("127.0.0.1", 4001)
    assert str(address.peer_id) == ID
    assert Multiaddr.of(address) is address
    other = PeerId.parse(HASHED)
    assert address.with_peer(other).peer_id == other
    assert Multiaddr.of_addr(Addr("::1", 1), other) == Multiaddr.parse(f"/ip6/::1/tcp/1/p2p/{HASHED}")
    assert str(Multiaddr.of_addr(Addr("example.com", 1))) == "/dns/example.com/tcp/1"
    assert Multiaddr.parse("/dns4/example.com/tcp/1").peer_id is None


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1/ws", "/tcp/1/ip4/1.2.3.4"])
def test_only_tcp_is_dialled(text: str) -> None:
    with pytest.raises(MalformedAddressError):
        _ = Multiaddr.parse(text).addr
