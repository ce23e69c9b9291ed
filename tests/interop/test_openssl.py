"""TLS with OpenSSL's own programs, ``s_server`` and ``s_client``: both directions, and each refusal."""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pea2pea import Addr, Delimited, Peer
from pea2pea.errors import DialError
from pea2pea.tcp import TcpNetwork
from pea2pea.tls import (
    CertificateRefusedError,
    ExpiredError,
    NoCertificateError,
    NotYetValidError,
    PeerAlertError,
    RefusedByPeerError,
    SelfSignedError,
    TlsConfig,
    TlsCutError,
    TlsError,
    TlsSession,
    UnknownAuthorityError,
    WrongNameError,
    start_tls,
    tls_session,
)
from pea2pea.tls.certificates import Identity
from support.node import CALLER, OPEN, address, logged
from support.tls import HOSTS, Networks, Secure, authority, expired, issued, not_yet_valid

pytestmark = pytest.mark.interop

LOOPS = [pytest.param(loop, marks=pytest.mark.loop(loop), id=loop) for loop in ("tcp", "tcp-uvloop")]
both_loops = pytest.mark.parametrize("loop", LOOPS)


class Lines(Secure):
    """Sends and receives lines, as the programs do."""

    def decoder(self, peer: Peer) -> Delimited:
        return Delimited()

    def encoder(self, peer: Peer) -> Delimited:
        return Delimited()


class OpenSsl:
    """Starts the programs with the files that they need."""

    def __init__(self, directory: Path) -> None:
        self.networks = Networks(directory, TcpNetwork())
        self._directory = directory

    def files(self, identity: Identity | None, trusted: Identity) -> list[str]:
        roots = self._directory / f"{trusted.node_id}.pem"
        roots.write_text(trusted.certificate_pem, encoding="utf-8")
        own = self.networks.save(identity) if identity is not None else None
        return ["-CAfile", str(roots), "-verify_return_error", *(["-cert", own, "-key", own] if own else [])]

    @asynccontextmanager
    async def program(self, *arguments: str) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec("openssl", *arguments, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def server(
        self, identity: Identity, *options: str, trusted: Identity | None = None
    ) -> AsyncIterator[tuple[Process, Addr]]:
        files = self.files(identity, trusted or authority())
        async with self.program("s_server", "-accept", "127.0.0.1:0", "-Verify", "1", *files, *options) as process:
            line = await until(process, "ACCEPT .*:[0-9]+")
            yield process, Addr("127.0.0.1", int(line.rpartition(":")[2]))

    @asynccontextmanager
    async def client(
        self, addr: Addr, identity: Identity | None, *options: str, trusted: Identity | None = None
    ) -> AsyncIterator[Process]:
        files = self.files(identity, trusted or authority())
        async with self.program("s_client", "-connect", str(addr), *files, *options) as process:
            yield process


async def until(process: Process, pattern: str) -> str:
    """Return the first line that ``pattern`` is in; fail with all that came where there is none."""
    assert process.stdout is not None
    said = ""
    while line := (await process.stdout.readline()).decode(errors="replace"):
        said += line
        if re.search(pattern, line):
            return line.strip()
    raise AssertionError(f"{pattern!r} is not in:\n{said}")


def say(process: Process, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    return OpenSsl(tmp_path)


# What works


@both_loops
async def test_we_dial(openssl: OpenSsl, loop: str) -> None:
    ann, bob = issued(name="ann"), issued(name="bob", kind="p256")
    async with openssl.server(bob) as (process, addr), Lines(CALLER, openssl.networks(ann)) as node:
        peer = await node.connect(addr)
        assert (peer.session.node_id, peer.session.version) == (bob.node_id, "TLSv1.3")
        await node.send(peer, b"from us")
        await until(process, "^from us$")
        say(process, b"from them")
        assert (await node.got.count(1))[0][1] == b"from them"
        say(process, b"Q")  # its command to leave, which it does without a goodbye
        ((_, reason),) = await node.left.count(1)
        assert isinstance(reason.exception, TlsCutError)


@both_loops
async def test_we_are_dialled(openssl: OpenSsl, loop: str) -> None:
    ann = issued(name="ann")
    async with (
        Lines(OPEN, openssl.networks(issued(name="bob"), alpn=("lines",))) as node,
        openssl.client(address_of(node), ann, "-alpn", "lines", "-verify_hostname", "localhost") as process,
    ):
        (peer,) = await node.met.count(1)
        assert (peer.session.node_id, peer.session.alpn) == (ann.node_id, "lines")
        say(process, b"from them")
        assert (await node.got.count(1))[0][1] == b"from them"
        await node.send(peer, b"from us")
        await until(process, "from us$")
        await node.send(peer, b"last words")
        await node.disconnect(peer)
        await until(process, "last words$")
        await until(process, "closed")


def address_of(node: Lines) -> Addr:
    return Addr(*address(node))


@pytest.mark.loop("tcp")
async def test_sixteen_mib_each_way(openssl: OpenSsl) -> None:
    """``s_server -rev`` sends each line back reversed."""
    ours = openssl.networks(issued(name="ann"))
    async with openssl.server(issued(name="bob"), "-rev") as (_, addr), Lines(CALLER, ours) as node:
        peer = await node.connect(addr)
        line = b"abcdefgh" * 1024
        for _ in range(2048):
            await node.send(peer, line)
        got = await node.got.count(2048)
        assert {message for _, message in got} == {line[::-1]}


# Refusals


@both_loops
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (expired, ExpiredError),
        (not_yet_valid, NotYetValidError),
        (lambda: issued(hosts=("elsewhere.test",)), WrongNameError),
        (lambda: Identity.make_authority().issue(hosts=("127.0.0.1",)), UnknownAuthorityError),
        (lambda: Identity.make(hosts=("127.0.0.1",)), SelfSignedError),
    ],
    ids=["expired", "not-yet", "name", "authority", "self-signed"],
)
async def test_we_refuse_who_we_dialled(
    openssl: OpenSsl, loop: str, make: Callable[[], Identity], error: type[Exception]
) -> None:
    async with openssl.server(make()) as (process, addr), Lines(CALLER, openssl.networks(issued(name="ann"))) as node:
        with pytest.raises(DialError) as caught:
            await node.connect(addr)
        assert isinstance(caught.value.__cause__, error)
        await until(process, "(?i)alert")


