"""The settings of a Noise handshake. Pure. May import ``errors``, ``crypto``, ``patterns`` and ``state``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ..errors import ConfigError
from .crypto import KeyPair, same_key
from .errors import PeerNotAllowedError
from .state import HandshakeState, NoiseProtocol, check_psks, check_public_key, check_static_key

ROLES = {True: "initiator", False: "responder"}


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """The settings of a handshake. Immutable; the ``repr`` shows no keys.

    Raises :class:`ConfigError`, naming the setting, for everything that is wrong in both roles. A setting that only one
    role needs (in NK, the responder's ``static_key`` and the initiator's ``remote_key``) is checked when a handshake
    begins in that role, before anything is sent; :meth:`check` does so earlier.
    """

    #: The name of the protocol. Both sides must use the same.
    protocol: str = "Noise_XX_25519_ChaChaPoly_SHA256"
    #: The key pair of this side, if the pattern has one for it.
    static_key: KeyPair | None = field(default=None, repr=False)
    #: The peer's public key. Required if the pattern needs it in advance; otherwise the key that the peer sends must be
    #: this one.
    remote_key: bytes | None = field(default=None, repr=False)
    #: One pre-shared key of 32 bytes for each psk modifier of the pattern, in their order.
    psks: tuple[bytes, ...] = field(default=(), repr=False)
    #: Data that both sides must agree on. The handshake fails if it differs. It is not sent.
    prologue: bytes = b""
    #: The public keys of the peers to accept; ``None``: any. Read at every handshake, so it can change.
    allowed: Collection[bytes] | None = field(default=None, repr=False)
    #: The number of messages after which the key of a direction is replaced; ``None``: never. Both sides must use the
    #: same.
    rekey_after: int | None = None
    #: Whether the side that reads the last handshake message confirms that it accepts the peer, with an empty message,
    #: and the other side waits for that. Both sides must use the same.
    confirm: bool = False

    def __post_init__(self) -> None:
        protocol = NoiseProtocol.of(self.protocol)
        pattern = protocol.pattern
        if not isinstance(self.prologue, bytes):
            raise ConfigError("prologue", f"expected bytes, got {type(self.prologue).__name__}")
        if not isinstance(self.confirm, bool):
            raise ConfigError("confirm", f"expected True or False, got {self.confirm!r}")
        check_rekey_after(self.rekey_after)
        check_psks(protocol, self.psks)
        self._check_remote_keys(protocol)
        needed = [pattern.has_static(initiator=initiator) for initiator in ROLES]
        if self.static_key is not None:
            check_static_key(protocol, self.static_key)
            if not any(needed):
                raise ConfigError("static_key", f"{self.protocol} has no static keys, so it does not identify anyone")
        elif all(needed):
            raise ConfigError("static_key", f"{self.protocol} needs a key pair, got None")

    def check(self, *, initiator: bool) -> None:
        """Raise :class:`ConfigError` unless a handshake can begin in this role."""
        self.begin(initiator=initiator)

    def begin(self, *, initiator: bool) -> HandshakeState:
        """Return a new handshake. Raises :class:`ConfigError` if this role needs a setting that is missing."""
        protocol = NoiseProtocol.of(self.protocol)
        if not protocol.pattern.identifies_peer(initiator=initiator):
            self._refuse_unchecked(f"the {ROLES[initiator]} of {self.protocol}")
        return HandshakeState(
            protocol,
            initiator=initiator,
            prologue=self.prologue,
            static=self.static_key,
            remote_static=self.remote_key if protocol.pattern.known[initiator] else None,
            psks=self.psks,
        )

    def check_remote(self, key: bytes) -> None:
        """Raise :class:`PeerNotAllowedError` if a peer with this static key is not to be accepted."""
        if self.remote_key is not None and not same_key(key, self.remote_key):
            raise PeerNotAllowedError("the peer's static key is not the expected one")
        # All of them are compared, so that the time does not depend on the position of a match.
        if self.allowed is not None and not sum([same_key(key, other) for other in self.allowed]):
            raise PeerNotAllowedError("the peer's static key is not on the allow-list")

    def _check_remote_keys(self, protocol: NoiseProtocol) -> None:
        pattern = protocol.pattern
        if self.remote_key is not None:
            check_public_key("remote_key", protocol, self.remote_key)
        elif all(pattern.known):
            raise ConfigError("remote_key", f"{self.protocol} needs the peer's public key, got None")
        if self.allowed is not None:
            if isinstance(self.allowed, bytes | str) or not isinstance(self.allowed, Collection):
                raise ConfigError("allowed", "expected a collection of public keys, for example a set of bytes")
            for key in self.allowed:
                check_public_key("allowed", protocol, key)
        if not any(pattern.identifies_peer(initiator=initiator) for initiator in ROLES):
            self._refuse_unchecked(self.protocol)

    def _refuse_unchecked(self, who: str) -> None:
        for setting, value in (("remote_key", self.remote_key), ("allowed", self.allowed)):
            if value is not None:
                raise ConfigError(setting, f"cannot be checked: {who} does not learn the peer's static key")


def check_rekey_after(value: object) -> None:
    """Raise :class:`ConfigError` unless ``value`` is ``None`` or a number of messages."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError("rekey_after", f"expected an integer >= 1, or None, got {value!r}")
