"""TLS with peers that are trusted by their key or certificate, on pyOpenSSL. May import ssl, for its errors and BIOs.

The classes have the methods of ``ssl.SSLContext`` and ``ssl.SSLObject`` that this package uses, and raise the errors
of ``ssl`` where the caller goes on (more bytes are needed, the peer closed) and :class:`TlsError` otherwise.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, overload

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from OpenSSL import SSL
except ImportError as _error:
    problem = "TlsConfig(pinned=...) needs pyOpenSSL: pip install 'pea2pea[tls]'"
    raise ImportError(problem, name="OpenSSL") from _error

from ..keyfile import File
from .alerts import cut, of_reason
from .errors import NotPinnedError, TlsError
from .files import bad_file, no_password

#: Bytes that are taken from OpenSSL at once.
PORTION: Final = 64 * 1024
#: The size of a record's plaintext: pyOpenSSL allocates as much as is asked for, and OpenSSL reads one record a call.
RECORD: Final = 16 * 1024


class PinningContext:
    """Makes the TLS of connections whose peers ``check_pin`` accepts. It raises :class:`NotPinnedError` for others.

    ``ask``: whether this side requires a certificate; a dialler always does. Raises :class:`CertificateFileError`, or
    ``OSError`` if a file cannot be read.
    """

    def __init__(
        self,
        check_pin: Callable[[bytes], None],
        *,
        certificate: File | None,
        key: File | None,
        ask: bool,
        alpn: Sequence[str],
        minimum_version: ssl.TLSVersion,
    ) -> None:
        self._check_pin = check_pin
        self._context = context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(minimum_version)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if ask:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        if alpn:
            names = [name.encode() for name in alpn]
            context.set_alpn_protos(names)
            context.set_alpn_select_callback(lambda _, offered: _first_shared(names, offered))
        if certificate is not None:
            self._load_own(certificate, key if key is not None else certificate)

    def _load_own(self, certificate: File, key: File) -> None:
        try:
            chain = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
            self._context.use_certificate(chain[0])
            for issuer in chain[1:]:
                self._context.add_extra_chain_cert(issuer)
            self._context.use_privatekey(_load_key(key))
            self._context.check_privatekey()
        except (SSL.Error, ValueError, TypeError):  # not the cause: its text could put parts of the key into a log
            raise bad_file(certificate) from None

    def _verify(self, connection: SSL.Connection, certificate: Any, code: int, depth: int, good: int) -> bool:
        """Decide about one certificate of the peer's chain. OpenSSL has checked that the peer has the leaf's key.

        OpenSSL calls this for each problem that it finds with the chain (``code``) and for each certificate without
        one. The problems do not count, and nor do the issuers: only the leaf (``depth`` 0) is looked up.
        """
        if depth:
            return True
        try:
            self._check_pin(certificate.to_cryptography().public_bytes(Encoding.DER))
        except (TlsError, ValueError) as error:  # ValueError: cryptography cannot parse the certificate
            connection.set_app_data(error)
            return False
        return True

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> PinnedTls:
        """Return the TLS of one connection, as :meth:`ssl.SSLContext.wrap_bio` does."""
        connection = SSL.Connection(self._context, None)
        if server_side:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
            if server_hostname is not None and not _is_address(server_hostname):
                connection.set_tlsext_host_name(server_hostname.encode("idna"))
        return PinnedTls(connection, incoming, outgoing, server=server_side)


class PinnedTls:
    """The TLS of one connection, with the methods of :class:`ssl.SSLObject`."""

    def __init__(
        self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server: bool
    ) -> None:
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._server = server
        # Session tickets, which pyOpenSSL cannot turn off. A dialler that closes before it has read them resets the
        # connection, and the reset can discard the last data that it sent. So they leave with this side's first data,
        # which RFC 8446, section 4.6.1, allows.
        self._tickets = b""

    def do_handshake(self) -> None:
        """Go on with the handshake. Raises ``ssl.SSLWantReadError`` until it is finished, or :class:`TlsError`."""
        waiting = True
        try:
            self._call(self._connection.do_handshake)
            waiting = False
        finally:
            if waiting or not self._server:
                self._flush()
        if self._server:
            self._tickets = self._output()

    def read(self, len: int = PORTION, buffer: Any = None) -> int:
        """Decrypt at most one record, of at most ``len`` bytes, into ``buffer``; return how many bytes that is."""
        try:
            return int(self._call(self._connection.recv_into, buffer, min(len, RECORD)))
        finally:
            self._flush()

    def write(self, data: Any) -> int:
        """Encrypt ``data``; return how many bytes of it."""
        if self._tickets:
            self._outgoing.write(self._tickets)
            self._tickets = b""
        try:
            return int(self._call(self._connection.send, data))
        finally:
            self._flush()

    def unwrap(self) -> None:
        """Send a close_notify alert."""
        if self._tickets:
            self._outgoing.write(self._tickets)
            self._tickets = b""
        try:
            self._call(self._connection.shutdown)
        finally:
            self._flush()

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Return the peer's certificate in DER; without ``binary_form``, ``{}``, as ssl does for an unverified one."""
        if not binary_form:
            return {}
        found = self._connection.get_peer_certificate(as_cryptography=True)
        return found.public_bytes(Encoding.DER) if found is not None else None

    def selected_alpn_protocol(self) -> str | None:
        """Return the application protocol that was agreed on."""
        return self._connection.get_alpn_proto_negotiated().decode() or None

    def version(self) -> str | None:
        """Return the version of TLS."""
        return self._connection.get_protocol_version_name()

    def cipher(self) -> tuple[str, str, int] | None:
        """Return the name, the protocol version and the bits of the cipher."""
        connection = self._connection
        name, version, bits = (
            connection.get_cipher_name(), connection.get_cipher_version(), connection.get_cipher_bits()
        )  # fmt: skip
        return (name, version, bits) if name and version and bits else None

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call pyOpenSSL with all that arrived, and translate what it raises."""
        if data := self._incoming.read():
            self._connection.bio_write(data)
        if self._incoming.eof:
            self._connection.bio_shutdown()
        try:
            return method(*arguments)
        except SSL.WantReadError as error:
            raise ssl.SSLWantReadError from error
        except SSL.ZeroReturnError as error:
            raise ssl.SSLZeroReturnError from error
        except SSL.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: SSL.Error) -> TlsError:
        refusal = self._connection.get_app_data()
        if isinstance(refusal, TlsError):
            return refusal
        if refusal is not None:
            return NotPinnedError(f"the peer's certificate cannot be parsed ({refusal})")
        if isinstance(error, SSL.SysCallError):
            return cut()
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return of_reason(reasons[0][2] if reasons else "unknown error")

    def _flush(self) -> None:
        if data := self._output():
            self._outgoing.write(self._tickets + data)
            self._tickets = b""

    def _output(self) -> bytes:
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(PORTION))
        except SSL.WantReadError:
            return b"".join(parts)


def _load_key(path: File) -> Any:
    content = Path(path).read_bytes()
    try:
        return load_pem_private_key(content, None)
    except TypeError:  # it has a password
        no_password()


def _first_shared(own: Sequence[bytes], offered: Sequence[bytes]) -> Any:
    """The listener's preferred protocol among those offered. Without one the handshake goes on, as with ssl."""
    return next((name for name in own if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
