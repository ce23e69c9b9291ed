"""Multistream-select 1.0: two sides agree on a protocol. Pure: bytes in, bytes out. May import ``errors``, ``varint``.

A :class:`Negotiation` says how many bytes it wants next and never takes one that is not its own, so what
follows it, in the same packet even, stays with whoever reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Final

from .errors import NegotiationError, UnsupportedProtocolError
from .varint import encode_varint

HEADER: Final = "/multistream/1.0.0"
NOT_AVAILABLE: Final = "na"
#: No message, newline included, is longer; js-libp2p and go-libp2p have the same bound.
MAX_MESSAGE: Final = 1024
#: Proposals of one peer that are answered; after these it is only wasting time.
MAX_PROPOSALS: Final = 64


def encode_message(text: str) -> bytes:
    """Return one message: a length, the text, a newline."""
    data = text.encode() + b"\n"
    return encode_varint(len(data)) + data


def check_protocol(protocol: str) -> str:
    """Return ``protocol``. Raises :class:`NegotiationError` where it cannot be one."""
    if not protocol or "\n" in protocol or len(protocol.encode()) >= MAX_MESSAGE or protocol in ("na", "ls", HEADER):
        raise NegotiationError(f"{protocol[:80]!r} is no name of a protocol")
    return protocol


class Negotiation(ABC):
    """One side of a negotiation. Feed :meth:`receive` what :attr:`wanted` asks for, and send what :meth:`take` gives.

    ``receive`` raises :class:`NegotiationError` for what the protocol does not allow.
    """

    def __init__(self) -> None:
        #: What was agreed on; ``None`` until then.
        self.protocol: str | None = None
        #: How many bytes are to be received next.
        self.wanted = 1
        self._length = bytearray()
        self._output = bytearray()
        self._greeted = False

    def take(self) -> bytes:
        """Return what is to be sent now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> None:
        """Take ``wanted`` bytes."""
        assert len(data) == self.wanted and self.protocol is None
        if len(self._length) and self._length[-1] < 128:
            self._length.clear()
            self.wanted = 1
            self._message(data)
        else:
            self._length += data
            self._measure()

    def _measure(self) -> None:
        """Find out how long the message is, as soon as its length is whole."""
        low, high = self._length[0], self._length[1] if len(self._length) > 1 else 0
        size = (low & 127) | (high & 127) << 7
        if high > 127 or size > MAX_MESSAGE:
            raise NegotiationError(f"a message of more than {MAX_MESSAGE} bytes")
        if self._length[-1] < 128:
            if not size or (len(self._length) > 1 and not high):
                raise NegotiationError("a message without bytes, or with a padded length")
            self.wanted = size

    def _message(self, data: bytes) -> None:
        if not data.endswith(b"\n"):
            raise NegotiationError("a message that does not end with a newline")
        try:
            text = data[:-1].decode()
        except UnicodeDecodeError:
            raise NegotiationError("a message that is no text") from None
        if self._greeted:
            self._answer(text)
        elif text == HEADER:
            self._greeted = True
            self._greet()
        else:
            raise NegotiationError(f"the other side speaks {text[:80]!r}, not {HEADER}")

    def _say(self, text: str) -> None:
        self._output += encode_message(text)

    @abstractmethod
    def _greet(self) -> None:
        """The header of the other side came."""

    @abstractmethod
    def _answer(self, text: str) -> None:
        """Any other message came."""


class Proposal(Negotiation):
    """The side that wants something: proposes ``protocols`` in their order, the first together with the header.

    ``receive`` raises :class:`UnsupportedProtocolError` when all were refused.
    """

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self._protocols = tuple(map(check_protocol, protocols))
        self._left = list(self._protocols)
        self._say(HEADER)
        self._propose()

    def _propose(self) -> None:
        if not self._left:
            raise UnsupportedProtocolError(self._protocols)
        self._say(self._left[0])

    def _greet(self) -> None:
        pass  # said already, with the first proposal

    def _answer(self, text: str) -> None:
        if text == self._left[0]:
            self.protocol = text
        elif text == NOT_AVAILABLE:
            del self._left[0]
            self._propose()
        else:
            raise NegotiationError(f"{text[:80]!r} is no answer to {self._left[0]}")


class Choice(Negotiation):
    """The side that is asked: takes the first proposal that is in ``protocols`` and answers ``na`` to the others."""

    def __init__(self, protocols: Collection[str]) -> None:
        super().__init__()
        self._protocols = protocols
        #: What was refused, in order.
        self.refused: list[str] = []

    def _greet(self) -> None:
        self._say(HEADER)

    def _answer(self, text: str) -> None:
        if text in self._protocols:
            self.protocol = text
            self._say(text)
            return
        self.refused.append(text)
        if len(self.refused) > MAX_PROPOSALS:
            raise NegotiationError(f"more than {MAX_PROPOSALS} proposals")
        # "ls", which asks for a list, is optional, and answered as any name that is not known.
        self._say(NOT_AVAILABLE)
