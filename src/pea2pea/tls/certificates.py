"""Certificates for private meshes, in which a node's identity is its key. Needs ``cryptography``.

A node signs for itself (:meth:`Identity.make`), and the others trust its certificate; or the mesh has an authority
(:meth:`Identity.make_authority`) that signs for all, and only its certificate is passed round. A certificate that a
node signed for itself can sign no other, so trusting it lets in that node and nobody else.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ImportError as error:
    problem = "making certificates needs cryptography: pip install 'pea2pea[tls]'"
    raise ImportError(problem, name="cryptography") from error

from ..errors import ConfigError
from ..keyfile import File, read_private, write_private
from .errors import CertificateFileError
from .session import node_id_of

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Kind = Literal["ed25519", "p256"]

LIFETIME: Final = datetime.timedelta(days=3650)
#: By how much clocks may differ.
SKEW: Final = datetime.timedelta(hours=1)
#: More than a key and a chain need; a larger file is not read further.
MAX_FILE: Final = 64 * 1024
#: The longest name that a certificate holds: RFC 5280, ub-common-name.
MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, and a certificate for it. Neither is in its ``repr``."""

    key: PrivateKey = field(repr=False, compare=False)  # the certificate names it
    certificate: x509.Certificate = field(repr=False)
    #: By which the others know it: the SHA-256 of its public key, in hexadecimal digits.
    node_id: str = field(init=False)

    def __post_init__(self) -> None:
        if self.key.public_key() != self.certificate.public_key():
            raise ConfigError("key", "is not the one that the certificate is for")
        object.__setattr__(self, "node_id", node_id_of(self.certificate.public_bytes(Encoding.DER)))

    @classmethod
    def make(
        cls,
        name: str = "pea2pea",
        *,
        hosts: Sequence[str] = (),
        kind: Kind = "ed25519",
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> Identity:
        """Return a new identity that signs for itself; ``hosts`` are names and addresses that it is for."""
        key = new_key(kind)
        draft = _Draft(name, key, hosts=hosts, not_before=not_before, not_after=not_after)
        return cls(key, draft.signed(draft.subject, key))

    @classmethod
    def make_authority(cls, name: str = "pea2pea authority", *, kind: Kind = "ed25519") -> Identity:
        """Return a new identity that can :meth:`issue` certificates, but to others that issue none."""
        key = new_key(kind)
        draft = _Draft(name, key, authority=True)
        return cls(key, draft.signed(draft.subject, key))

    def issue(
        self,
        name: str = "pea2pea",
        *,
        hosts: Sequence[str] = (),
        kind: Kind = "ed25519",
        key: PrivateKey | None = None,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> Identity:
        """Return a new identity that this authority signed; with ``key``, another certificate of that node.

        What one that is no authority signs, nobody accepts.
        """
        key = key or new_key(kind)
        draft = _Draft(name, key, hosts=hosts, not_before=not_before, not_after=not_after)
        return Identity(key, draft.signed(self.certificate.subject, self.key))

    @property
    def certificate_pem(self) -> str:
        """The certificate as text: what others need to trust it. Holds no secret."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def save(self, path: File, *, replace: bool = False) -> None:
        """Write key and certificate to ``path``, for its owner alone, whole or not at all.

        Raises ``FileExistsError`` where there is a file already, unless it is to be replaced: with its
        key a node loses its identity.
        """
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, private + self.certificate_pem.encode(), replace=replace)


def load_identity(path: File) -> Identity:
    """Return the identity in the file at ``path``.

    Raises :class:`CertificateFileError` where it belongs to or can be used by others, or holds none, and
    ``OSError`` where it cannot be read at all.
    """
    content = read_private(path, MAX_FILE, CertificateFileError)
    problem = CertificateFileError(f"{os.fspath(path)}: holds no key and certificate of the kinds that are made here")
    if len(content) > MAX_FILE:
        raise problem
    try:
        key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        if not isinstance(key, PrivateKey):
            raise problem
        return Identity(key, certificate)
    except (ValueError, TypeError):  # not as the cause: nothing of the content is to be in a log
        raise problem from None


def load_or_make_identity(path: File, name: str = "pea2pea") -> Identity:
    """Return the identity at ``path``, or make one there; who else does so at once gets the same. Raises as both."""
    try:
        return load_identity(path)
    except FileNotFoundError:
        made = Identity.make(name)
    try:
        made.save(path)
    except FileExistsError:
        return load_identity(path)
    return made


def new_key(kind: Kind = "ed25519") -> PrivateKey:
    """Return a new private key. Raises :class:`~pea2pea.ConfigError` for a kind that is unknown."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    raise ConfigError("kind", f"{kind!r} is neither 'ed25519' nor 'p256'")


class _Draft:
    """A certificate that is not signed yet."""

    def __init__(
        self,
        name: str,
        key: PrivateKey,
        *,
        hosts: Sequence[str] = (),
        authority: bool = False,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> None:
        if not 0 < len(name) <= MAX_NAME:
            raise ConfigError("name", f"has to have 1 to {MAX_NAME} letters")
        if isinstance(hosts, str):
            raise ConfigError("hosts", "is one name, and has to be a sequence of them")
        now = datetime.datetime.now(datetime.UTC)
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._builder = (
            x509.CertificateBuilder(subject_name=self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - SKEW)
            .not_valid_after(not_after or now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(_usage(authority=authority), critical=True)
        )
        if not authority:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            self._builder = self._builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            self._builder = self._builder.add_extension(names, critical=False)

    def signed(self, issuer: x509.Name, key: PrivateKey) -> x509.Certificate:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = self._builder.issuer_name(issuer).add_extension(authority, critical=False)
        return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
