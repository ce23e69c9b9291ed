"""How the jobs report what they do: the interface that a display implements, and a silent one. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Progress(ABC):
    """Progress of one piece of work at a time, and lines in between. Implementations have to be thread-safe."""

    @abstractmethod
    def begin(self, what: str, total: int | None) -> None:
        """Begin a new piece of work of ``total`` bytes, or ``None`` if it has no end."""

    @abstractmethod
    def at(self, done: int, note: str = "") -> None:
        """Report that ``done`` bytes are done. May be called at any rate."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Report something that has happened."""

    @abstractmethod
    def end(self) -> None:
        """End the piece of work that is under way, if any."""


class Silence(Progress):
    """Reports nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`Progress`."""

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`Progress`."""

    def say(self, line: str) -> None:
        """As in :class:`Progress`."""

    def end(self) -> None:
        """As in :class:`Progress`."""
