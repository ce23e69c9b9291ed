"""How the connections of file sharing are secured: not at all, by Noise or by TLS. Imports asyncio.

``pea2pea.noise`` and ``pea2pea.tls`` are imported when they are needed, so that the command works without
their dependencies.

Every connection begins with a preamble from both sides, which names the protocol, its version and the
mode. With it, a difference between the two sides is reported as what it is instead of as a timeout. With
Noise the preambles come first, in plaintext, and are part of the prologue, so that the handshake fails if
they were altered. With TLS they are inside, so there a difference shows in the first bytes of TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pea2pea import Addr, Decoder, Encoder, Peer

from .errors import PeerFaultError, ShareError
from .link import Link
from .mode import Mode
from .wire import HELLO_SIZE, PREAMBLE_SIZE, Hello, Message, Wire, mode_in, preamble

if TYPE_CHECKING:
    from pea2pea.noise import HandshakeState, NoiseSession

#: The first bytes of TLS records: a handshake, an alert.
TLS_RECORDS = (b"\x16\x03", b"\x15\x03")


class Seal:
    """What the hellos and messages of one connection pass through. This one leaves them as they are."""

    def seal(self, hello: Hello) -> bytes:
        """Return the bytes of ``hello`` on the wire."""
        return hello.encode()

    async def read(self, reader: asyncio.StreamReader) -> Hello:
        """Read the peer's hello. Raises :class:`PeerFaultError` if it is something else."""
        return Hello.decode(await reader.readexactly(HELLO_SIZE))

    def decoder(self, wire: Wire) -> Decoder[Message]:
        """Return the decoder of the messages that follow."""
        return wire

    def encoder(self, wire: Wire) -> Encoder[Message]:
        """Return the encoder of the messages that follow."""
        return wire


class Channel:
    """What secures the connections of a node. This one does nothing but exchange preambles."""

    mode = Mode.PLAIN
    #: A line for the user about this node's identity.
    told = ""
    #: This node's public key, for its links.
    key: bytes | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of the node."""
        return {}

    async def secure(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seal:
        """Secure a connection, before the hellos. Raises :class:`ModeError` if the peer does it in another way."""
        await exchange_preambles(self.mode, reader, writer)
        return Seal()

    def explain(self, error: BaseException) -> str:
        """Return what is to be said about ``error``, the cause of a failed connection; empty for nothing special."""
        return ""


class ModeError(PeerFaultError):
    """The two sides secure their connections in different ways."""

    def __init__(self, ours: Mode, theirs: Mode) -> None:
        if theirs is Mode.PLAIN:
            hint = f"leave out --{ours.value}"
        else:
            hint = f"add {theirs.options}" + (", or use its link" if theirs is Mode.NOISE else "")
        super().__init__(f"it is shared {theirs.words}: {hint}")


async def exchange_preambles(mode: Mode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send this side's preamble and check that of the peer. Raises :class:`ModeError` or :class:`PeerFaultError`."""
    try:
        writer.write(preamble(mode))
        await writer.drain()
        data = await reader.readexactly(PREAMBLE_SIZE)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        data = error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
        if not data and mode is Mode.TLS:  # TLS itself was agreed on, and its errors say more
            raise
    if not data:
        # TLS takes the preamble for a broken record. Whether its alert arrives before the close is up to the system.
        raise PeerFaultError(f"it closed the connection: it is busy, or shared with TLS (then add {Mode.TLS.options})")
    theirs = Mode.TLS if data.startswith(TLS_RECORDS) else mode_in(data)
    if theirs is not mode:
        raise ModeError(mode, theirs)


class TlsChannel(Channel):
    """TLS, with certificates on both sides."""

    mode = Mode.TLS

    def __init__(self, security: Security) -> None:
        from pea2pea.tls import TlsConfig, TlsNetwork

        assert security.cert is not None
        config = TlsConfig(
            certificate=security.cert,
            key=security.key,
            trusted=security.ca or (security.cert,),
            allowed=frozenset(security.allow) or None,
            check_name=False,  # a peer is identified by its certificate, not by its address
        )
        self._network = TlsNetwork(config)

    @property
    def options(self) -> dict[str, Any]:
        return {"network": self._network}

    def explain(self, error: BaseException) -> str:
        from pea2pea.tls import CertificateRefusedError, NotAllowedError, NotTlsError, RefusedByPeerError

        match error:
            case NotTlsError():
                return "it is not shared with TLS: leave out --tls"
            case NotAllowedError():
                return ""
            case CertificateRefusedError():
                return f"{error}: add --ca FILE with its certificate, or use the same --cert on both sides"
            case RefusedByPeerError():
                return f"{error}: the sharer has to add --ca FILE with it"
        return ""


