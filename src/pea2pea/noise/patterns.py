"""The handshake patterns of Noise, as a table, and the names of protocols. Pure: no asyncio, no cryptography.

It has all interactive patterns: the twelve fundamental and the twenty-three deferred ones (sections 7.5 and 18.1 of the
specification), each with any valid psk modifiers. One-way patterns are left out: a connection goes both ways.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ..errors import ConfigError

#: The tokens of each message. The initiator sends the first message, then the sides alternate. A K in the name means
#: that the static key of the initiator (first letter) or the responder (second letter) is known in advance.
MESSAGES: Final[dict[str, str]] = {
    "NN": "e / e ee",
    "NK": "e es / e ee",
    "NX": "e / e ee s es",
    "KN": "e / e ee se",
    "KK": "e es ss / e ee se",
    "KX": "e / e ee se s es",
    "XN": "e / e ee / s se",
    "XK": "e es / e ee / s se",
    "XX": "e / e ee s es / s se",
    "IN": "e s / e ee se",
    "IK": "e es s ss / e ee se",
    "IX": "e s / e ee se s es",
    "NK1": "e / e ee es",
    "NX1": "e / e ee s / es",
    "X1N": "e / e ee / s / se",
    "X1K": "e es / e ee / s / se",
    "XK1": "e / e ee es / s se",
    "X1K1": "e / e ee es / s / se",
    "X1X": "e / e ee s es / s / se",
    "XX1": "e / e ee s / es s se",
    "X1X1": "e / e ee s / es s / se",
    "K1N": "e / e ee / se",
    "K1K": "e es / e ee / se",
    "KK1": "e / e ee se es",
    "K1K1": "e / e ee es / se",
    "K1X": "e / e ee s es / se",
    "KX1": "e / e ee se s / es",
    "K1X1": "e / e ee s / se es",
    "I1N": "e s / e ee / se",
    "I1K": "e es s / e ee / se",
    "IK1": "e s / e ee se es",
    "I1K1": "e s / e ee es / se",
    "I1X": "e s / e ee s es / se",
    "IX1": "e s / e ee se s / es",
    "I1X1": "e s / e ee s / se es",
}

_PATTERN: Final = re.compile(r"(?P<initiator>[A-Z])1?(?P<responder>[A-Z])1?")
_NAME: Final = re.compile(r"([A-Z1]+)((?:psk\d(?:\+psk\d)*)?)")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern with its modifiers. ``messages`` are tuples of tokens; the initiator sends the first."""

    name: str
    #: Whether the static key of the initiator, and that of the responder, is known to the other side in advance.
    known: tuple[bool, bool]
    messages: tuple[tuple[str, ...], ...]
    #: The number of psk tokens.
    psks: int

    def has_static(self, *, initiator: bool) -> bool:
        """Whether this side needs a static key of its own."""
        return self.known[not initiator] or self.sends_static(initiator=initiator)

    def sends_static(self, *, initiator: bool) -> bool:
        """Whether this side sends its static key in the handshake."""
        return any("s" in tokens for tokens in self.messages[0 if initiator else 1 :: 2])

    def identifies_peer(self, *, initiator: bool) -> bool:
        """Whether this side knows the other's static key when the handshake is finished."""
        return self.has_static(initiator=not initiator)

    def sends_last(self, *, initiator: bool) -> bool:
        """Whether this side sends the last message."""
        return (len(self.messages) % 2 == 1) is initiator


@lru_cache(maxsize=256)
def pattern(name: str) -> Pattern:
    """Return the pattern of that name, such as ``XX`` or ``IKpsk2``. Raises :class:`ConfigError`."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in MESSAGES:
        raise ConfigError("protocol", f"{name!r} is not an interactive handshake pattern")
    plain, modifiers = match.groups()
    messages = [message.split() for message in MESSAGES[plain].split(" / ")]
    places = [int(digit) for digit in re.findall(r"\d", modifiers)]
    if sorted(set(places)) != places or max(places, default=0) > len(messages):
        raise ConfigError("protocol", f"the psk modifiers of {name!r} must be sorted, distinct and in range")
    for place in places:
        if place:
            messages[place - 1].append("psk")
        else:
            messages[0].insert(0, "psk")
    sides = _PATTERN.fullmatch(plain)
    assert sides is not None  # the table has no other names
    known = (sides["initiator"] == "K", sides["responder"] == "K")
    return Pattern(name, known, tuple(map(tuple, messages)), len(places))
