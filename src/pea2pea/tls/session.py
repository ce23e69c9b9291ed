"""The identity of a TLS peer, and the mixin that makes it the session. May import ssl, hashlib, asyncio for its types.

A certificate has two identifiers here, both SHA-256 in lower-case hexadecimal: the ``node_id`` is that of its public
key and survives the renewal of the certificate; the ``fingerprint`` is that of the whole certificate.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, overload

from ..errors import UsageError
from ..peer import Peer
from ..protocols import Handshake
from .errors import TlsError

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
#: The fields of a certificate before its public key: serial number, signature algorithm, issuer, validity, subject.
_BEFORE_KEY: Final = 5


class TlsObject(Protocol):
    """The methods of :class:`ssl.SSLObject` that this package calls; pyOpenSSL's engine has them too."""

    def do_handshake(self) -> None: ...
    def read(self, len: int = ..., buffer: Any = ...) -> Any: ...
    def write(self, data: Any, /) -> int: ...
    def unwrap(self) -> None: ...
    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    def selected_alpn_protocol(self) -> str | None: ...
    def version(self) -> str | None: ...
    def cipher(self) -> tuple[str, str, int] | None: ...


class TlsContext(Protocol):
    """Makes the TLS of one connection, as :class:`ssl.SSLContext` does."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> TlsObject: ...


@dataclass(frozen=True, slots=True)
class TlsSession:
    """The result of a finished handshake, in which the certificate was verified."""

    #: The peer's identity: the SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal. ``None`` for a
    #: dialler without a certificate, which only a listener with ``mutual=False`` accepts.
    node_id: str | None
    #: Its certificate in DER.
    certificate: bytes | None = field(repr=False)
    #: The certificate as :meth:`ssl.SSLSocket.getpeercert` describes it; empty for a pinned peer.
    details: Mapping[str, Any] = field(repr=False)
    #: The application protocol that both sides agreed on.
    alpn: str | None
    #: ``"TLSv1.3"``.
    version: str
    #: For example ``"TLS_AES_256_GCM_SHA384"``.
    cipher: str

    @classmethod
    def of(cls, tls: TlsObject) -> TlsSession:
        """Describe a connection whose handshake is finished."""
        certificate = tls.getpeercert(binary_form=True)
        return cls(
            node_id=node_id_of(certificate) if certificate else None,
            certificate=certificate,
            details=tls.getpeercert() or {},
            alpn=tls.selected_alpn_protocol(),
            version=tls.version() or "",
            cipher=(tls.cipher() or ("",))[0],
        )

    @property
    def fingerprint(self) -> str | None:
        """The SHA-256 of the certificate, in hexadecimal."""
        return fingerprint_of(self.certificate) if self.certificate else None


def tls_session(of: Peer[Any] | asyncio.StreamWriter) -> TlsSession:
    """Return the TLS session of a peer, or of the connection that a handshake's writer writes to.

    Raises :class:`~pea2pea.UsageError` if the connection does not use TLS.
    """
    tls = of.get_extra_info("ssl_object")
    if tls is None:
        raise UsageError("the connection does not use TLS: give the node network=TlsNetwork(...), or call start_tls()")
    return TlsSession.of(tls)


class TlsIdentity(Handshake[TlsSession]):
    """Makes ``peer.session`` a :class:`TlsSession`. Sends nothing: the TLS handshake is finished when this runs.

    A node with its own handshake calls :func:`tls_session` in it instead.
    """

    async def handshake(
        self, peer: Peer[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> TlsSession:
        return tls_session(writer)


def fingerprint_of(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate in DER, in lower-case hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()


def node_id_of(certificate: bytes) -> str:
    """Return the SHA-256 of the public key in a certificate in DER. Raises :class:`TlsError` if it cannot be parsed."""
    try:
        fields = _content(_content(certificate))
        if fields[0] == _VERSION:
            fields = fields[_size(fields) :]
        for _ in range(_BEFORE_KEY):
            fields = fields[_size(fields) :]
        key = fields[: _size(fields)]
    except IndexError as error:
        raise TlsError("the certificate is truncated") from error
    if key[:1] != bytes((_SEQUENCE,)):
        raise TlsError("the certificate has no public key")
    return hashlib.sha256(key).hexdigest()


def _header(item: bytes) -> tuple[int, int]:
    """The sizes of the header and of the content of the first DER item in ``item`` (X.690, section 8.1)."""
    first = item[1]
    if first < 0x80:
        return 2, first
    octets = first & 0x7F
    return 2 + octets, int.from_bytes(item[2 : 2 + octets])


def _size(item: bytes) -> int:
    return sum(_header(item))


def _content(item: bytes) -> bytes:
    return item[_header(item)[0] : _size(item)]