class NoiseChannel(Channel):
    """Noise XX, with a key on both sides. A peer that is dialled has to prove the key in its link."""

    mode = Mode.NOISE

    def __init__(self, security: Security, links: Sequence[Link] = ()) -> None:
        from pea2pea.noise import KeyPair, NoiseConfig, load_or_make_key

        pair = load_or_make_key(security.key) if security.key is not None else KeyPair.generate()
        allowed = frozenset(map(bytes.fromhex, security.allow)) or None
        self._config = NoiseConfig(static_key=pair, allowed=allowed, prologue=preamble(self.mode))
        self._links = links
        self.key: bytes = pair.public
        # A key that is made anew each time is of no use to others.
        self.told: str = f"this node's key is {self.key.hex()}" if security.key is not None else ""

    async def secure(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seal:
        from pea2pea.noise import HandshakeCutError, perform_handshake

        await exchange_preambles(self.mode, reader, writer)
        keys = None if peer.inbound else keys_for(peer.addr, self._links)

        async def check_key(state: HandshakeState, payload: bytes) -> None:
            # This side, which dialled, has not sent its own key by then.
            if keys is not None and state.remote_static not in keys:
                raise PeerFaultError("its key is not the one in the link: another node answered")

        try:
            session = await perform_handshake(
                self._config, reader, writer, initiator=not peer.inbound, received=check_key
            )
        except HandshakeCutError as error:
            raise ConnectionError("it closed the connection during the Noise handshake") from error
        return NoiseSeal(session)


class NoiseSeal(Seal):
    """Encrypts hellos and messages, in the order in which they are sent."""

    def __init__(self, session: NoiseSession) -> None:
        self._session = session

    def seal(self, hello: Hello) -> bytes:
        return self._session.seal(hello.encode())

    async def read(self, reader: asyncio.StreamReader) -> Hello:
        from pea2pea.noise import HandshakeCutError, NoiseReader

        try:
            with NoiseReader(self._session, reader) as plain:
                return Hello.decode(await plain.readexactly(HELLO_SIZE))
        except HandshakeCutError as error:
            # In Noise XX, the responder gets the initiator's key last, so its refusal shows only here.
            raise ConnectionError("it closed the connection: it may accept only certain keys (--allow)") from error

    def decoder(self, wire: Wire) -> Decoder[Message]:
        return self._session.decoder(wire)

    def encoder(self, wire: Wire) -> Encoder[Message]:
        return self._session.encoder(wire)


def keys_for(addr: Addr, links: Sequence[Link]) -> frozenset[bytes] | None:
    """Return the keys of which a peer dialled at ``addr`` has to prove one; ``None``: any key will do.

    ``addr`` is an IP address, while a link may contain a host name; such a link is matched by its port.
    """
    matching = [link for link in links if link.addr == addr]
    if not matching:
        matching = [link for link in links if link.addr.port == addr.port and not _is_ip(link.addr.host)]
    keys = frozenset(link.key for link in matching if link.key is not None)
    return keys if keys and all(link.key is not None for link in matching) else None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """How to secure connections. Raises :class:`ShareError` for fields that exclude each other."""

    mode: Mode = Mode.PLAIN
    #: The file of the private key. With Noise it is made if it does not exist; with TLS it belongs to ``cert``.
    key: Path | None = None
    #: The public keys (with Noise) or ids (with TLS) of the peers to accept, in hexadecimal digits. Empty: all.
    allow: tuple[str, ...] = ()
    #: With TLS, this node's certificate, and its key unless ``key`` is set. It is made if it does not exist.
    cert: Path | None = None
    #: With TLS, files of the certificates to trust. Empty: ``cert`` itself.
    ca: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if (self.key or self.allow) and self.mode is Mode.PLAIN:
            raise ShareError("--key and --allow need --noise or --tls")
        if (self.cert or self.ca) and self.mode is not Mode.TLS:
            raise ShareError("--cert and --ca need --tls")
        if self.mode is Mode.TLS and self.cert is None:
            raise ShareError(
                "TLS needs --cert FILE, this node's certificate and key (made if the file does not exist), "
                "and --ca FILE if the other side has another certificate"
            )
        if not all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in self.allow):
            raise ShareError("--allow expects a public key (with --noise) or an id (with --tls): 64 hexadecimal digits")

    def open(self, links: Sequence[Link] = ()) -> Channel:
        """Read or make the files, and return what secures connections. The nodes of ``links`` will be dialled."""
        if self.mode is Mode.NOISE:
            return NoiseChannel(self, links)
        if self.mode is Mode.TLS:
            told = self._own_certificate()
            channel = TlsChannel(self)
            channel.told = told
            return channel
        return Channel()

    def _own_certificate(self) -> str:
        """Make the certificate if it has to be made, and return the line about it."""
        assert self.cert is not None
        if self.key is not None or self.cert.exists():
            return ""
        from pea2pea.tls.certificates import load_or_make_identity

        return f"this node's id is {load_or_make_identity(self.cert).node_id}"

    def to_dict(self) -> dict[str, Any]:
        """Return it in a form that JSON can hold."""
        return {
            "mode": self.mode.value,
            "key": str(self.key) if self.key is not None else None,
            "allow": list(self.allow),
            "cert": str(self.cert) if self.cert is not None else None,
            "ca": [str(path) for path in self.ca],
        }

    @classmethod
    def of_dict(cls, fields: dict[str, Any]) -> Security:
        """Return what :meth:`to_dict` was called on."""
        key, cert = ((Path(fields[name]) if fields[name] is not None else None) for name in ("key", "cert"))
        ca = tuple(Path(path) for path in fields["ca"])
        return cls(mode=Mode(fields["mode"]), key=key, allow=tuple(fields["allow"]), cert=cert, ca=ca)


def crowd_security(directory: Path, count: int, mode: Mode) -> list[Security]:
    """Return the security of ``count`` nodes that accept each other. Their keys are made in ``directory``."""
    if mode is Mode.NOISE:
        from pea2pea.noise import load_or_make_key

        files = [directory / f"node-{index}.key" for index in range(count)]
        allow = tuple(load_or_make_key(file).public.hex() for file in files)
        return [Security(mode=mode, key=file, allow=allow) for file in files]
    if mode is Mode.TLS:
        from pea2pea.tls.certificates import Identity

        authority = Identity.make_authority()
        trusted = directory / "authority.pem"
        trusted.write_text(authority.certificate_pem, encoding="utf-8")
        files = [directory / f"node-{index}.pem" for index in range(count)]
        for file in files:
            authority.issue(file.stem).save(file)
        return [Security(mode=mode, cert=file, ca=(trusted,)) for file in files]
    return [Security()] * count
