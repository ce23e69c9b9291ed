"""The ways to secure a connection. Pure."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """How the connections of a node are secured."""

    PLAIN = "plain"
    NOISE = "noise"
    TLS = "tls"

    @property
    def words(self) -> str:
        """The mode in words, as the end of "is shared ..."."""
        return {Mode.PLAIN: "without encryption", Mode.NOISE: "with Noise", Mode.TLS: "with TLS"}[self]

    @property
    def options(self) -> str:
        """The options of the command that select the mode; empty for none."""
        return {Mode.PLAIN: "", Mode.NOISE: "--noise", Mode.TLS: "--tls --cert FILE"}[self]
