"""Settings: what they are called, which class has them, and which values they take. Pure: no asyncio, no sockets.

Every setting is an attribute with a default on its class. A subclass overrides it, or a keyword at construction. Wrong
names and wrong values are refused by name, when the class or the node is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, TypedDict

from .addr import Addr, AddrLike
from .errors import ConfigError


class Settings(TypedDict, total=False):
    """The settings that a node takes as keywords. Those of a protocol need the protocol among the bases."""

    #: The name of the node in logs; empty for a sequential number.
    name: str
    #: Where to listen; port 0 lets the system pick. ``None``: a node that only dials.
    listen: AddrLike | None
    #: How many connections the kernel queues before they are accepted.
    backlog: int
    #: Share the port with other sockets that ask for the same (``SO_REUSEPORT``).
    reuse_port: bool
    #: All connections, those being set up included.
    max_connections: int
    #: Connections being set up, both ways together; lowered to ``max_connections`` if larger.
    max_connecting: int
    #: Connections with one IPv4 address or one IPv6 /64.
    max_connections_per_ip: int
    #: Whether addresses of the machine itself are exempt from ``max_connections_per_ip``.
    exempt_loopback: bool
    #: Seconds that dialling may take, name resolution included.
    connect_timeout: float
    #: Handshake: seconds that a handshake may take, on either side.
    handshake_timeout: float
    #: Reading and Receiving: messages that may be queued; one receive may exceed it, then reading pauses.
    read_queue_depth: int
    #: Reading and Receiving: whether a full queue pauses reading. If not, surplus messages are dropped and counted.
    backpressure: bool
    #: Reading and Receiving: seconds without a message after which a peer is disconnected. ``None``: no limit.
    idle_timeout: float | None
    #: Writing: messages that may be queued per peer.
    write_queue_depth: int
    #: Writing: seconds in which a peer has to accept one batch. ``None``: no limit.
    write_timeout: float | None
    #: OnConnect: whether a disconnect cancels ``on_connect``.
    on_connect_abortable: bool
    #: OnDisconnect: seconds for the hooks of a leaving peer, and for its last bytes to be written.
    disconnect_timeout: float


class _Setting(NamedTuple):
    owner: str
    check: Callable[[str, Any], object]


def check_count(field: str, value: object) -> None:
    """Raise :class:`ConfigError` naming ``field`` unless ``value`` is an integer >= 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(field, f"must be an integer >= 1, got {value!r}")


def check_seconds(field: str, value: object) -> None:
    """Raise :class:`ConfigError` naming ``field`` unless ``value`` is a finite number of seconds > 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(field, f"must be a number of seconds > 0, got {value!r}")


def check_flag(field: str, value: object) -> None:
    """Raise :class:`ConfigError` naming ``field`` unless ``value`` is a ``bool``."""
    if not isinstance(value, bool):
        raise ConfigError(field, f"must be True or False, got {value!r}")


def _check_limit(field: str, value: object) -> None:
    if value is not None:
        check_seconds(field, value)


def _check_name(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(field, f"must be a string, got {value!r}")


def _check_listen(field: str, value: Any) -> None:
    if value is not None:
        Addr.of(value, field=field)


_READING = "Reading or Receiving"

SETTINGS: Final[Mapping[str, _Setting]] = {
    "name": _Setting("Node", _check_name),
    "listen": _Setting("Node", _check_listen),
    "backlog": _Setting("Node", check_count),
    "reuse_port": _Setting("Node", check_flag),
    "max_connections": _Setting("Node", check_count),
    "max_connecting": _Setting("Node", check_count),
    "max_connections_per_ip": _Setting("Node", check_count),
    "exempt_loopback": _Setting("Node", check_flag),
    "connect_timeout": _Setting("Node", check_seconds),
    "handshake_timeout": _Setting("Handshake", check_seconds),
    "read_queue_depth": _Setting(_READING, check_count),
    "backpressure": _Setting(_READING, check_flag),
    "idle_timeout": _Setting(_READING, _check_limit),
    "write_queue_depth": _Setting("Writing", check_count),
    "write_timeout": _Setting("Writing", _check_limit),
    "on_connect_abortable": _Setting("OnConnect", check_flag),
    "disconnect_timeout": _Setting("OnDisconnect", check_seconds),
}

#: The methods and attributes that a protocol looks for, and the protocols that do.
HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "handshake": ("Handshake",),
    "codec": ("Reading", "Receiving", "Writing"),
    "decoder": ("Reading", "Receiving"),
    "process_message": ("Reading",),
    "encoder": ("Writing",),
    "on_connect": ("OnConnect",),
    "on_disconnect": ("OnDisconnect",),
}

# How alike two names must be for one to be taken for a misspelling of the other.
_ALIKE = 0.9


def check_class(cls: type, protocols: frozenset[str]) -> None:
    """Raise :class:`ConfigError` for an attribute of ``cls`` that is misspelt, or that needs a protocol it lacks.

    ``protocols`` are the names of the protocols among its bases.
    """
    known = [*SETTINGS, *HOOKS]
    for name in vars(cls):
        if name in SETTINGS and not hasattr(super(cls, cls), name):
            raise _misplaced(name, cls)
        if name in HOOKS and protocols.isdisjoint(HOOKS[name]):
            needed = " or ".join(HOOKS[name])
            raise ConfigError(name, f"{cls.__name__} defines it without deriving from {needed}: it would never be used")
        if name.startswith("_") or name in known or hasattr(super(cls, cls), name):
            continue
        for meant in get_close_matches(name, known, 1, _ALIKE):
            if name != meant + "s":
                raise ConfigError(name, f"{cls.__name__} defines it; did you mean {meant!r}?")


def configure(node: object, given: Mapping[str, Any]) -> None:
    """Set the settings ``given`` to ``node``, and check all that it has. Raises :class:`ConfigError` naming the first
    that is wrong."""
    kind = type(node)
    for name, value in given.items():
        if name not in SETTINGS:
            close = get_close_matches(name, [setting for setting in SETTINGS if hasattr(kind, setting)], 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(name, f"{kind.__name__} has no such setting{hint}")
        if not hasattr(kind, name):
            raise _misplaced(name, kind)
        setattr(node, name, value)
    for name, setting in SETTINGS.items():
        if hasattr(kind, name):
            setting.check(name, getattr(node, name))


def _misplaced(name: str, kind: type) -> ConfigError:
    return ConfigError(name, f"is a setting of {SETTINGS[name].owner}, which is not among the bases of {kind.__name__}")
