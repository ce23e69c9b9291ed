"""How to speak TLS: whom to be, whom to trust, whom to let in. May import ssl, ``errors`` of the core
and ``keyfile``.

Nothing of it can turn a check of certificates off. A mesh in which everybody signs for himself trusts the
certificates of its members one by one, or an authority of its own: the standard ``ssl`` cannot ask a peer for a
certificate and leave the judgement to the program, so an allow-list of ids comes on top of trust, not in its place.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError
from ..keyfile import File, check_private
from .errors import AlpnError, CertificateFileError, NotAllowedError
from .session import TlsSession

ID_DIGITS: Final = 64
_VERSIONS: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_MOST_ALPN: Final = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsConfig:
    """How a node speaks TLS. Frozen; raises :class:`~pea2pea.ConfigError` when made wrong.

    Files are read when a ``TlsNetwork`` is made of it.
    """

    #: This node's certificate, and those above it, in PEM; and its private key, in the same file unless ``key`` is set.
    #: Who listens needs one, and who dials where the listener asks for it.
    certificate: File | None = None
    #: The file of the private key; its owner alone may have access.
    key: File | None = None
    #: Files of certificates in PEM that are trusted: authorities, or those of single nodes.
    trusted: tuple[File, ...] = ()
    #: The same, as text.
    trusted_pem: tuple[str, ...] = ()
    #: Trust the authorities that the system trusts, too.
    system_trust: bool = False
    #: The ids (:attr:`TlsSession.node_id`) of the nodes that are welcome among those trusted; ``None``: all. It is
    #: looked at anew for every peer.
    allowed: Collection[str] | None = None
    #: Whether who dials has to show a certificate. If not, anybody is let in.
    mutual: bool = True
    #: Whether the dialled side's certificate has to be for its name. Not in a mesh, where the key is the identity.
    check_name: bool = True
    #: The name that is dialled; without one, the certificate has to be for the IP address.
    server_name: str | None = None
    #: Application protocols, best first. Where there are any, both sides have to share one.
    alpn: tuple[str, ...] = ()
    #: The oldest version that is spoken.
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ConfigError("key", "belongs to a certificate, and there is none")
        for field in ("trusted", "trusted_pem", "alpn"):
            if not isinstance(getattr(self, field), tuple):
                raise ConfigError(field, "has to be a tuple")
        if not all(isinstance(name, str) and 0 < len(name.encode()) <= _MOST_ALPN for name in self.alpn):
            raise ConfigError("alpn", f"a protocol's name has 1 to {_MOST_ALPN} bytes")
        if self.minimum_version not in _VERSIONS:
            raise ConfigError("minimum_version", "has to be TLS 1.2 or TLS 1.3")
        if self.server_name is not None and not (self.check_name and self.server_name):
            raise ConfigError("server_name", "is empty, or not checked without check_name")
        self._check_allowed()
        if not (self.trusted or self.trusted_pem or self.system_trust):
            raise ConfigError("trusted", "is empty, so that nobody could be believed")
        if self.system_trust and not self.check_name and self.allowed is None:
            raise ConfigError("check_name", "has to be on where the whole world can get a trusted certificate")

    def _check_allowed(self) -> None:
        if isinstance(self.allowed, str):
            raise ConfigError("allowed", "is one id, and has to be a collection of them")
        for one in self.allowed or ():
            if not (isinstance(one, str) and len(one) == ID_DIGITS and set(one) <= set("0123456789abcdef")):
                raise ConfigError("allowed", f"an id has {ID_DIGITS} hexadecimal digits, in small letters")

    def check(self, tls: ssl.SSLObject) -> None:
        """Raise :class:`TlsError` unless the peer, whose certificate is trusted, is welcome."""
        session = TlsSession.of(tls)
        if self.allowed is not None and session.node_id not in self.allowed:
            raise NotAllowedError(f"the peer ({session.node_id}) is not on the allow-list")
        if self.alpn and session.alpn is None:
            raise AlpnError(f"the peer speaks none of {', '.join(self.alpn)}")

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Return what one side's connections are made with. Raises :class:`CertificateFileError`, or ``OSError``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = self.minimum_version
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.check_hostname = self.check_name and not server
        context.verify_mode = ssl.CERT_REQUIRED if self.mutual or not server else ssl.CERT_NONE
        if server:
            # A dialler that has not read its ticket when it closes would reset the connection, and with it what it
            # sent last.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        self._load_trusted(context)
        if self.certificate is not None:
            _load_own(context, self.certificate, self.key)
        return context

    def _load_trusted(self, context: ssl.SSLContext) -> None:
        sources: list[tuple[str, File | None, str | None]] = [(os.fspath(file), file, None) for file in self.trusted]
        sources += [("trusted_pem", None, text) for text in self.trusted_pem]
        for name, file, text in sources:
            try:
                context.load_verify_locations(cafile=file, cadata=text)
            except ssl.SSLError as error:
                raise CertificateFileError(f"{name}: holds no certificate in PEM") from error
        if self.system_trust:
            context.load_default_certs()


def _load_own(context: ssl.SSLContext, certificate: File, key: File | None) -> None:
    check_private(certificate if key is None else key, CertificateFileError)
    try:
        # Without the callback, a key with a password would have the terminal asked for it.
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        problem = "holds no certificate in PEM, or its key is missing or another's"
        raise CertificateFileError(f"{os.fspath(certificate)}: {problem}") from error


def _no_password() -> bytes:
    raise CertificateFileError("a private key with a password: remove it, and protect the file instead")
