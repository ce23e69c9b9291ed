"""A libp2p host: a node whose connections carry streams, to peers of any libp2p implementation. May import asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ClassVar, Final, Unpack

from ..codec import Decoder, Encoder
from ..errors import DecodeError, NotConnectedError, SendError, UsageError
from ..identity import OnePerPeer
from ..lifecycle import Cause, DisconnectReason, Origin
from ..network import Network
from ..peer import Peer
from ..protocols import Handshake, Reading, Writing
from ..settings import Settings
from .channel import Channel, SecureStream, negotiate
from .connection import Connection
from .errors import ChannelError, KeepaliveError, Libp2pError, PeerIdentityError, StreamError
from .frames import Frame
from .identify import IDENTIFY, MAX_SIZE, PROTOCOL_VERSION, Identified
from .limits import YamuxLimits
from .multiaddr import Multiaddr
from .multistream import Choice, Proposal, check_protocol
from .noise import NOISE, secure_with_noise
from .peer_id import Identity, PeerId
from .stream import Stream
from .tls import TLS, secure_with_tls
from .varint import decode_varint, encode_varint
from .yamux import NORMAL, PROTOCOL_ERROR

logger: logging.Logger = logging.getLogger("pea2pea.libp2p")

YAMUX: Final = "/yamux/1.0.0"
PING: Final = "/ipfs/ping/1.0.0"
#: Bytes that a ping sends, and that come back.
PING_SIZE: Final = 32

#: Serves a stream that the peer opened. The stream is closed when the handler returns, and reset if it raises.
Handler = Callable[[Stream], Awaitable[None]]

#: The handshake of each secure channel.
SECURE: Final[dict[str, Callable[..., Awaitable[Channel]]]] = {NOISE: secure_with_noise, TLS: secure_with_tls}

#: The peer that must answer the dial of the current task.
_expected: ContextVar[PeerId | None] = ContextVar("expected", default=None)


class Host(OnePerPeer, Handshake, Reading[Frame], Writing[Frame]):
    """A libp2p host over TCP: Noise or TLS, Yamux, ping, identify, and the protocols given to :meth:`handle`.

    ``peer.session`` is a :class:`Connection`. A subclass that overrides a hook must call the hook of this class.
    """

    handshake_timeout: float = 10.0
    one_per_peer: ClassVar[bool] = False
    write_queue_depth = 4096

    #: The secure channels to negotiate, most preferred first.
    security: ClassVar[tuple[str, ...]] = (NOISE, TLS)
    #: The limits of one connection.
    limits: ClassVar[YamuxLimits] = YamuxLimits()
    #: Seconds for negotiating the protocol of a stream. Some implementations wait a while before they begin.
    negotiation_timeout: ClassVar[float] = 30.0
    #: Seconds of silence after which a peer is pinged, and seconds in which it has to answer.
    keepalive: ClassVar[tuple[float, float]] = (30.0, 15.0)
    #: The name and version of the program, as identify reports it.
    agent_version: ClassVar[str] = "pea2pea"

    def __init__(
        self, *, identity: Identity | None = None, network: Network | None = None, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(network=network, **settings)
        self.identity: Identity = identity or Identity.generate()
        self._handlers: dict[str, Handler] = {PING: self._answer_pings, IDENTIFY: self._answer_identify}

    # -- identity and addresses ------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        """The peer id of this host."""
        return self.identity.peer_id

    @property
    def multiaddrs(self) -> list[Multiaddr]:
        """The listening address with the peer id; empty without a listener, or if it has a wildcard address."""
        addr = self.listening_addr
        return [] if addr is None or addr.is_wildcard else [Multiaddr.of_addr(addr, self.peer_id)]

    @property
    def own_identity(self) -> bytes:
        """The peer id of this host, as bytes."""
        return self.peer_id.multihash

    def identity_of(self, peer: Peer) -> bytes:
        """The id of ``peer``, as bytes."""
        return _connection(peer).channel.remote_id.multihash

    def remote_id(self, peer: Peer) -> PeerId:
        """The id that ``peer`` has proven in the handshake."""
        return _connection(peer).channel.remote_id

    # -- dialling and streams --------------------------------------------------------------

    async def dial(self, target: Multiaddr | str) -> Peer:
        """Connect to a multiaddr, and return the peer.

        If the multiaddr has a peer id, any other peer is refused (with :class:`HandshakeError`, caused by a
        :class:`PeerIdentityError`), and an existing connection with that peer is returned. Raises as ``connect``, and
        :class:`MalformedAddressError` if the multiaddr cannot be dialled.
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
        """Serve the streams that peers open for ``protocol`` with ``handler``, from now on."""
        self._handlers[check_protocol(protocol)] = handler

    def unhandle(self, protocol: str) -> None:
        """Refuse ``protocol`` from now on."""
        self._handlers.pop(protocol, None)

    @property
    def protocols(self) -> list[str]:
        """The protocols that peers can open streams for."""
        return list(self._handlers)

    async def open_stream(self, peer: Peer, *protocols: str) -> Stream:
        """Open a stream for the first of ``protocols`` that the peer supports.

        Raises :class:`UnsupportedProtocolError` if it supports none, :class:`StreamError` if the peer or the end of its
        connection ends the stream, ``TimeoutError`` after ``negotiation_timeout``, :class:`GoneAwayError`,
        :class:`StreamLimitError`, and :class:`NotConnectedError`.
        """
        if not protocols:
            raise UsageError("open_stream() needs at least one protocol")
        proposal = Proposal(protocols)
        if self.peer(peer.addr) is not peer:
            raise NotConnectedError("the peer is not connected to this node, or not any more")
        stream = _connection(peer).open()
        try:
            async with asyncio.timeout(self.negotiation_timeout):
                stream.protocol = await negotiate(proposal, stream, stream)
        except asyncio.IncompleteReadError as error:
            stream.reset()
            raise StreamError("the peer ended the stream during the negotiation of the protocol") from error
        except BaseException:
            stream.reset()
            raise
        return stream

    async def ping(self, peer: Peer) -> float:
        """Return the round-trip time of 32 bytes, in seconds.

        Raises as :meth:`open_stream`, and ``EOFError`` if the peer ends the stream instead.
        """
        async with await self.open_stream(peer, PING) as stream:
            sent = secrets.token_bytes(PING_SIZE)
            clock = asyncio.get_running_loop().time
            begin = clock()
            stream.write(sent)
            if await stream.readexactly(PING_SIZE) != sent:
                raise StreamError("the answer to a ping has other bytes than the ping")
            return clock() - begin

    async def identify(self, peer: Peer) -> Identified:
        """Request what ``peer`` reports about itself.

        Raises as :meth:`open_stream`, ``EOFError`` if the peer ends the stream instead, :class:`DecodeError`, and
        :class:`PeerIdentityError` if the reported key is not the one proven in the handshake.
        """
        async with await self.open_stream(peer, IDENTIFY) as stream:
            found = Identified.from_bytes(await _read_delimited(stream))
        if found.public_key is not None and found.public_key.peer_id != self.remote_id(peer):
            raise PeerIdentityError("the key reported by identify is not the one proven in the handshake")
        return found

    # -- hooks -----------------------------------------------------------------------------

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        """Negotiate a secure channel, do its handshake, and negotiate Yamux."""
        _set_nodelay(writer)
        try:
            channel, rest = await self._secure(peer, reader, writer)
        except asyncio.IncompleteReadError as error:
            raise ChannelError("the peer closed the connection during the handshake, or refused it") from error
        return Connection(peer, channel, self._serve, early=rest, limits=self.limits, keepalive=self.keepalive)

    async def _secure(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Channel, bytes]:
        initiator = not peer.inbound
        side: type[Proposal] | type[Choice] = Proposal if initiator else Choice
        name = await negotiate(side(self.security), reader, writer)
        expected = _expected.get() if initiator else None
        channel = await SECURE[name](self.identity, reader, writer, initiator=initiator, expected=expected)
        secure = SecureStream(channel, reader, writer)
        await negotiate(side((YAMUX,)), secure, secure)
        return channel, bytes(secure.rest) + channel.received()

    def decoder(self, peer: Peer) -> Decoder[Frame]:
        """Decrypts and decodes frames."""
        return _connection(peer).decoder()

    def encoder(self, peer: Peer) -> Encoder[Frame]:
        """Encodes and encrypts frames."""
        return _connection(peer).encoder()

    async def process_message(self, peer: Peer, message: Frame) -> None:
        """Pass a frame to the connection."""
        try:
            _connection(peer).handle(message)
        except (Libp2pError, DecodeError) as error:
            self.end(peer, DisconnectReason(Cause.BAD_DATA, error))

    async def on_connect(self, peer: Peer) -> None:
        """Send the output of the streams until the connection ends."""
        await super().on_connect(peer)
        try:
            await _connection(peer).run(lambda frame: self.send(peer, frame), lambda: self.flush(peer))
        except KeepaliveError as error:
            self.end(peer, DisconnectReason(Cause.IDLE, error))
        except (Libp2pError, DecodeError) as error:
            self.end(peer, DisconnectReason(Cause.BAD_DATA, error))

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Send queued data and GoAway, if the connection can still send, and end the streams."""
        await super().on_disconnect(peer, reason)
        connection = _connection(peer)
        if reason.origin is not Origin.WRITING:
            broken = isinstance(reason.exception, DecodeError)
            with contextlib.suppress(SendError):  # the connection may be closed already, or its queue full
                for frame in connection.farewell(PROTOCOL_ERROR if broken else NORMAL):
                    self.send_nowait(peer, frame)
        await connection.aclose()

    # -- serving ---------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        try:
            handler = await self._negotiate_handler(stream)
            await handler(stream)
            stream.close()
        except (Libp2pError, DecodeError, SendError, EOFError) as error:  # what the peer can cause at any time
            _log(logging.DEBUG, self.name, stream.peer, "%r ended: %s", stream, error)
            stream.reset()
        except Exception as error:  # a mistake in the handler: it ends this stream and no other
            _log(logging.ERROR, self.name, stream.peer, "the handler of %s raised", stream.protocol, exc_info=error)
            stream.reset()
        except asyncio.CancelledError:
            stream.reset()
            raise

    async def _negotiate_handler(self, stream: Stream) -> Handler:
        try:
            async with asyncio.timeout(self.negotiation_timeout):
                stream.protocol = await negotiate(Choice(self._handlers), stream, stream)
        except TimeoutError as error:
            raise StreamError("no protocol was negotiated within negotiation_timeout") from error
        handler = self._handlers.get(stream.protocol)
        if handler is None:  # removed while the answer was being sent
            raise StreamError(f"{stream.protocol} is not supported any more")
        return handler

    async def _answer_pings(self, stream: Stream) -> None:
        while not stream.at_eof():
            data = await stream.read(PING_SIZE)
            stream.write(data)
            await stream.drain()

    async def _answer_identify(self, stream: Stream) -> None:
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


def _log(
    level: int, node: str, peer: Peer, message: str, *args: object, exc_info: BaseException | None = None
) -> None:
    if logger.isEnabledFor(level):
        extra = {"node": node, "peer": peer.id, "address": str(peer.addr)}
        logger.log(level, f"[%s] %s: {message}", node, peer.addr, *args, exc_info=exc_info, extra=extra)


def _set_nodelay(writer: asyncio.StreamWriter) -> None:
    """Turn off Nagle's algorithm: small frames of several streams would wait for each other's acknowledgements."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connection(peer: Peer) -> Connection:
    connection = peer.session
    if not isinstance(connection, Connection):
        raise NotConnectedError("the handshake with the peer is not complete")
    return connection


async def _read_delimited(stream: Stream) -> bytes:
    """Read an identify message with its varint length, which takes at most two bytes; a longer one is refused."""
    head = await stream.readexactly(1)
    while head[-1] > 127 and len(head) < 3:
        head += await stream.readexactly(1)
    size, _ = decode_varint(head)
    if size > MAX_SIZE:
        raise DecodeError(f"an identify message of {size} bytes; at most {MAX_SIZE} are allowed")
    return await stream.readexactly(size)
