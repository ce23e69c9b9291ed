"""TLS 1.3 from a connection's first byte, with both sides' certificates checked, on the standard ``ssl``.

Give a node a :class:`TlsNetwork`. Only making certificates (:mod:`pea2pea.tls.certificates`) needs ``cryptography``.
The rooms, from the bottom up: ``errors``, ``session`` (who is on the other side), ``config``, ``transport``,
``network``; and ``certificates``. May import ``addr``, ``errors``, ``network``, ``peer`` and ``protocols`` of the core,
and ``keyfile``.
"""

from __future__ import annotations

from .config import TlsConfig
from .errors import (
    AlpnError,
    CertificateFileError,
    CertificateRefusedError,
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
    UnknownAuthorityError,
    WrongNameError,
)
from .network import TlsNetwork
from .session import TlsIdentity, TlsSession, node_id_of, tls_session

__all__ = [
    "AlpnError", "CertificateFileError", "CertificateRefusedError", "ExpiredError", "NoCertificateError",
    "NotAllowedError", "NotTlsError", "NotYetValidError", "PeerAlertError", "RefusedByPeerError", "SelfSignedError",
    "TlsConfig", "TlsCutError", "TlsError", "TlsIdentity", "TlsNetwork", "TlsSession", "UnknownAuthorityError",
    "WrongNameError", "node_id_of", "tls_session",
]
