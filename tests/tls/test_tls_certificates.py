"""Certificates, their files, and the settings of TLS."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pea2pea import ConfigError
from pea2pea.tls import CertificateFileError, TlsConfig, TlsError, TlsNetwork, node_id_of
from pea2pea.tls.alerts import translate
from pea2pea.tls.certificates import MAX_FILE, Identity, Kind, load_identity, load_or_make_identity, new_key
from pea2pea.tls.errors import PeerAlertError
from support.tls import authority, issued

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_the_node_id_is_the_sha256_of_the_public_key(kind: Kind) -> None:
    identity = Identity.make(kind=kind)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(identity.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert identity.node_id == digest.finalize().hex()
    assert authority().issue("another name", key=identity.key).node_id == identity.node_id


def test_the_repr_shows_no_secret() -> None:
    identity = Identity.make()
    assert repr(identity) == f"Identity(node_id={identity.node_id!r})"


def test_a_truncated_certificate_has_no_node_id() -> None:
    whole = issued().certificate.public_bytes(Encoding.DER)
    for cut in (b"", whole[:1], whole[:30], b"\x30\x03\x02\x01\x01", b"\x30\x82\x01"):
        with pytest.raises(TlsError):
            node_id_of(cut)


def test_an_identity_is_saved_for_its_owner_only_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "me.pem"
    identity = load_or_make_identity(path, "me")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_identity(path) == load_identity(path) == identity
    assert [one.name for one in tmp_path.iterdir()] == ["me.pem"]
    with pytest.raises(FileExistsError):
        Identity.make().save(path)
    other = Identity.make()
    other.save(path, replace=True)
    assert load_identity(path) == other


def test_concurrent_creation_gives_the_same_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = tmp_path / "me.pem", Identity.make()
    made = Identity.make

    def slow(*args: Any) -> Identity:
        first.save(path)
        return made(*args)

    monkeypatch.setattr(Identity, "make", slow)
    assert load_or_make_identity(path) == first


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n", bytes(MAX_FILE + 1)],
)
def test_a_file_without_an_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "me.pem"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(CertificateFileError, match="contains no Ed25519") as caught:
        load_identity(path)
    assert caught.value.__cause__ is None
    with pytest.raises(CertificateFileError, match=r"me\.pem: contains no certificate"):
        TlsNetwork(TlsConfig(certificate=path, system_trust=True))


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "me.pem"
    path.touch(mode=0o600)
    path.write_bytes(key + issued().certificate_pem.encode())
    with pytest.raises(CertificateFileError):
        load_identity(path)


def test_a_file_that_other_users_can_access_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "me.pem"
    Identity.make().save(path)
    path.chmod(0o640)
    for load in (load_identity, lambda where: TlsNetwork(TlsConfig(certificate=where, system_trust=True))):
        with pytest.raises(CertificateFileError, match="chmod 600"):
            load(path)
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(CertificateFileError, match="another user"):
        load_identity(path)
    with pytest.raises(CertificateFileError, match="not a file"):
        load_identity(tmp_path)


def test_key_and_certificate_can_be_in_two_files(tmp_path: Path) -> None:
    identity = issued()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(identity.certificate_pem, encoding="utf-8")
    identity.save(key)
    assert TlsNetwork(TlsConfig(certificate=certificate, key=key, trusted=(certificate,)))
    Identity.make().save(key, replace=True)
    with pytest.raises(CertificateFileError, match="does not match"):
        TlsNetwork(TlsConfig(certificate=certificate, key=key, trusted=(certificate,)))


def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    path = tmp_path / "me.pem"
    path.touch(mode=0o600)
    key = issued().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    path.write_bytes(key + issued().certificate_pem.encode())
    with pytest.raises(CertificateFileError, match="password"):
        TlsNetwork(TlsConfig(certificate=path, system_trust=True))
    with pytest.raises(CertificateFileError):
        load_identity(path)


def test_trusted_files_must_contain_certificates(tmp_path: Path) -> None:
    path = tmp_path / "trusted.pem"
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(CertificateFileError, match=r"trusted\.pem"):
        TlsNetwork(TlsConfig(trusted=(path,)))
    with pytest.raises(CertificateFileError, match="trusted_pem"):
        TlsNetwork(TlsConfig(trusted_pem=("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",)))
    with pytest.raises(FileNotFoundError):
        TlsNetwork(TlsConfig(trusted=(tmp_path / "nowhere",)))


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("key", {"key": "x"}),
        ("trusted", {"trusted": "x"}),
        ("trusted", {"system_trust": False}),
        ("trusted_pem", {"trusted_pem": "x"}),
        ("alpn", {"alpn": "x"}),
        ("alpn", {"alpn": ("",)}),
        ("alpn", {"alpn": ("x" * 256,)}),
        ("minimum_version", {"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED}),
        ("server_name", {"server_name": ""}),
        ("server_name", {"server_name": "x", "check_name": False, "allowed": ()}),
        ("allowed", {"allowed": ID}),
        ("allowed", {"allowed": (ID.upper(),)}),
        ("allowed", {"allowed": (ID[1:],)}),
        ("check_name", {"check_name": False}),
    ],
)
def test_the_error_of_a_wrong_setting_names_it(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        TlsConfig(**{"system_trust": True, **settings})
    assert caught.value.field == field


def test_the_error_of_a_wrong_parameter_names_it() -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [("name", {"name": ""}), ("name", {"name": "x" * 65})]
    wrong += [("hosts", {"hosts": "x.test"}), ("kind", {"kind": "rsa"})]
    for field, settings in wrong:
        with pytest.raises(ConfigError) as caught:
            Identity.make(**settings)
        assert caught.value.field == field
    with pytest.raises(ConfigError):
        Identity(new_key(), issued().certificate)


@pytest.mark.parametrize(
    ("reason", "kind", "text"),
    [
        (
            "TLSV1_ALERT_PROTOCOL_VERSION",
            PeerAlertError,
            "the peer ended the connection with the alert: protocol version "
            "(it does not support the offered versions of TLS)",
        ),
        ("SOMETHING_NEW", TlsError, "TLS failed: something new"),
        ("", TlsError, "TLS failed: what it said"),
    ],
)
def test_errors_of_ssl_are_translated(reason: str | None, kind: type[TlsError], text: str) -> None:
    error = ssl.SSLError(1, "what it said")
    error.reason = reason  # type: ignore[assignment]
    made = translate(error)
    assert (type(made), str(made), made.__cause__) == (kind, text, error)
