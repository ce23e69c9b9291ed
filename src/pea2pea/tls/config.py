"""The settings of TLS: this node's certificate, and which peers it trusts. May import ssl, ``errors`` of the core,
and ``keyfile``.

No setting turns the verification of certificates off. There are two ways to trust a peer, and a config uses one:

- by authority (``trusted``, ``trusted_pem``, ``system_trust``): the standard ``ssl`` verifies the certificate up to
  one of these. ``allowed`` narrows them down.
- by pin (``pinned``): the peer's own certificate or key is in a collection, whoever signed it. The standard ``ssl``
  cannot do that for a listener: it fails the handshake of a client whose certificate it cannot verify, before the
  program sees that certificate. pyOpenSSL lets the program decide, so these connections use it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigError
from ..keyfile import File, check_private
from .errors import AlpnError, CertificateFileError, NotAllowedError, NotPinnedError
from .files import bad_file, no_password
from .session import TlsContext, TlsObject, TlsSession, fingerprint_of, node_id_of

ID_DIGITS: Final = 64
_VERSIONS: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_MOST_ALPN: Final = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsConfig:
    """How a node uses TLS. Frozen. Raises :class:`~pea2pea.ConfigError` for a bad value.

    The files are read when a ``TlsNetwork`` is made of it, or at the first ``start_tls``.
    """

    #: A PEM file with this node's certificate, followed by those of its issuers, and the private key unless ``key`` is
    #: set. A listener needs one; a dialler needs one if the listener requires it (``mutual``).
    certificate: File | None = None
    #: The file of the private key. Only its owner may have access.
    key: File | None = None
    #: PEM files of trusted certificates: of authorities, or of single nodes.
    trusted: tuple[File, ...] = ()
    #: Trusted certificates as PEM text.
    trusted_pem: tuple[str, ...] = ()
    #: Also trust the authorities that the operating system trusts.
    system_trust: bool = False
    #: The :attr:`TlsSession.node_id` of the peers that are accepted among the trusted ones; ``None`` accepts all.
    #: Looked up anew for every connection, so it may be a set that the program changes.
    allowed: Collection[str] | None = None
    #: Trust exactly the peers whose certificate has one of these SHA-256 identifiers, as 64 lower-case hexadecimal
    #: digits: :attr:`TlsSession.node_id` (the public key) or :attr:`TlsSession.fingerprint` (the certificate). The
    #: issuer, the name and the dates of a pinned certificate are not checked, as in RFC 7671, section 5.1. Looked up
    #: anew for every connection, so it may be a set that the program changes; it may be empty. Replaces the settings
    #: above from ``trusted`` to ``allowed``. Needs pyOpenSSL.
    pinned: Collection[str] | None = None
    #: Whether a listener requires a certificate from diallers. If not, it accepts anyone.
    mutual: bool = True
    #: Whether the certificate of the dialled side must be valid for the dialled name or address. Turn it off in a mesh
    #: in which the key is the identity.
    check_name: bool = True
    #: The name to check and to send (SNI); without one, the certificate must be valid for the dialled IP address.
    server_name: str | None = None
    #: Application protocols in order of preference. If there are any, the two sides must share one.
    alpn: tuple[str, ...] = ()
    #: The lowest version of TLS that is accepted.
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    # What start_tls uses, by side; it must not read files for every connection.
    _contexts: dict[bool, TlsContext] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ConfigError("key", "needs certificate to be set too")
        for name in ("trusted", "trusted_pem", "alpn"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(name, f"must be a tuple, got {type(getattr(self, name)).__name__}")
        if not all(isinstance(name, str) and 0 < len(name.encode()) <= _MOST_ALPN for name in self.alpn):
            raise ConfigError("alpn", f"each protocol name must have 1 to {_MOST_ALPN} bytes")
        if self.minimum_version not in _VERSIONS:
            raise ConfigError("minimum_version", "must be TLSv1_2 or TLSv1_3")
        if self.server_name == "":
            raise ConfigError("server_name", "must not be empty")
        _check_ids("allowed", self.allowed)
        _check_ids("pinned", self.pinned)
        if self.pinned is None:
            self._check_authorities()
        elif self.trusted or self.trusted_pem or self.system_trust or self.allowed is not None:
            raise ConfigError("pinned", "cannot be combined with trusted, trusted_pem, system_trust or allowed")

    def _check_authorities(self) -> None:
        if self.server_name is not None and not self.check_name:
            raise ConfigError("server_name", "needs check_name=True, or it would not be checked")
        if not (self.trusted or self.trusted_pem or self.system_trust):
            raise ConfigError("trusted", "must not be empty: set trusted, trusted_pem, system_trust or pinned")
        if self.system_trust and not self.check_name and self.allowed is None:
            raise ConfigError("check_name", "must be True with system_trust: anyone can get such a certificate")

    def name_for(self, host: str | None) -> str | None:
        """Return the name that the certificate of the dialled ``host`` is checked for, or that is sent to it."""
        return self.server_name or (host if self.check_name and self.pinned is None else None)

    def check(self, tls: TlsObject, *, server: bool) -> None:
        """Raise :class:`TlsError` unless the peer of a finished handshake is accepted."""
        session = TlsSession.of(tls)
        if self.pinned is not None and (self.mutual or not server):
            self.check_pin(session.certificate or b"")
        if self.allowed is not None and session.node_id not in self.allowed:
            raise NotAllowedError(
                f"the peer's node_id {session.node_id} is not in allowed",
                certificate=session.certificate,
                node_id=session.node_id,
                fingerprint=session.fingerprint,
            )
        if self.alpn and session.alpn is None:
            raise AlpnError(f"the peer supports none of the application protocols {', '.join(self.alpn)}")

    def check_pin(self, certificate: bytes) -> None:
        """Raise :class:`NotPinnedError` unless ``certificate`` (DER) or its key is pinned."""
        node_id, fingerprint = node_id_of(certificate), fingerprint_of(certificate)
        if self.pinned is None or not (node_id in self.pinned or fingerprint in self.pinned):
            raise NotPinnedError(
                f"the peer's certificate is not pinned (node_id {node_id}, fingerprint {fingerprint})",
                certificate=certificate,
                node_id=node_id,
                fingerprint=fingerprint,
            )

    def context(self, *, server: bool) -> TlsContext:
        """Return a new context for one side. Raises :class:`CertificateFileError`, or ``OSError``."""
        if self.certificate is not None:
            check_private(self.certificate if self.key is None else self.key, CertificateFileError)
        return self._standard(server=server) if self.pinned is None else self._pinning(server=server)

    def shared_context(self, *, server: bool) -> TlsContext:
        """Return the context of :meth:`context`, made at the first call."""
        if server not in self._contexts:
            self._contexts[server] = self.context(server=server)
        return self._contexts[server]

    def _standard(self, *, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = self.minimum_version
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.check_hostname = self.check_name and not server
        context.verify_mode = ssl.CERT_REQUIRED if self.mutual or not server else ssl.CERT_NONE
        if server:
            # A dialler that closes before it has read its session tickets resets the connection, and the reset can
            # discard the last data that it sent.
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
                raise CertificateFileError(f"{name}: contains no certificate in PEM format") from error
        if self.system_trust:
            context.load_default_certs()

    def _pinning(self, *, server: bool) -> TlsContext:
        from .pinning import PinningContext

        return PinningContext(
            self.check_pin,
            certificate=self.certificate,
            key=self.key,
            ask=self.mutual or not server,
            alpn=self.alpn,
            minimum_version=self.minimum_version,
        )


def _check_ids(field: str, ids: Collection[str] | None) -> None:
    if isinstance(ids, str):
        raise ConfigError(field, "must be a collection of ids, got a string")
    for one in ids or ():
        if not (isinstance(one, str) and len(one) == ID_DIGITS and set(one) <= set("0123456789abcdef")):
            raise ConfigError(field, f"each id must be {ID_DIGITS} lower-case hexadecimal digits, got {one!r}")


def _load_own(context: ssl.SSLContext, certificate: File, key: File | None) -> None:
    try:
        # Without the callback, OpenSSL would ask for the password of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        raise bad_file(certificate) from error