@both_loops
async def test_who_we_dialled_refuses_us(openssl: OpenSsl, loop: str) -> None:
    """We learn it from our first read: it is the reason for which the peer left."""
    for trusted, identity, alert in (
        (Identity.make_authority(), issued(name="ann"), "unknown ca"),
        (authority(), expired(), "certificate expired"),
        (authority(), None, "certificate required"),
    ):
        async with openssl.server(issued(name="bob"), trusted=trusted) as (process, addr):
            async with Lines(CALLER, openssl.networks(identity)) as node:
                await node.connect(addr)
                ((_, reason),) = await node.left.count(1)
                assert isinstance(reason.exception, RefusedByPeerError)
                assert reason.exception.alert == alert
            await until(process, "(?i)error|fail|did not return")


async def not_let_in(node: Lines, openssl: OpenSsl, identity: Identity | None, *options: str, says: str) -> TlsError:
    """Have a client dial that is to be refused, or refuses; return why."""
    with logged() as lines:
        async with openssl.client(address_of(node), identity, *options) as process:
            await until(process, says)
            found = await lines.when(lambda all_: [one for one in all_ if "not let in" in one.getMessage()])
    (problem,) = (one.args[1] for one in found if one.args and "not let in" in one.getMessage())  # type: ignore[index]
    assert isinstance(problem, DialError) and isinstance(problem.__cause__, TlsError)
    return problem.__cause__


@both_loops
@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (expired, ExpiredError, "alert certificate expired"),
        (not_yet_valid, NotYetValidError, "alert bad certificate"),
        (lambda: Identity.make_authority().issue(), UnknownAuthorityError, "alert unknown ca"),
        (lambda: Identity.make(), SelfSignedError, "alert unknown ca"),
        (lambda: None, NoCertificateError, "alert certificate required"),
    ],
    ids=["expired", "not-yet", "authority", "self-signed", "none"],
)
async def test_we_refuse_who_dials(
    openssl: OpenSsl, loop: str, make: Callable[[], Identity | None], error: type[Exception], says: str
) -> None:
    async with Lines(OPEN, openssl.networks(issued(name="bob"))) as node:
        assert isinstance(await not_let_in(node, openssl, make(), says=says), error)


