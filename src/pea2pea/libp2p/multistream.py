"""Multistream-select 1.0, protocol negotiation. Pure: bytes in, bytes out. May import ``errors``, ``varint``.

A :class:`Negotiation` requests an exact number of bytes at a time and never consumes one beyond its own messages. Bytes
that follow in the same packet stay in the reader, for the negotiated protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Final

from .errors import NegotiationError, UnsupportedProtocolError
from .varint import encode_varint

HEADER: Final = "/multistream/1.0.0"
NOT_AVAILABLE: Final = "na"
#: Bytes of a message, newline included. js-libp2p and go-libp2p have the same limit.
MAX_MESSAGE: Final = 1024
#: Proposals that are answered in one negotiation. No peer has reason to make as many.
MAX_PROPOSALS: Final = 64


def encode_message(text: str) -> bytes:
    """Return one message: its length as a varint, the text, a newline."""
    data = text.encode() + b"\n"
    return encode_varint(len(data)) + data


def check_protocol(protocol: str) -> str:
    """Return ``protocol``. Raises :class:`NegotiationError` if it is not a valid protocol name."""
    if not protocol or "\n" in protocol or len(protocol.encode()) >= MAX_MESSAGE or protocol in ("na", "ls", HEADER):
        raise NegotiationError(
            f"invalid protocol name {protocol[:80]!r}: expected one line of 1 to {MAX_MESSAGE - 1} bytes, not reserved"
        )
    return protocol


class Negotiation(ABC):
    """One side of a negotiation.

    Until ``protocol`` is set: send the bytes that :meth:`take` returns, and pass exactly ``wanted`` bytes to
    :meth:`receive`, which raises :class:`NegotiationError` if the peer violates the protocol.
    """

    def __init__(self) -> None:
        #: The agreed protocol; ``None`` until there is one.
        self.protocol: str | None = None
        #: The number of bytes to receive next.
        self.wanted = 1
        # The length of the next message, as far as it was received.
        self._length = bytearray()
        self._output = bytearray()
        self._header_received = False

    def take(self) -> bytes:
        """Return the bytes to send now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> None:
        """Process the next ``wanted`` bytes."""
        assert len(data) == self.wanted and self.protocol is None
        if len(self._length) and self._length[-1] < 128:
            self._length.clear()
            self.wanted = 1
            self._receive_message(data)
        else:
            self._length += data
            self._receive_length()

    def _receive_length(self) -> None:
        """Decode the length, which is a varint of one or two bytes, once it is complete."""
        low, high = self._length[0], self._length[1] if len(self._length) > 1 else 0
        size = (low & 127) | (high & 127) << 7
        if high > 127 or size > MAX_MESSAGE:
            raise NegotiationError(f"a multistream-select message of more than {MAX_MESSAGE} bytes")
        if self._length[-1] < 128:
            if not size or (len(self._length) > 1 and not high):
                raise NegotiationError("an empty multistream-select message, or a length not in its shortest form")
            self.wanted = size

    def _receive_message(self, data: bytes) -> None:
        if not data.endswith(b"\n"):
            raise NegotiationError("a multistream-select message that does not end with a newline")
        try:
            text = data[:-1].decode()
        except UnicodeDecodeError:
            raise NegotiationError("a multistream-select message that is not UTF-8") from None
        if self._header_received:
            self._on_text(text)
        elif text == HEADER:
            self._header_received = True
            self._on_header()
        else:
            raise NegotiationError(f"expected the header {HEADER}, got {text[:80]!r}")

    def _send(self, text: str) -> None:
        self._output += encode_message(text)

    @abstractmethod
    def _on_header(self) -> None:
        """The header was received."""

    @abstractmethod
    def _on_text(self, text: str) -> None:
        """Another message was received."""


class Proposal(Negotiation):
    """The side that proposes ``protocols``, in order. The first proposal is sent together with the header.

    ``receive`` raises :class:`UnsupportedProtocolError` once all were refused.
    """

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self._protocols = tuple(map(check_protocol, protocols))
        self._left = list(self._protocols)
        self._send(HEADER)
        self._propose()

    def _propose(self) -> None:
        if not self._left:
            raise UnsupportedProtocolError(self._protocols)
        self._send(self._left[0])

    def _on_header(self) -> None:
        pass  # this side's header was sent with the first proposal

    def _on_text(self, text: str) -> None:
        if text == self._left[0]:
            self.protocol: str = text
        elif text == NOT_AVAILABLE:
            del self._left[0]
            self._propose()
        else:
            raise NegotiationError(f"expected {self._left[0]} or {NOT_AVAILABLE}, got {text[:80]!r}")


class Choice(Negotiation):
    """The side that chooses: accepts the first proposal that is in ``protocols``, and answers ``na`` to the others."""

    def __init__(self, protocols: Collection[str]) -> None:
        super().__init__()
        self._protocols = protocols
        #: The proposals that were refused, in order.
        self.refused: list[str] = []

    def _on_header(self) -> None:
        self._send(HEADER)

    def _on_text(self, text: str) -> None:
        if text in self._protocols:
            self.protocol: str = text
            self._send(text)
            return
        self.refused.append(text)
        if len(self.refused) > MAX_PROPOSALS:
            raise NegotiationError(f"the peer made more than {MAX_PROPOSALS} proposals")
        # This includes "ls", the request for a list, which is optional in the specification.
        self._send(NOT_AVAILABLE)
