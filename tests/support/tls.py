"""Helpers of the tests of TLS: certificates, made when they are needed, and networks that use them."""

from __future__ import annotations

import datetime
import functools
import ssl
from collections.abc import Callable, Collection
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pea2pea.addr import Addr
from pea2pea.network import Network
from pea2pea.tls import CertificateRefusedError, TlsConfig, TlsIdentity, TlsNetwork
from pea2pea.tls.certificates import Identity
from support.node import Witness

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


def context_of(network: TlsNetwork, *, server: bool = False) -> ssl.SSLContext:
    """The context of one side of ``network``, to change what no setting can."""
    context = network._listening if server else network._dialling
    assert isinstance(context, ssl.SSLContext)
    return context


class Secure(Witness, TlsIdentity):
    """A witness whose peers' sessions say who they are."""


class Networks:
    """Makes networks over another one; ``directory`` takes the files."""

    def __init__(self, directory: Any, below: Network) -> None:
        self._directory = directory
        #: The network below.
        self.below = below
        self._count = 0

    def save(self, identity: Identity, *issuers: Identity) -> str:
        """Write ``identity`` to a file, followed by the certificates of its issuers."""
        self._count += 1
        path = self._directory / f"identity-{self._count}.pem"
        identity.save(path)
        path.write_text(path.read_text() + "".join(one.certificate_pem for one in issuers))
        return str(path)

    def __call__(self, identity: Identity | None, *trusted: Identity, **options: Any) -> TlsNetwork:
        """A network of ``identity`` that trusts the authority, or ``trusted`` alone."""
        certificates = tuple(one.certificate_pem for one in trusted or (authority(),))
        own = self.save(identity) if identity is not None else None
        return TlsNetwork(TlsConfig(certificate=own, trusted_pem=certificates, **options), self.below)

    def pinned(
        self,
        identity: Identity | None,
        pins: Collection[str],
        on_refused: Callable[[Addr, CertificateRefusedError], object] | None = None,
        **options: Any,
    ) -> TlsNetwork:
        """A network of ``identity`` that trusts the peers in ``pins``."""
        own = self.save(identity) if identity is not None else None
        config = TlsConfig(certificate=own, pinned=pins, **options)
        return TlsNetwork(config, self.below, on_refused=on_refused)

    def known(self, engine: str, **options: Any) -> tuple[TlsNetwork, TlsNetwork]:
        """Networks of a dialler and a listener that accept each other, on ``engine``: ``ssl`` or ``pyOpenSSL``."""
        kinds = options.pop("kind", "ed25519")
        ann, bob = issued(name="ann", kind=kinds), issued(name="bob", kind=kinds)
        if engine == "ssl":
            return self(ann, **options), self(bob, **options)
        return self.pinned(ann, {bob.node_id}, **options), self.pinned(bob, {ann.node_id}, **options)


#: The libraries that TLS runs on: ``ssl`` where peers are trusted, pyOpenSSL where they are pinned.
ENGINES = ("ssl", "pyOpenSSL")


# Records that no library sends

#: Kinds of records, and two messages of a handshake that ask for new keys: this side's, and both sides'.
ALERT, HANDSHAKE, DATA = 21, 22, 23
UPDATE, UPDATE_BOTH = b"\x18\0\0\1\0", b"\x18\0\0\1\1"


class Forger:
    """Makes records as one side of a connection, from the last secret of this name in a key log.

    The side itself has sent nothing since the handshake. The cipher is TLS_AES_256_GCM_SHA384.
    """

    def __init__(self, log: str, name: str) -> None:
        lines = (line.split() for line in log.splitlines())
        self._rekey(bytes.fromhex([words[2] for words in lines if words[0] == name][-1]))

    def _rekey(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0
        self._cipher = AESGCM(self._expand(b"key", 32))
        self._iv = int.from_bytes(self._expand(b"iv", 12))

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446, section 7.1."""
        label = b"tls13 " + label
        info = size.to_bytes(2) + bytes((len(label),)) + label + b"\0"
        return HKDFExpand(hashes.SHA384(), size, info).derive(self._secret)

    def record(self, kind: int, content: bytes) -> bytes:
        head = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2)
        nonce = (self._iv ^ self._sequence).to_bytes(12)
        self._sequence += 1
        return head + self._cipher.encrypt(nonce, content + bytes((kind,)), head)

    def update(self, content: bytes = UPDATE) -> bytes:
        """A record after which the next one has another key."""
        record = self.record(HANDSHAKE, content)
        self._rekey(self._expand(b"traffic upd", 48))
        return record
