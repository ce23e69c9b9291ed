"""What tests of TLS share: certificates made when they are needed, and nodes that write down what happens."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import Any

from node_support import Witness
from pea2pea.network import Network
from pea2pea.tls import TlsConfig, TlsIdentity, TlsNetwork
from pea2pea.tls.certificates import Identity

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
HOSTS = ("127.0.0.1", "localhost")

Make = Callable[..., TlsNetwork]


@functools.cache
def authority() -> Identity:
    """The mesh's."""
    return Identity.make_authority()


@functools.cache
def issued(**options: Any) -> Identity:
    """A node that the authority signed."""
    return authority().issue(**{"hosts": HOSTS, **options})


def expired() -> Identity:
    return issued(not_before=NOW - 2 * DAY, not_after=NOW - DAY)


def not_yet_valid() -> Identity:
    return issued(not_before=NOW + DAY, not_after=NOW + 2 * DAY)


class Secure(Witness, TlsIdentity):
    """A witness whose peers' sessions say who they are."""


class Networks:
    """Makes networks over another one; ``directory`` takes the files."""

    def __init__(self, directory: Any, below: Network) -> None:
        self._directory = directory
        self._below = below
        self._count = 0

    def save(self, identity: Identity) -> str:
        self._count += 1
        path = self._directory / f"identity-{self._count}.pem"
        identity.save(path)
        return str(path)

    def __call__(self, identity: Identity | None, *trusted: Identity, **options: Any) -> TlsNetwork:
        """A network of ``identity`` that trusts the authority, or ``trusted`` alone."""
        certificates = tuple(one.certificate_pem for one in trusted or (authority(),))
        own = self.save(identity) if identity is not None else None
        return TlsNetwork(TlsConfig(certificate=own, trusted_pem=certificates, **options), self._below)
