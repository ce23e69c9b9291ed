"""Who is on the other side of a TLS connection, and the mixin that tells. May import ssl, hashlib, asyncio's types."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import UsageError
from ..peer import Peer
from ..protocols import Handshake
from .errors import TlsError

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
#: What stands before the key in a certificate: serial number, signature algorithm, issuer, validity, subject.
_BEFORE_KEY: Final = 5


@dataclass(frozen=True, slots=True)
class TlsSession:
    """What a finished handshake found out. All of the certificate was checked, its id against the allow-list too."""

    #: The peer's identity: the SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal digits; ``None`` from
    #: a dialler that need not show a certificate.
    node_id: str | None
    #: Its certificate in DER.
    certificate: bytes | None = field(repr=False)
    #: The same, as :meth:`ssl.SSLSocket.getpeercert` describes it.
    details: Mapping[str, Any] = field(repr=False)
    #: The application protocol that both agreed on.
    alpn: str | None
    #: ``"TLSv1.3"``.
    version: str
    #: Such as ``"TLS_AES_256_GCM_SHA384"``.
    cipher: str

    @classmethod
    def of(cls, tls: ssl.SSLObject) -> TlsSession:
        """Describe a connection whose handshake is over."""
        certificate = tls.getpeercert(binary_form=True)
        return cls(
            node_id=node_id_of(certificate) if certificate else None,
            certificate=certificate,
            details=tls.getpeercert() or {},
            alpn=tls.selected_alpn_protocol(),
            version=tls.version() or "",
            cipher=(tls.cipher() or ("",))[0],
        )


def tls_session(of: Peer | asyncio.StreamWriter) -> TlsSession:
    """Return who is on the other side of ``of``: a peer, or the writer of a handshake of one's own.

    Raises :class:`~pea2pea.UsageError` where the connection is not one of a ``TlsNetwork``.
    """
    source = of._link.transport if isinstance(of, Peer) else of
    tls = source.get_extra_info("ssl_object")
    if tls is None:
        raise UsageError("no TLS on this connection: give the node network=TlsNetwork(...)")
    return TlsSession.of(tls)


class TlsIdentity(Handshake):
    """Makes ``peer.session`` a :class:`TlsSession`. Sends nothing: TLS has done all of it when this runs.

    A node with a handshake of its own calls :func:`tls_session` in it instead.
    """

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> TlsSession:
        return tls_session(writer)


def node_id_of(certificate: bytes) -> str:
    """Return the id of the node that a certificate in DER is of. Raises :class:`TlsError` for what is none."""
    try:
        fields = _content(_content(certificate))
        if fields[0] == _VERSION:
            fields = fields[_size(fields) :]
        for _ in range(_BEFORE_KEY):
            fields = fields[_size(fields) :]
        key = fields[: _size(fields)]
    except IndexError as error:
        raise TlsError("a certificate that is cut") from error
    if key[:1] != bytes((_SEQUENCE,)):
        raise TlsError("a certificate without a public key")
    return hashlib.sha256(key).hexdigest()


def _header(item: bytes) -> tuple[int, int]:
    """How long the header of the first item of DER is, and its content. The order of it: X.690, section 8.1."""
    first = item[1]
    if first < 0x80:
        return 2, first
    octets = first & 0x7F
    return 2 + octets, int.from_bytes(item[2 : 2 + octets])


def _size(item: bytes) -> int:
    return sum(_header(item))


def _content(item: bytes) -> bytes:
    return item[_header(item)[0] : _size(item)]
