"""Links: where to get a file, which file, and how the connection is secured. Pure.

::

    pea2pea://HOST:PORT/ROOT/NAME               without encryption
    pea2pea+noise://KEY@HOST:PORT/ROOT/NAME     with Noise, from the node with that public key
    pea2pea+tls://HOST:PORT/ROOT/NAME           with TLS

ROOT is the root hash of the file. NAME is optional and percent-encoded. All characters of a link can be
pasted into a shell unquoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pea2pea import Addr

from .errors import ShareError
from .mode import Mode
from .tree import HASH_SIZE

SCHEMES = {"pea2pea": Mode.PLAIN, "pea2pea+noise": Mode.NOISE, "pea2pea+tls": Mode.TLS}
FORM = "pea2pea://HOST:PORT/ROOT"
#: A public key of Curve25519, in bytes.
KEY_SIZE = 32
#: Bytes of a name, so that ``.part.tree`` can be added on any file system.
MAX_NAME = 255 - len(".part.tree")
#: Names that Windows gives to devices, whatever their extension.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Link:
    """Where to get a file. Only ``addr`` is known of a plain ``HOST:PORT``."""

    addr: Addr
    #: The root hash of the file; ``None``: whichever is shared there.
    root: bytes | None = None
    #: ``None``: not known.
    mode: Mode | None = None
    #: The public key that the sharer has to prove, with Noise.
    key: bytes | None = None
    #: The name of the file, for which :func:`is_safe_name` holds.
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Link:
        """Parse a link or ``HOST:PORT``. Raises :class:`ShareError`."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(_addr(text, text))
        if scheme not in SCHEMES:
            raise ShareError(f"expected a link that starts with pea2pea://, got {text!r}")
        place, slash, path = rest.partition("/")
        if not slash:
            raise ShareError(f"expected {FORM}, got {text!r}, which names no file")
        root, _, name = path.partition("/")
        key, at, place = place.rpartition("@")
        if at and SCHEMES[scheme] is not Mode.NOISE:
            raise ShareError(f"expected {FORM}, got {text!r}: only a link for Noise has a key")
        return cls(
            _addr(place, text),
            _hex(root, HASH_SIZE, "root hash", text),
            SCHEMES[scheme],
            _hex(key, KEY_SIZE, "key", text) if at else None,
            _name(name, text) if name else None,
        )

    def __str__(self) -> str:
        if self.root is None:
            return str(self.addr)
        scheme = next(scheme for scheme, mode in SCHEMES.items() if mode is (self.mode or Mode.PLAIN))
        key = f"{self.key.hex()}@" if self.key is not None else ""
        name = f"/{quote(self.name, safe='')}" if self.name is not None else ""
        return f"{scheme}://{key}{self.addr}/{self.root.hex()}{name}"


def is_safe_name(name: str) -> bool:
    """Return whether a file may be saved under ``name``, which may come from a stranger.

    It must be one component of a path on any system, visible in a listing, and printed as what it is: no
    separators, no leading dot, no leading dash, no control characters and none that change the direction
    of the text.
    """
    return (
        bool(name)
        and name.isprintable()
        and not set(name) & set('/\\:*?"<>|')
        and not name.startswith((".", "-", " "))
        and not name.endswith((".", " "))
        and name.partition(".")[0].lower() not in DEVICES
        and len(name.encode("utf-8", "replace")) <= MAX_NAME
    )


def wanted(links: Sequence[Link]) -> bytes | None:
    """Return the root hash that ``links`` agree on; ``None`` if none of them has one.

    Raises :class:`ShareError` if they differ.
    """
    roots = {link.root for link in links if link.root is not None}
    if len(roots) > 1:
        raise ShareError("the links name different files")
    return next(iter(roots), None)


def mode_of(links: Sequence[Link]) -> Mode | None:
    """Return the mode that ``links`` agree on; ``None`` if none of them has one.

    Raises :class:`ShareError` if they differ.
    """
    modes = {link.mode for link in links if link.mode is not None}
    if len(modes) > 1:
        raise ShareError("the links are for different kinds of encryption; use those of one kind")
    return next(iter(modes), None)


def _addr(place: str, text: str) -> Addr:
    try:
        addr = Addr.of(place)
    except ValueError as error:
        raise ShareError(f"expected a link or HOST:PORT, got {text!r}") from error
    if addr.port == 0:
        raise ShareError(f"expected a port from 1 to 65535, got {text!r}")
    return addr


def _hex(digits: str, size: int, what: str, text: str) -> bytes:
    # bytes.fromhex alone would accept blanks between the digits.
    if len(digits) != 2 * size or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise ShareError(f"expected a {what} of {2 * size} hexadecimal digits in {text!r}")
    return bytes.fromhex(digits)


def _name(quoted: str, text: str) -> str:
    try:
        name = unquote(quoted, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not is_safe_name(name):
        raise ShareError(f"the file name in {text!r} is not allowed; remove it from the link and choose one with -o")
    return name
