"""A libp2p host: a node that speaks to libp2p peers, and on whose connections there are streams. May import asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ClassVar, Final

from ..codec import Decoder, Encoder
from ..config import Config
from ..errors import DecodeError, NotConnectedError, SendError, UsageError
from ..identity import OnePerPeer
from ..lifecycle import DisconnectReason, Origin
from ..network import Network
from ..peer import Peer
from ..protocols import Handshake, Reading, Writing
from .channel import Channel, SecureStream, negotiate
from .connection import Connection
from .errors import ChannelError, Libp2pError, PeerIdentityError, StreamError
from .frames import Frame
from .identify import IDENTIFY, MAX_SIZE, PROTOCOL_VERSION, Identified
from .multiaddr import Multiaddr
from .multistream import Choice, Proposal, check_protocol
from .noise import NOISE, secure_with_noise
from .peer_id import Identity, PeerId
from .stream import Stream
from .tls import TLS, secure_with_tls
from .varint import decode_varint, encode_varint
from .yamux import NORMAL, PROTOCOL_ERROR, YamuxLimits

YAMUX: Final = "/yamux/1.0.0"
PING: Final = "/ipfs/ping/1.0.0"
#: What a ping sends, and gets back.
PING_SIZE: Final = 32

#: Serves a stream that the other side opened. When it returns the stream is closed, when it raises, reset.
Handler = Callable[[Stream], Awaitable[None]]

_SECURE: Final[dict[str, Callable[..., Awaitable[Channel]]]] = {NOISE: secure_with_noise, TLS: secure_with_tls}

#: Who is to answer the dial that this task makes.
_expected: ContextVar[PeerId | None] = ContextVar("expected", default=None)


class Host(OnePerPeer, Handshake, Reading[Frame], Writing[Frame]):
    """A libp2p host over TCP: Noise or TLS, Yamux, ping and identify, and protocols of one's own.

    ``peer.session`` is a :class:`Connection`. A subclass that has hooks of its own calls those of this class.
    """

    handshake_timeout: ClassVar[float] = 10.0
    one_per_peer: ClassVar[bool] = False
    write_queue_depth: ClassVar[int] = 4096

    #: What secures a connection, best first.
    security: ClassVar[tuple[str, ...]] = (NOISE, TLS)
    #: What one connection may cost.
    limits: ClassVar[YamuxLimits] = YamuxLimits()
    #: Seconds to agree on the protocol of a stream. Some peers take their time before the first word.
    negotiation_timeout: ClassVar[float] = 30.0
    #: Seconds of silence after which a connection is pinged, and those that an answer may take.
    keepalive: ClassVar[tuple[float, float]] = (30.0, 15.0)
    #: What this host calls itself.
    agent_version: ClassVar[str] = "pea2pea"

    def __init__(
        self, config: Config | None = None, *, identity: Identity | None = None, network: Network | None = None
    ) -> None:
        super().__init__(config, network=network)
        self.identity = identity or Identity.generate()
        self._handlers: dict[str, Handler] = {PING: self._answer_pings, IDENTIFY: self._tell_who}

    # -- who and where ---------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        """Who this host is."""
        return self.identity.peer_id

    @property
    def multiaddrs(self) -> list[Multiaddr]:
        """Where it listens, with its peer id; nothing while it does not, or does on every address."""
        addr = self.listening_addr
        return [] if addr is None or addr.is_wildcard else [Multiaddr.of_addr(addr, self.peer_id)]

    @property
    def own_identity(self) -> bytes:
        """The bytes of the peer id."""
        return self.peer_id.multihash

    def identity_of(self, peer: Peer) -> bytes:
        """The bytes of the peer's id."""
        return _connection(peer).channel.remote_id.multihash

    def remote_id(self, peer: Peer) -> PeerId:
        """Who ``peer`` has proven to be."""
        return _connection(peer).channel.remote_id

    # -- the API ---------------------------------------------------------------------------

    async def dial(self, target: Multiaddr | str) -> Peer:
        """Connect to a multiaddr; where it names a peer id, nobody else will do, and a connection that is there will.

        Raises as ``connect``, and :class:`MalformedAddressError` for what cannot be dialled.
        """
        address = Multiaddr.of(target)
        addr, wanted = address.addr, address.peer_id
        if wanted is None:
            return await self.connect(addr)
        token = _expected.set(wanted)
        try:
            return await self.connect_to(wanted.multihash, addr)
        finally:
            _expected.reset(token)

    def handle(self, protocol: str, handler: Handler) -> None:
        """Have ``handler`` serve the streams that peers open for ``protocol``, from now on."""
        self._handlers[check_protocol(protocol)] = handler

    def unhandle(self, protocol: str) -> None:
        """Refuse ``protocol`` from now on."""
        self._handlers.pop(protocol, None)

    @property
    def protocols(self) -> list[str]:
        """What peers may open streams for."""
        return list(self._handlers)

    async def open_stream(self, peer: Peer, *protocols: str) -> Stream:
        """Open a stream for the first of ``protocols`` that the peer speaks.

        Raises :class:`UnsupportedProtocolError`, :class:`StreamError` where the peer or its connection ends it,
        :class:`GoneAwayError`, :class:`StreamLimitError`, ``TimeoutError``, and :class:`NotConnectedError`.
        """
        if not protocols:
            raise UsageError("a stream is opened for a protocol: name one")
        proposal = Proposal(protocols)
        if self._peers.get(peer.addr) is not peer:
            raise NotConnectedError("the peer is gone")
        stream = _connection(peer).open()
        try:
            async with asyncio.timeout(self.negotiation_timeout):
                stream.protocol = await negotiate(proposal, stream, stream)
        except asyncio.IncompleteReadError as error:
            stream.reset()
            raise StreamError("the peer ended the stream before it agreed on a protocol") from error
        except BaseException:
            stream.reset()
            raise
        return stream

    async def ping(self, peer: Peer) -> float:
        """Return the seconds that 32 bytes take to ``peer`` and back.

        Raises as :meth:`open_stream`, and ``EOFError``.
        """
        async with await self.open_stream(peer, PING) as stream:
            sent = secrets.token_bytes(PING_SIZE)
            begin = self._loop.time()
            stream.write(sent)
            if await stream.readexactly(PING_SIZE) != sent:
                raise StreamError("the answer to a ping was another")
            return self._loop.time() - begin

    async def identify(self, peer: Peer) -> Identified:
        """Ask ``peer`` what it says of itself. Raises as :meth:`open_stream`, :class:`DecodeError`, ``EOFError``,
        and :class:`PeerIdentityError` where its key is not the one it has proven."""
        async with await self.open_stream(peer, IDENTIFY) as stream:
            found = Identified.from_bytes(await _read_delimited(stream))
        if found.public_key is not None and found.public_key.peer_id != self.remote_id(peer):
            raise PeerIdentityError("identify names another key than the handshake")
        return found

    # -- hooks -----------------------------------------------------------------------------

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        """Agree on a secure channel, set it up, and agree on Yamux. Raises what says how that failed."""
        _send_at_once(writer)
        try:
            channel, rest = await self._secure(peer, reader, writer)
        except asyncio.IncompleteReadError as error:
            raise ChannelError("the stream ended inside the handshake: the other side left, or refused") from error
        return Connection(
            peer, channel, self._serve, early=rest, limits=self.limits, keepalive=self.keepalive
        )

    async def _secure(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Channel, bytes]:
        initiator = not peer.inbound
        side: type[Proposal] | type[Choice] = Proposal if initiator else Choice
        name = await negotiate(side(self.security), reader, writer)
        expected = _expected.get() if initiator else None
        channel = await _SECURE[name](self.identity, reader, writer, initiator=initiator, expected=expected)
        secure = SecureStream(channel, reader, writer)
        await negotiate(side((YAMUX,)), secure, secure)
        return channel, bytes(secure.rest) + channel.received()

    def decoder(self, peer: Peer) -> Decoder[Frame]:
        """Frames, out of the secure channel."""
        return _connection(peer).decoder()

    def encoder(self, peer: Peer) -> Encoder[Frame]:
        """Frames, into the secure channel."""
        return _connection(peer).encoder()

    async def process_message(self, peer: Peer, message: Frame) -> None:
        """Hand a frame to the connection."""
        _connection(peer).handle(message)

    async def on_connect(self, peer: Peer) -> None:
        """Send what the streams of the connection have to send, for as long as it lasts."""
        await super().on_connect(peer)
        await _connection(peer).run(lambda frame: self.send(peer, frame), lambda: self.flush(peer))

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Say goodbye, and end the streams."""
        await super().on_disconnect(peer, reason)
        connection = _connection(peer)
        if reason.origin is not Origin.WRITING:
            broken = isinstance(reason.exception, DecodeError)
            with contextlib.suppress(SendError):  # the connection may be gone, or have no room for a goodbye
                for frame in connection.farewell(PROTOCOL_ERROR if broken else NORMAL):
                    self.send_nowait(peer, frame)
        await connection.aclose()

    # -- serving ---------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(self.negotiation_timeout):
                stream.protocol = await negotiate(Choice(self._handlers), stream, stream)
            await self._handlers[stream.protocol](stream)
            stream.close()
        except (Libp2pError, DecodeError, OSError, EOFError) as error:  # what a peer can bring about
            self._log.debug("%s: %r ended: %s", stream.peer.addr, stream, error)
            stream.reset()
        except Exception as error:  # the user's code: it ends this stream
            self._hook_failed(stream.peer, f"the handler of {stream.protocol}", error)
            stream.reset()
        except asyncio.CancelledError:
            stream.reset()
            raise

    async def _answer_pings(self, stream: Stream) -> None:
        while not stream.at_eof():
            data = await stream.read(PING_SIZE)
            stream.write(data)
            await stream.drain()

    async def _tell_who(self, stream: Stream) -> None:
        data = Identified(
            public_key=self.identity.public_key,
            listen_addrs=tuple(Multiaddr(address.parts[:-1]) for address in self.multiaddrs),
            protocols=tuple(self._handlers),
            observed_addr=Multiaddr.of_addr(stream.peer.addr),
            protocol_version=PROTOCOL_VERSION,
            agent_version=self.agent_version,
        ).to_bytes()
        stream.write(encode_varint(len(data)) + data)
        await stream.drain()


def _send_at_once(writer: asyncio.StreamWriter) -> None:
    """Several streams write small frames one after the other: not to wait for the acknowledgement of each."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connection(peer: Peer) -> Connection:
    connection = peer.session
    if not isinstance(connection, Connection):
        raise NotConnectedError("the peer is not connected yet")
    return connection


async def _read_delimited(stream: Stream) -> bytes:
    head = await stream.readexactly(1)
    while head[-1] > 127 and len(head) < 3:
        head += await stream.readexactly(1)
    size, _ = decode_varint(head)
    if size > MAX_SIZE:
        raise DecodeError(f"a message of {size} bytes, {MAX_SIZE} are allowed")
    return await stream.readexactly(size)
