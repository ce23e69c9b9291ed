"""The alerts of a peer: each is reported as what it is, also if a reset comes with it."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest

from pea2pea.errors import DialError
from pea2pea.memory import MemoryNetwork
from pea2pea.tcp import TcpNetwork
from pea2pea.tls import (
    AlpnError,
    NoCertificateError,
    NotTlsError,
    PeerAlertError,
    RefusedByPeerError,
    TlsCutError,
    TlsError,
    TlsNetwork,
)
from pea2pea.tls.alerts import of_reason, translate
from support import StreamEndpoint
from support.node import CALLER
from support.tls import Networks, Secure, issued
from support.tls_wire import End

#: By number: the name in RFC 8446, section 6, and the IANA registry.
REFUSALS = {
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    48: "unknown ca",
    49: "access denied",
    116: "certificate required",
}
OTHERS = {
    10: "unexpected message",
    20: "bad record mac",
    22: "record overflow",
    40: "handshake failure",
    47: "illegal parameter",
    50: "decode error",
    51: "decrypt error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    86: "inappropriate fallback",
    90: "user cancelled",
    109: "missing extension",
    110: "unsupported extension",
    112: "unrecognized name",
    113: "bad certificate status response",
}


def alert(number: int) -> bytes:
    """The record of a fatal alert, in plaintext."""
    return bytes((21, 3, 3, 0, 2, 2, number))


@pytest.fixture(params=["ssl", "pyOpenSSL"])
def dialling(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryNetwork) -> TlsNetwork:
    make = Networks(tmp_path, memory)
    ann = issued(name="ann")
    return make(ann) if request.param == "ssl" else make.pinned(ann, set())


def told(dialling: TlsNetwork, number: int) -> BaseException:
    """The error of a dialler that gets the alert of this number."""
    end = End(dialling, StreamEndpoint(), server=False)
    end.feed(alert(number))
    error = end.outcome()
    assert error is not None
    return error


@pytest.mark.parametrize(("number", "name"), REFUSALS.items())
async def test_an_alert_about_the_certificate_is_a_refusal(dialling: TlsNetwork, number: int, name: str) -> None:
    error = told(dialling, number)
    assert type(error) is RefusedByPeerError
    assert error.alert == name and name in str(error) and "certificate" in str(error)


@pytest.mark.parametrize(("number", "name"), OTHERS.items())
async def test_any_other_alert_is_not_a_refusal(dialling: TlsNetwork, number: int, name: str) -> None:
    error = told(dialling, number)
    assert type(error) is PeerAlertError
    assert error.alert == name and name in str(error)


async def test_the_alert_of_alpn_is_an_alpn_error(dialling: TlsNetwork) -> None:
    """Python has no name for it: ``ssl.SSLError.reason`` is None."""
    error = told(dialling, 120)
    assert type(error) is AlpnError and "no application protocol" in str(error)
    cause = error.__cause__
    assert not isinstance(cause, ssl.SSLError) or cause.reason is None or "NO_APPLICATION" in cause.reason


@pytest.mark.parametrize("prefix", ["SSLV3_ALERT_", "ssl/tls alert ", "tls alert ", "tlsv1 alert ", "TLSV1_ALERT_"])
def test_the_prefix_of_a_name_depends_on_the_version_of_openssl(prefix: str) -> None:
    failure, refusal = of_reason(f"{prefix}handshake failure"), of_reason(f"{prefix}unknown ca")
    assert (type(failure), type(refusal)) == (PeerAlertError, RefusedByPeerError)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("HTTP_REQUEST", NotTlsError),
        ("wrong version number", NotTlsError),
        ("NO_APPLICATION_PROTOCOL", AlpnError),
        ("peer did not return a certificate", NoCertificateError),
        ("UNEXPECTED_EOF_WHILE_READING", TlsCutError),
        ("tls alert 201", PeerAlertError),
        ("SSL_HANDSHAKE_FAILURE", TlsError),
        ("tlsv1 something new", TlsError),
    ],
)
def test_other_reasons(reason: str, kind: type[TlsError]) -> None:
    assert type(of_reason(reason)) is kind


def test_errors_of_this_tree_are_not_translated_again() -> None:
    error = TlsError("as it is")
    assert translate(error) is error


async def test_an_alert_counts_if_the_output_cannot_be_closed(dialling: TlsNetwork) -> None:
    """asyncio's ``write_eof`` raises ENOTCONN once the system knows of a reset."""
    end = End(dialling, StreamEndpoint(), server=False)

    def write_eof() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    end.pipe.write_eof = write_eof  # type: ignore[method-assign]
    end.feed(alert(48))
    assert type(end.outcome()) is RefusedByPeerError


LOOPS = [pytest.param(loop, marks=pytest.mark.loop(loop), id=loop) for loop in ("tcp", "tcp-uvloop")]


@pytest.mark.parametrize("loop", LOOPS)
async def test_an_alert_that_arrives_with_a_reset_is_the_cause(tmp_path: Path, loop: str) -> None:
    networks = Networks(tmp_path, TcpNetwork())
    running = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def refuse() -> None:
            connection, _ = await running.sock_accept(listener)
            await running.sock_recv(connection, 100)
            # The rest of the hello is unread and SO_LINGER is 0, so closing sends a reset. Both are there at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.send(alert(40))
            connection.close()

        async with Secure(CALLER, networks(issued(name="ann"))) as node:
            for _ in range(10):
                refusing = asyncio.create_task(refuse())
                with pytest.raises(DialError) as caught:
                    await node.connect(listener.getsockname())
                await refusing
                cause: Any = caught.value.__cause__
                assert type(cause) is PeerAlertError and cause.alert == "handshake failure"
