"""The errors of TLS, one tree below that of the library. May import ``errors`` of the core.

::

    TlsError                        (a Pea2PeaError, and a ConnectionError)
    ├── CertificateRefusedError     this side refuses the peer's certificate
    │   ├── ExpiredError
    │   ├── NotYetValidError
    │   ├── WrongNameError          it is not valid for the name or address that was dialled
    │   ├── SelfSignedError         it is self-signed and not trusted itself
    │   ├── UnknownAuthorityError   its issuer is not trusted
    │   ├── NoCertificateError      the peer sent none
    │   ├── NotPinnedError          neither its key nor its fingerprint is in ``pinned``
    │   └── NotAllowedError         it is trusted, but its key is not in ``allowed``
    ├── PeerAlertError              the peer ended the connection with an alert
    │   └── RefusedByPeerError      the alert is about this side's certificate, or the lack of one
    ├── NotTlsError                 the peer sent something that is not TLS
    ├── AlpnError                   the two sides share no application protocol
    ├── TlsCutError                 the connection ended without a close_notify alert
    └── CertificateFileError        a file has the wrong owner, mode or content

Anything else is a plain ``TlsError``, such as a record that fails authentication. While a connection is set up, the
error is the cause of the dialler's :class:`~pea2pea.errors.DialError`; later it is the exception in the reason why
the peer was disconnected, or is raised by the reader of a handshake.
"""

from __future__ import annotations

from ..errors import Pea2PeaError


class TlsError(Pea2PeaError, ConnectionError):
    """Base class of all errors of TLS connections, certificates and their files."""


class CertificateRefusedError(TlsError):
    """This side refuses the peer's certificate.

    The three attributes identify the peer, so that a program can ask its user "accept this device?" and add one of
    them to ``pinned``. They are set by :class:`NotPinnedError` and :class:`NotAllowedError`. In the others they are
    ``None``: the standard ``ssl`` does not give out a certificate that it has refused.
    """

    def __init__(
        self,
        text: str,
        *,
        certificate: bytes | None = None,
        node_id: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(text)
        #: The refused certificate, in DER.
        self.certificate: bytes | None = certificate
        #: The SHA-256 of its public key (SubjectPublicKeyInfo), in hexadecimal.
        self.node_id: str | None = node_id
        #: The SHA-256 of the whole certificate, in hexadecimal.
        self.fingerprint: str | None = fingerprint


class ExpiredError(CertificateRefusedError):
    """The peer's certificate, or one of its issuers', has expired."""


class NotYetValidError(CertificateRefusedError):
    """The peer's certificate, or one of its issuers', is not valid yet."""


class WrongNameError(CertificateRefusedError):
    """The peer's certificate is not valid for the name or address that was dialled."""


class SelfSignedError(CertificateRefusedError):
    """The peer's certificate is self-signed and not among the trusted certificates."""


class UnknownAuthorityError(CertificateRefusedError):
    """The issuer of the peer's certificate is not trusted, or is not an authority."""


class NoCertificateError(CertificateRefusedError):
    """The peer sent no certificate, and one is required."""


class NotPinnedError(CertificateRefusedError):
    """Neither the key nor the fingerprint of the peer's certificate is in ``pinned``."""


class NotAllowedError(CertificateRefusedError, PermissionError):
    """The peer's certificate is trusted, but its ``node_id`` is not in ``allowed``."""


class PeerAlertError(TlsError):
    """The peer ended the connection with an alert. ``alert`` is its name in RFC 8446, section 6, with spaces."""

    def __init__(self, text: str, alert: str) -> None:
        super().__init__(text)
        self.alert: str = alert


class RefusedByPeerError(PeerAlertError):
    """The peer refuses this side's certificate. In TLS 1.3 a dialler gets this from its first read."""


class NotTlsError(TlsError):
    """The peer sent something that is not TLS."""


class AlpnError(TlsError):
    """The two sides share no application protocol (ALPN)."""


class TlsCutError(TlsError):
    """The connection ended without a close_notify alert, so data may be missing.

    The network failed, someone on the path cut the connection, or the peer's implementation does not send the alert.
    """


class CertificateFileError(TlsError):
    """A file of a certificate or key is accessible to other users, or does not hold what it should."""
