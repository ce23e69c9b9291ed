"""Translates errors of OpenSSL, and the alerts in them, to :mod:`pea2pea.tls.errors`. May import ssl for its errors.

The standard ``ssl`` and pyOpenSSL name the same reasons in different spellings, which also change between versions of
OpenSSL (``SSLV3_ALERT_HANDSHAKE_FAILURE``, ``ssl/tls alert handshake failure``, ``tls alert handshake failure``), so
the names are compared in lower case, with spaces, and without the prefix.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from .errors import (
    AlpnError,
    CertificateRefusedError,
    ExpiredError,
    NoCertificateError,
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

#: Verification errors, by their codes in OpenSSL's ``x509_vfy.h``.
_BY_CODE: Final[dict[int, tuple[type[CertificateRefusedError], str]]] = {
    9: (NotYetValidError, "the peer's certificate is not valid yet"),
    10: (ExpiredError, "the peer's certificate has expired"),
    18: (SelfSignedError, "the peer's certificate is self-signed and not trusted"),
    62: (WrongNameError, "the peer's certificate is not valid for the dialled name"),
    64: (WrongNameError, "the peer's certificate is not valid for the dialled address"),
    **dict.fromkeys(
        (2, 19, 20, 21, 24, 27, 79),  # 24 was renumbered to 79 in OpenSSL 3
        (UnknownAuthorityError, "the issuer of the peer's certificate is not trusted"),
    ),
}

#: Alerts about a certificate, with what the peer means by each.
_REFUSALS: Final = {
    "no certificate": "it requires one (SSL 3.0)",
    "bad certificate": "the certificate is corrupt or its signature is wrong",
    "unsupported certificate": "it does not support this type of certificate",
    "certificate revoked": "the issuer has revoked it",
    "certificate expired": "it has expired, or the peer's clock is wrong",
    "certificate unknown": "it is not acceptable for another reason",
    "unknown ca": "it does not trust the issuer",
    "access denied": "the certificate is valid, but this side may not connect",
    "certificate required": "this side sent none, and the peer requires one",
    "certificate unobtainable": "the certificate could not be fetched from its URL",
    "bad certificate hash value": "the certificate does not match its hash",
}
#: The other alerts of the IANA registry that end a connection.
_ALERTS: Final = {
    "unexpected message": "it received a message out of order",
    "bad record mac": "a record failed authentication: it was corrupted or changed on the way",
    "decryption failed": "a record could not be decrypted",
    "record overflow": "a record was too long",
    "decompression failure": "a record could not be decompressed",
    "handshake failure": "it accepts none of the offered ciphers, groups or signature algorithms; "
    "in TLS 1.2 it may also require a certificate that this side did not send",
    "illegal parameter": "a message of the handshake was inconsistent",
    "decode error": "a message could not be parsed",
    "decrypt error": "a signature or a Finished message of the handshake was wrong",
    "export restriction": "the offered ciphers are restricted",
    "protocol version": "it does not support the offered versions of TLS",
    "insufficient security": "it requires stronger ciphers",
    "internal error": "it failed for a reason of its own",
    "inappropriate fallback": "it supports a higher version of TLS",
    "user cancelled": "its user or program cancelled the handshake",
    "no renegotiation": "it does not renegotiate",
    "missing extension": "the handshake lacks a mandatory extension",
    "unsupported extension": "it received an extension that it did not offer",
    "unrecognized name": "it has no certificate for the requested name (SNI)",
    "bad certificate status response": "the OCSP response was not acceptable",
    "unknown psk identity": "it does not know the pre-shared key",
}
_NO_PROTOCOL: Final = "no application protocol"
#: How OpenSSL names bytes that are no record, or a record that cannot begin a connection.
_NOT_TLS: Final = frozenset(
    {"http request", "https proxy request", "wrong version number", "unsupported protocol record", "bad record type"}
)
_WITH_ALERT: Final = re.compile(r"^\S+ alert (?P<name>.+)$")
_WITHOUT_ALERT: Final = re.compile(r"^tlsv1 (?P<name>.+)$")
#: The text of an ``ssl.SSLError`` whose reason Python has no name for, such as that of alert 120.
_UNNAMED: Final = re.compile(r"^\[\w+\] (?P<text>.*?)(?: \(_ssl\.c:\d+\))?$")


def translate(error: ssl.SSLError | TlsError) -> TlsError:
    """Return the :class:`TlsError` that stands for ``error``, which becomes its cause."""
    if isinstance(error, TlsError):
        return error
    made = _of(error)
    made.__cause__ = error
    return made


def _of(error: ssl.SSLError) -> TlsError:
    if isinstance(error, ssl.SSLCertVerificationError):
        kind, text = _BY_CODE.get(error.verify_code, (CertificateRefusedError, "the peer's certificate is refused"))
        return kind(f"{text} ({error.verify_message.rstrip('.')})")
    if isinstance(error, ssl.SSLEOFError):
        return cut()
    text = error.reason
    if not text:
        found = _UNNAMED.match(error.strerror or str(error))
        text = found["text"] if found else str(error)
    return of_reason(text)


def cut() -> TlsCutError:
    """Return the error of a connection that ended without a close_notify alert."""
    return TlsCutError("the connection ended without a close_notify alert")


def of_reason(reason: str) -> TlsError:
    """Return the error that OpenSSL's ``reason`` stands for."""
    reason = reason.lower().replace("_", " ")
    if reason == "unexpected eof while reading":
        return cut()
    if reason == "peer did not return a certificate":
        return NoCertificateError("the peer sent no certificate, and one is required")
    if reason in _NOT_TLS:
        return NotTlsError(f"the peer sent something that is not TLS ({reason})")
    if reason == _NO_PROTOCOL:
        return AlpnError("the peer offers none of this side's application protocols")
    if found := _WITH_ALERT.match(reason):
        return of_alert(found["name"])
    if (found := _WITHOUT_ALERT.match(reason)) and found["name"] in _REFUSALS | _ALERTS:
        return of_alert(found["name"])
    return TlsError(f"TLS failed: {reason}")


def of_alert(alert: str) -> TlsError:
    """Return the error that an alert of the peer stands for; ``alert`` is its name in RFC 8446, with spaces."""
    if alert == _NO_PROTOCOL:
        return AlpnError("the peer supports none of this side's application protocols (alert: no application protocol)")
    if alert in _REFUSALS:
        return RefusedByPeerError(f"the peer refuses this side's certificate: {alert} ({_REFUSALS[alert]})", alert)
    meaning = f" ({_ALERTS[alert]})" if alert in _ALERTS else ""
    return PeerAlertError(f"the peer ended the connection with the alert: {alert}{meaning}", alert)