@both_loops
async def test_who_dials_refuses_us(openssl: OpenSsl, loop: str) -> None:
    async with Lines(OPEN, openssl.networks(issued(name="bob"))) as node:
        wrong_name = ("-verify_hostname", "elsewhere.test")
        found = await not_let_in(node, openssl, issued(name="ann"), *wrong_name, says="(?i)hostname mismatch")
        assert isinstance(found, PeerAlertError)
        found = await not_let_in(node, openssl, issued(name="ann"), "-tls1_2", says="protocol version")
        assert not isinstance(found, PeerAlertError)


@both_loops
async def test_an_older_version_where_that_is_asked_for(openssl: OpenSsl, loop: str) -> None:
    ours = openssl.networks(issued(name="bob"), minimum_version=ssl.TLSVersion.TLSv1_2)
    async with Lines(OPEN, ours) as node, openssl.client(address_of(node), issued(name="ann"), "-tls1_2") as process:
        (peer,) = await node.met.count(1)
        assert peer.session.version == "TLSv1.2"
        await node.send(peer, b"hello")
        await until(process, "hello$")
        say(process, b"Q")  # which this one does with a goodbye
        ((_, reason),) = await node.left.count(1)
        assert reason.exception is None


# Peers that are pinned, and TLS after STARTTLS


@both_loops
async def test_self_signed_peers_that_are_pinned(openssl: OpenSsl, loop: str) -> None:
    ann, bob = Identity.make("ann", hosts=HOSTS), Identity.make("bob", hosts=HOSTS)
    network = openssl.networks.pinned(bob, {ann.node_id})
    async with Lines(OPEN, network) as node, openssl.client(address_of(node), ann, trusted=bob) as process:
        (peer,) = await node.met.count(1)
        assert peer.session.node_id == ann.node_id
        say(process, b"from them")
        assert (await node.got.count(1))[0][1] == b"from them"
        await node.send(peer, b"from us")
        await until(process, "^from us$")
    async with openssl.server(ann, trusted=bob) as (process, addr), Lines(CALLER, network) as node:
        peer = await node.connect(addr)
        await node.send(peer, b"from us")
        await until(process, "^from us$")


@both_loops
async def test_a_self_signed_client_that_is_not_pinned_is_told(openssl: OpenSsl, loop: str) -> None:
    ann, bob = Identity.make("ann", hosts=HOSTS), Identity.make("bob", hosts=HOSTS)
    refusals: list[CertificateRefusedError] = []
    network = openssl.networks.pinned(bob, set(), lambda _, error: refusals.append(error))
    async with Lines(OPEN, network) as node, openssl.client(address_of(node), ann, trusted=bob) as process:
        await until(process, "alert unknown ca")
        assert [one.node_id for one in refusals] == [ann.node_id]


class Smtp(Lines):
    """As much of a mail server as ``s_client -starttls smtp`` needs."""

    def __init__(self, tls: TlsConfig) -> None:
        super().__init__(OPEN, TcpNetwork())
        self.tls = tls

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> TlsSession:
        writer.write(b"220 mail.test ESMTP\r\n")
        assert (await reader.readline()).startswith(b"EHLO ")
        writer.write(b"250-mail.test\r\n250 STARTTLS\r\n")
        assert await reader.readline() == b"STARTTLS\r\n"
        writer.write(b"220 go ahead\r\n")
        _, writer = await start_tls(reader, writer, self.tls, server_side=True)
        return tls_session(writer)


@both_loops
async def test_a_mail_client_starts_tls(openssl: OpenSsl, loop: str) -> None:
    ann = issued(name="ann")
    async with (
        Smtp(openssl.networks(issued(name="bob")).config) as node,
        openssl.client(address_of(node), ann, "-starttls", "smtp") as process,
    ):
        (peer,) = await node.met.count(1)
        assert peer.session.node_id == ann.node_id
        say(process, b"from them")
        assert (await node.got.count(1))[0][1] == b"from them"
        await node.send(peer, b"from us")
        await until(process, "from us$")
