"""How the command's connections are secured: not at all, by Noise or by TLS. Imports asyncio, wire, and both of those.

Both are imported when they are asked for: the command works without what they need. With Noise, a handshake
by keys comes before the hellos, which go encrypted already; with TLS, the network does all of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pea2pea import Decoder, Encoder, Peer

from .errors import CliError
from .wire import HELLO_SIZE, Hello, Message, Wire

if TYPE_CHECKING:
    from pea2pea.noise import NoiseConfig, NoiseSession


class Seal:
    """What one connection's hellos and messages go through; here, nothing."""

    def seal(self, hello: Hello) -> bytes:
        """Return what ``hello`` is on the wire."""
        return hello.encode()

    async def read(self, reader: asyncio.StreamReader) -> Hello:
        """Return the hello that comes. Raises :class:`PeerFaultError` for something else."""
        return Hello.decode(await reader.readexactly(HELLO_SIZE))

    def decoder(self, wire: Wire) -> Decoder[Message]:
        """Return what decodes the messages after it."""
        return wire

    def encoder(self, wire: Wire) -> Encoder[Message]:
        """Return what encodes the messages after it."""
        return wire


class Channel:
    """What secures the connections of a node; here, nothing."""

    #: What to tell the user who wants to be allowed by others.
    told = ""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the node."""
        return {}

    async def secure(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seal:
        """Shake hands, before hellos are exchanged."""
        return Seal()


class TlsChannel(Channel):
    """TLS, by certificates that both sides show."""

    def __init__(self, security: Security) -> None:
        from pea2pea.tls import TlsConfig, TlsNetwork

        assert security.cert is not None
        config = TlsConfig(
            certificate=security.cert,
            key=security.key,
            trusted=security.ca or (security.cert,),
            allowed=frozenset(security.allow) or None,
            check_name=False,  # whoever holds the key of a trusted certificate is welcome, wherever he is
        )
        self._network = TlsNetwork(config)

    @property
    def options(self) -> dict[str, Any]:
        return {"network": self._network}


class NoiseChannel(Channel):
    """Noise XX, by keys."""

    def __init__(self, security: Security) -> None:
        from pea2pea.noise import KeyPair, NoiseConfig, load_or_make_key

        key = load_or_make_key(security.key) if security.key is not None else KeyPair.generate()
        allowed = frozenset(map(bytes.fromhex, security.allow)) or None
        self._config: NoiseConfig = NoiseConfig(static_key=key, allowed=allowed)
        self.told = f"this node's key is {key.public.hex()}"

    async def secure(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seal:
        from pea2pea.noise import shake_hands

        return NoiseSeal(await shake_hands(self._config, reader, writer, initiator=not peer.inbound))


class NoiseSeal(Seal):
    """Encrypts both, in that order, by the same session."""

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
            raise ConnectionError("it hung up: is this node's key on its allow-list?") from error

    def decoder(self, wire: Wire) -> Decoder[Message]:
        return self._session.decoder(wire)

    def encoder(self, wire: Wire) -> Encoder[Message]:
        return self._session.encoder(wire)


class Arguments(Protocol):
    """What the command line says of it."""

    noise: bool
    tls: bool
    key: Path | None
    allow: list[str]
    cert: Path | None
    ca: list[Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """What is asked for. Raises :class:`CliError` for what does not go together."""

    noise: bool = False
    tls: bool = False
    #: The file of the private key: with Noise made if there is none, with TLS that of the certificate.
    key: Path | None = None
    #: The public keys (with Noise) or ids (with TLS) of those that are let in, in hexadecimal digits; none: all.
    allow: tuple[str, ...] = ()
    #: This node's certificate, and its key unless ``key`` is set; made if there is none.
    cert: Path | None = None
    #: Files of the certificates that are trusted; none: its own.
    ca: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.noise and self.tls:
            raise CliError("--noise and --tls are two ways to do the same: choose one")
        if (self.key or self.allow) and not (self.noise or self.tls):
            raise CliError("--key and --allow go with --noise or --tls")
        if (self.cert or self.ca) and not self.tls:
            raise CliError("--cert and --ca go with --tls")
        if self.tls and self.cert is None:
            raise CliError("--tls needs --cert: the file of this node's certificate and key, made if there is none")
        if not all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in self.allow):
            raise CliError("--allow takes a public key (with --noise) or an id (with --tls): 64 hexadecimal digits")

    @classmethod
    def of(cls, args: Arguments) -> Security:
        """Return what the command line asks for."""
        allow = tuple(one.lower() for one in args.allow)
        return cls(noise=args.noise, tls=args.tls, key=args.key, allow=allow, cert=args.cert, ca=tuple(args.ca))

    def open(self) -> Channel:
        """Read or make the files, and return what secures connections."""
        if self.noise:
            return NoiseChannel(self)
        if self.tls:
            told = self._own_certificate()
            channel = TlsChannel(self)
            channel.told = told
            return channel
        return Channel()

    def _own_certificate(self) -> str:
        """Make it, if it is to be made; return what to tell of it."""
        assert self.cert is not None
        if self.key is not None or self.cert.exists():
            return ""
        from pea2pea.tls.certificates import load_or_make_identity

        return f"this node's id is {load_or_make_identity(self.cert).node_id}"

    def arguments(self) -> list[str]:
        """Return it as a command line."""
        words = ["--noise"] * self.noise + ["--tls"] * self.tls
        for option, value in (("--key", self.key), ("--cert", self.cert)):
            words += [option, str(value)] if value is not None else []
        for option, values in (("--allow", self.allow), ("--ca", self.ca)):
            words += [word for value in values for word in (option, str(value))]
        return words


def crowd_security(directory: Path, count: int, *, noise: bool = False, tls: bool = False) -> list[Security]:
    """Return how each of ``count`` nodes of one demonstration knows the others; keys are made in ``directory``."""
    if noise:
        from pea2pea.noise import load_or_make_key

        files = [directory / f"node-{index}.key" for index in range(count)]
        allow = tuple(load_or_make_key(file).public.hex() for file in files)
        return [Security(noise=True, key=file, allow=allow) for file in files]
    if tls:
        from pea2pea.tls.certificates import Identity

        authority = Identity.make_authority()
        trusted = directory / "authority.pem"
        trusted.write_text(authority.certificate_pem, encoding="utf-8")
        files = [directory / f"node-{index}.pem" for index in range(count)]
        for file in files:
            authority.issue(file.stem).save(file)
        return [Security(tls=True, cert=file, ca=(trusted,)) for file in files]
    return [Security()] * count
