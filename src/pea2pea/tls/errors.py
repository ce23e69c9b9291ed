"""What goes wrong in TLS, one tree below that of the library, and the border at which ssl's errors become it.

May import ``errors`` of the core, and ssl for its errors.

::

    TlsError                        (a Pea2PeaError, and a ConnectionError)
    ├── CertificateRefusedError     this side refuses the peer's certificate
    │   ├── ExpiredError
    │   ├── NotYetValidError
    │   ├── WrongNameError          it is not for the name or address that was dialled
    │   ├── SelfSignedError         nobody vouches for it, and it is not itself among the trusted
    │   ├── UnknownAuthorityError   who signed it is not among the trusted
    │   ├── NoCertificateError      the peer showed none
    │   └── NotAllowedError         it is good, and its node is not on the allow-list
    ├── PeerAlertError              the other side gave up, and said why
    │   └── RefusedByPeerError      it refuses this side's certificate, or the lack of one
    ├── NotTlsError                 what the other side sent is not TLS
    ├── AlpnError                   the two sides share no application protocol
    ├── TlsCutError                 the connection ended without TLS's goodbye
    └── CertificateFileError        a file that others can use, or that holds no certificate or key

What is none of these is a ``TlsError`` itself: no common version, a forged record. While a connection is
made, each is the cause of the dialler's :class:`~pea2pea.errors.DialError`; later, it is the exception in
the reason why the peer was disconnected, or what a handshake's reader raises.
"""

from __future__ import annotations

import ssl
from typing import Final

from ..errors import Pea2PeaError


class TlsError(Pea2PeaError, ConnectionError):
    """Everything that is wrong with a TLS connection, a certificate or its file."""


class CertificateRefusedError(TlsError):
    """This side refuses the peer's certificate."""


class ExpiredError(CertificateRefusedError):
    """The peer's certificate, or one above it, has expired."""


class NotYetValidError(CertificateRefusedError):
    """The peer's certificate, or one above it, is not valid yet."""


class WrongNameError(CertificateRefusedError):
    """The peer's certificate is not for the name or the address that was dialled."""


class SelfSignedError(CertificateRefusedError):
    """The peer signed its certificate itself, and it is not among the trusted ones."""


class UnknownAuthorityError(CertificateRefusedError):
    """Whoever signed the peer's certificate is not among the trusted ones, or may not sign."""


class NoCertificateError(CertificateRefusedError):
    """The peer showed no certificate, and has to."""


class NotAllowedError(CertificateRefusedError, PermissionError):
    """The peer's certificate is good, and its node is not on the allow-list."""


class PeerAlertError(TlsError):
    """The other side gave up. ``alert`` is what it said, in the words of RFC 8446, section 6."""

    def __init__(self, text: str, alert: str) -> None:
        super().__init__(f"{text}: {alert}")
        self.alert = alert


class RefusedByPeerError(PeerAlertError):
    """The other side refuses this side's certificate. In TLS 1.3 a dialler learns it from its first read."""


class NotTlsError(TlsError):
    """What the other side sent is not TLS."""


class AlpnError(TlsError):
    """The two sides share no application protocol."""


class TlsCutError(TlsError):
    """The connection ended without TLS's goodbye: cut by someone, or left by a peer that says none."""


class CertificateFileError(TlsError):
    """A file that others than its owner can use, or that does not hold what it should."""


#: By the codes of OpenSSL's ``x509_vfy.h``.
_BY_CODE: Final[dict[int, tuple[type[CertificateRefusedError], str]]] = {
    9: (NotYetValidError, "the peer's certificate is not valid yet"),
    10: (ExpiredError, "the peer's certificate has expired"),
    18: (SelfSignedError, "the peer's certificate is signed by itself, and not among the trusted ones"),
    62: (WrongNameError, "the peer's certificate is not for the name that was dialled"),
    64: (WrongNameError, "the peer's certificate is not for the address that was dialled"),
    **dict.fromkeys(
        (2, 19, 20, 21, 24, 27, 79),  # 24 was renumbered to 79 in OpenSSL 3
        (UnknownAuthorityError, "the peer's certificate is signed by nobody among the trusted ones"),
    ),
}
#: What a side says that refuses a certificate.
_REFUSALS: Final = frozenset(
    {
        "access denied", "bad certificate", "certificate expired", "certificate required", "certificate revoked",
        "certificate unknown", "handshake failure", "unknown ca", "unsupported certificate",
    }
)
#: How OpenSSL names bytes that are no record, or none that can begin a connection.
_NOT_TLS: Final = frozenset(
    {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL_RECORD", "BAD_RECORD_TYPE"}
)


def translate(error: ssl.SSLError) -> TlsError:
    """Return what ``error`` is in this tree; it is the cause of what is returned."""
    made = _of(error)
    made.__cause__ = error
    return made


def _of(error: ssl.SSLError) -> TlsError:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        kind, text = _BY_CODE.get(error.verify_code, (CertificateRefusedError, "the peer's certificate is refused"))
        return kind(f"{text} ({error.verify_message.rstrip('.')})")
    if isinstance(error, ssl.SSLEOFError) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return TlsCutError("the connection ended without TLS's goodbye")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return NoCertificateError("the peer showed no certificate")
    if "_ALERT_" in reason:
        alert = reason.partition("_ALERT_")[2].lower().replace("_", " ")
        if alert in _REFUSALS:
            return RefusedByPeerError("the peer refuses this side's certificate", alert)
        return PeerAlertError("the peer gave up", alert)
    if reason in _NOT_TLS:
        return NotTlsError("what the peer sent is not TLS")
    return TlsError(f"TLS failed: {reason.lower().replace('_', ' ') or error.strerror or error}")
