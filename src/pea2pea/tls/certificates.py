"""Certificates for private meshes, in which a node's identity is its key. Needs ``cryptography``.

Either each node has a self-signed certificate (:meth:`Identity.make`), and the others pin its key or trust the
certificate; or the mesh has an authority (:meth:`Identity.make_authority`) that issues all certificates, and every node
trusts the authority's. A node's self-signed certificate cannot issue others, so trusting it admits that node alone.
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
except ImportError as _error:
    problem = "making certificates needs cryptography: pip install 'pea2pea[tls]'"
    raise ImportError(problem, name="cryptography") from _error

from ..errors import ConfigError
from ..keyfile import File, read_private, write_private
from .errors import CertificateFileError
from .session import node_id_of

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Kind = Literal["ed25519", "p256"]

LIFETIME: Final = datetime.timedelta(days=3650)
#: How far the clocks of two nodes may differ.
SKEW: Final = datetime.timedelta(hours=1)
#: More bytes than a key and a chain need; a larger file is refused.
MAX_FILE: Final = 64 * 1024
#: The longest common name, in characters (RFC 5280, ub-common-name).
MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and its certificate. The ``repr`` shows neither."""

    key: PrivateKey = field(repr=False, compare=False)  # the certificate contains its public key
    certificate: x509.Certificate = field(repr=False)
    #: The identity that other nodes see: the SHA-256 of the public key, in hexadecimal.
    node_id: str = field(init=False)

    def __post_init__(self) -> None:
        if self.key.public_key() != self.certificate.public_key():
            raise ConfigError("key", "does not match the certificate")
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
        """Return a new identity with a self-signed certificate.

        ``hosts`` are the DNS names and IP addresses that the certificate is valid for; a node with ``check_name`` off
        ignores them. It is valid from an hour ago for ten years, unless ``not_before`` or ``not_after`` is given.
        """
        key = new_key(kind)
        draft = _Draft(name, key, hosts=hosts, not_before=not_before, not_after=not_after)
        return cls(key, draft.signed(draft.subject, key))

    @classmethod
    def make_authority(cls, name: str = "pea2pea authority", *, kind: Kind = "ed25519") -> Identity:
        """Return a new identity that can :meth:`issue` certificates; those cannot issue further ones."""
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
        """Return a new identity whose certificate this authority issued; parameters as in :meth:`make`.

        With ``key``, it is a new certificate for the node that has that key. Peers refuse certificates that were
        issued by an identity that is not an authority.
        """
        key = key or new_key(kind)
        draft = _Draft(name, key, hosts=hosts, not_before=not_before, not_after=not_after)
        return Identity(key, draft.signed(self.certificate.subject, self.key))

    @property
    def certificate_pem(self) -> str:
        """The certificate as text, for the nodes that are to trust it. It contains no secret."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def save(self, path: File, *, replace: bool = False) -> None:
        """Write the key and the certificate to ``path``, atomically, readable by its owner only.

        Raises ``FileExistsError`` if the file exists, unless ``replace`` is set: a node that loses its key loses its
        identity. Raises ``OSError`` if it cannot be written.
        """
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, private + self.certificate_pem.encode(), replace=replace)


def load_identity(path: File) -> Identity:
    """Return the identity in the file at ``path``.

    Raises :class:`CertificateFileError` if another user owns the file or has access to it, or if it contains no
    identity, and ``OSError`` if it cannot be read.
    """
    content = read_private(path, MAX_FILE, CertificateFileError)
    problem = CertificateFileError(f"{os.fspath(path)}: contains no Ed25519 or P-256 key with its certificate")
    if len(content) > MAX_FILE:
        raise problem
    try:
        key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        if not isinstance(key, PrivateKey):
            raise problem
        return Identity(key, certificate)
    except (ValueError, TypeError):  # not the cause: its text could put parts of the key into a log
        raise problem from None


def load_or_make_identity(path: File, name: str = "pea2pea") -> Identity:
    """Return the identity in the file at ``path``; make a self-signed one if the file does not exist.

    Processes that do so at the same time get the same identity. Raises as :func:`load_identity` and
    :meth:`Identity.save`.
    """
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
    """Return a new private key. Raises :class:`~pea2pea.ConfigError` for an unknown ``kind``."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    raise ConfigError("kind", f"must be 'ed25519' or 'p256', got {kind!r}")


class _Draft:
    """A certificate before it is signed."""

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
            raise ConfigError("name", f"must have 1 to {MAX_NAME} characters, got {len(name)}")
        if isinstance(hosts, str):
            raise ConfigError("hosts", "must be a sequence of names, got a string")
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
