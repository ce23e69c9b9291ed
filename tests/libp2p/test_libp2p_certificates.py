"""Certificates of libp2p's TLS: what proves an identity, and what is refused."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pea2pea.libp2p import PeerIdentityError
from pea2pea.libp2p.certificates import check_certificate, make_certificate
from support.libp2p import ANN, BOB


def test_a_certificate_proves_the_identity_it_was_made_for_and_no_other() -> None:
    good, _ = make_certificate(ANN)
    assert check_certificate(good) == ANN.peer_id
    with pytest.raises(PeerIdentityError, match=f"expected the peer {BOB.peer_id}"):
        check_certificate(good, BOB.peer_id)


def test_a_malformed_or_copied_extension_is_refused() -> None:
    extension = make_certificate(ANN)[0].extensions[0].value.public_bytes()
    malformed = [b"", extension[:-1], extension + b"x", b"\x30\x80" + extension[2:], b"0" * 9000, b"\x30\x00"]
    for content in (*malformed, extension):
        with pytest.raises(PeerIdentityError):
            check_certificate(make_certificate(ANN, content)[0])


def certificate(
    *, days: tuple[int, int] = (-1, 1), extension: x509.ExtensionType | None = None, self_signed: bool = True
) -> x509.Certificate:
    """Make an invalid certificate."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    first, last = (now + datetime.timedelta(days=number) for number in days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, first, last)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key if self_signed else other, hashes.SHA256())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (certificate(days=(-2, -1)), "expired"),
        (certificate(days=(1, 2)), "not valid yet"),
        (certificate(self_signed=False), "not self-signed"),
        (certificate(), "lacks the libp2p"),
        (certificate(extension=x509.BasicConstraints(ca=False, path_length=None)), "lacks the libp2p"),
    ],
)
def test_an_invalid_certificate_is_refused_with_the_reason(bad: x509.Certificate, why: str) -> None:
    with pytest.raises(PeerIdentityError, match=why):
        check_certificate(bad)
