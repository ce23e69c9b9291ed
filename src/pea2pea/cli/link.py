"""Links: ``pea2pea://HOST:PORT/ROOT``, where to get a file and which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pea2pea import Addr

from .errors import CliError
from .tree import HASH_SIZE

SCHEME = "pea2pea://"


@dataclass(frozen=True, slots=True)
class Link:
    """An address, and the root hash of the file that is wanted of it; ``None`` where any will do."""

    addr: Addr
    root: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Link:
        """Make a link of what :meth:`__str__` prints, or of a plain ``HOST:PORT``. Raises :class:`CliError`."""
        if not text.startswith(SCHEME):
            return cls(_addr(text, text))
        place, slash, root = text[len(SCHEME) :].partition("/")
        if not slash:
            raise CliError(f"{text!r} names no file: a link is {SCHEME}HOST:PORT/ROOT")
        return cls(_addr(place, text), _root(root, text))

    def __str__(self) -> str:
        return str(self.addr) if self.root is None else f"{SCHEME}{self.addr}/{self.root.hex()}"


def wanted(links: Sequence[Link]) -> bytes | None:
    """Return the root that ``links`` agree on, ``None`` where none names one.

    Raises :class:`CliError` where they differ.
    """
    roots = {link.root for link in links if link.root is not None}
    if len(roots) > 1:
        raise CliError("the links name different files")
    return next(iter(roots), None)


def _addr(place: str, text: str) -> Addr:
    try:
        addr = Addr.of(place)
    except ValueError as error:
        raise CliError(f"{text!r} is neither a link nor HOST:PORT ({error})") from error
    if addr.port == 0:
        raise CliError(f"{text!r}: port 0 cannot be reached")
    return addr


def _root(text: str, link: str) -> bytes:
    # not bytes.fromhex alone, which takes blanks between digits
    if len(text) != 2 * HASH_SIZE or not set(text) <= set("0123456789abcdefABCDEF"):
        raise CliError(f"{link!r}: the root is {2 * HASH_SIZE} hexadecimal digits")
    return bytes.fromhex(text)
