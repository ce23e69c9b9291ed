"""Which chunk to request from which peer, and which peers are overdue. Pure: the time is a parameter.

A set of chunks is an integer with a bit for each, so that a union or an intersection is one operation (on
16 KiB for a file of 2 TiB). Peers are identified by their ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

#: How many random candidates the rarest is chosen from: enough to favour rare chunks without counting all of them.
SAMPLE = 4
#: How many peers the same chunk may be requested from at once, near the end of a download.
MAX_ASKED = 2


@dataclass(slots=True)
class Source:
    """What is known about one peer."""

    has: int = 0
    asked: dict[int, float] = field(default_factory=dict)
    #: When it last delivered a chunk, or was asked for one while no other request was waiting.
    active: float = 0.0


class Plan:
    """The bookkeeping of one download.

    There are ``count`` chunks, of which ``have`` are here. At most ``window`` requests wait at one peer. A
    peer that delivers none of them for ``patience`` seconds is overdue. A peer from which nothing else
    can be requested is asked for chunks that another has not delivered for ``impatience`` seconds.
    """

    def __init__(
        self,
        count: int,
        have: int = 0,
        *,
        window: int = 16,
        patience: float = 20.0,
        impatience: float = 1.0,
        random: Random | None = None,
    ) -> None:
        self.everything: int = (1 << count) - 1
        self.missing = self.everything & ~have
        self.window = window
        self.patience = patience
        self.impatience = impatience
        self._unasked = self.missing
        self._spread = array("I", bytes(4 * count))
        self._sources: dict[int, Source] = {}
        self._random = random or Random()

    def join(self, peer: int) -> None:
        """Add a peer, of which nothing is known yet."""
        self._sources[peer] = Source()

    def leave(self, peer: int) -> None:
        """Remove a peer. The chunks it was asked for can be requested from others."""
        source = self._sources.pop(peer, None)
        if source is not None:
            self._count(source.has, -1)
            self._give_back(source.asked)

    def offer(self, peer: int, bits: int) -> None:
        """Note that a peer has the chunks ``bits``, besides those it is known to have."""
        source = self._sources[peer]
        self._count(source.has, -1)
        source.has |= bits
        self._count(source.has, 1)

    def announce(self, peer: int, indexes: Iterable[int]) -> None:
        """Note that a peer has received more chunks."""
        source = self._sources[peer]
        fresh = [index for index in dict.fromkeys(indexes) if not source.has >> index & 1]
        for index in fresh:
            source.has |= 1 << index
            self._spread[index] += 1
        if fresh and source.has == self.everything:
            self._shift(source.has, -1)

    def needs(self, peer: int, index: int) -> bool:
        """Return whether ``peer`` is not known to have chunk ``index``."""
        source = self._sources.get(peer)
        return source is not None and not source.has >> index & 1

    def take(self, peer: int, now: float) -> list[int]:
        """Return the chunks to request from ``peer`` now. They count as requested."""
        source = self._sources[peer]
        taken: list[int] = []
        while self.missing and len(source.asked) < self.window:
            index = self._pick(source, now)
            if index is None:
                break
            if not source.asked:
                source.active = now
            source.asked[index] = now
            self._unasked &= ~(1 << index)
            taken.append(index)
        return taken

    def arrived(self, peer: int, index: int, now: float) -> bool:
        """Note that ``peer`` delivered chunk ``index``. Returns whether it was requested."""
        source = self._sources[peer]
        if source.asked.pop(index, None) is None:
            return False
        source.active = now
        self._give_back((index,))
        return True

    def done(self, index: int) -> None:
        """Note that chunk ``index`` is here and verified."""
        self.missing &= ~(1 << index)
        self._unasked &= ~(1 << index)

    def refused(self, peer: int, index: int) -> bool:
        """Note that ``peer`` does not have chunk ``index``. Returns whether it was requested."""
        source = self._sources[peer]
        if source.asked.pop(index, None) is None:
            return False
        if source.has >> index & 1:
            self._count(source.has, -1)
            source.has &= ~(1 << index)
            self._count(source.has, 1)
        self._give_back((index,))
        return True

    def overdue(self, now: float) -> list[int]:
        """Return the peers that have not answered requests for too long."""
        return [peer for peer, source in self._sources.items() if source.asked and now - source.active >= self.patience]

    def _count(self, bits: int, step: int) -> None:
        """Count how many peers have each chunk, without peers that have all: they make no chunk rarer than another."""
        if bits != self.everything:
            self._shift(bits, step)

    def _shift(self, bits: int, step: int) -> None:
        for index in bits_of(bits):
            self._spread[index] += step

    def _give_back(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            if self._asked_of(index) == 0:
                self._unasked |= 1 << index & self.missing

    def _asked_of(self, index: int) -> int:
        return sum(index in source.asked for source in self._sources.values())

    def _pick(self, source: Source, now: float) -> int | None:
        candidates = source.has & self._unasked
        return self._rarest(candidates) if candidates else self._late(source, now)

    def _rarest(self, candidates: int) -> int:
        sample = [self._any(candidates) for _ in range(SAMPLE)]
        return min(sample, key=self._spread.__getitem__)

    def _any(self, bits: int) -> int:
        """Return one of ``bits``: the first one from a random position on."""
        start = self._random.randrange(bits.bit_length())
        rest = bits >> start << start
        return (rest & -rest).bit_length() - 1

    def _late(self, source: Source, now: float) -> int | None:
        """Return a chunk that another peer was asked for and is late with."""
        for other in self._sources.values():
            for index, since in other.asked.items():
                if index in source.asked or not (source.has & self.missing) >> index & 1:
                    continue
                if now - since >= self.impatience and self._asked_of(index) < MAX_ASKED:
                    return index
        return None


def bits_of(bits: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, lowest first."""
    for at, byte in enumerate(bits.to_bytes((bits.bit_length() + 7) // 8, "little")):
        while byte:
            low = byte & -byte
            yield at * 8 + low.bit_length() - 1
            byte ^= low
