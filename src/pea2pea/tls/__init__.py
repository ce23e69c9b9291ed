"""TLS with verified certificates on both sides, from the first byte of a connection or after a STARTTLS negotiation.

Give a node a :class:`TlsNetwork`, or call :func:`start_tls` in its handshake. It uses the standard ``ssl``, and
pyOpenSSL for ``TlsConfig(pinned=...)``; making certificates (:mod:`pea2pea.tls.certificates`) needs ``cryptography``.
The modules from the bottom up: ``errors``, ``alerts``, ``session``, ``files``, ``records``, ``pinning``, ``config``,
``transport``, ``wire``, ``network`` and ``starttls``; and ``certificates``. May import ``addr``, ``errors``,
``network``, ``peer`` and ``protocols`` of the core, and ``keyfile``.
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
    NotPinnedError,
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
from .session import TlsIdentity, TlsSession, fingerprint_of, node_id_of, tls_session
from .starttls import start_tls

__all__ = [
    "AlpnError", "CertificateFileError", "CertificateRefusedError", "ExpiredError", "NoCertificateError",
    "NotAllowedError", "NotPinnedError", "NotTlsError", "NotYetValidError", "PeerAlertError", "RefusedByPeerError",
    "SelfSignedError", "TlsConfig", "TlsCutError", "TlsError", "TlsIdentity", "TlsNetwork", "TlsSession",
    "UnknownAuthorityError", "WrongNameError", "fingerprint_of", "node_id_of", "start_tls", "tls_session",
]
