"""Key files: for their owner alone, whole or not there, and refused when they are neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pea2pea.errors import Pea2PeaError
from pea2pea.noise import KeyFileError, KeyPair, load_key, load_or_make_key, save_key
from pea2pea.noise import keys as keys_module

posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")


@pytest.mark.parametrize("curve", ["25519", "448"])
def test_a_key_is_saved_and_loaded(tmp_path: Path, curve: str) -> None:
    key = KeyPair.generate(curve)
    save_key(key, tmp_path / "key")
    loaded = load_key(tmp_path / "key")
    assert (loaded.public, loaded.curve, loaded.private_bytes()) == (key.public, curve, key.private_bytes())
    assert os.listdir(tmp_path) == ["key"]


@posix
def test_only_the_owner_can_use_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_key(KeyPair.generate(), tmp_path / "key")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    save_key(KeyPair.generate(), path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="others can use it"):
        load_key(path)
    with pytest.raises(KeyFileError):
        load_or_make_key(path)


@posix
def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_key(KeyPair.generate(), tmp_path / "key")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(KeyFileError, match="another user"):
        load_key(tmp_path / "key")


@posix
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="not a file"):
        load_key("/dev/null")
    with pytest.raises(OSError):
        load_key(tmp_path)


def test_without_owners_the_mode_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_HAS_OWNERS", False)
    key = KeyPair.generate()
    save_key(key, tmp_path / "key")
    (tmp_path / "key").chmod(0o666)
    assert load_key(tmp_path / "key").public == key.public


GOOD = b"pea2pea-noise-25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, GOOD[:-4], GOOD.replace(b"25519", b"448"), GOOD.replace(b"A", b"?"), GOOD + b"A" * 300,
     GOOD.replace(b"pea2pea", b"pea"), GOOD[20:]],
)  # fmt: skip
def test_what_holds_no_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="holds no key") as caught:
        load_key(path)
    assert isinstance(caught.value, Pea2PeaError) and isinstance(caught.value, OSError)
    assert "AAAA" not in str(caught.value) and caught.value.__cause__ is None
    path.write_bytes(GOOD)
    assert load_key(path).private_bytes() == bytes(32)


def test_an_identity_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first, second = KeyPair.generate(), KeyPair.generate()
    save_key(first, path)
    with pytest.raises(FileExistsError):
        save_key(second, path)
    assert load_key(path).public == first.public
    save_key(second, path, replace=True)
    assert load_key(path).public == second.public
    assert os.listdir(tmp_path) == ["key"]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        save_key(KeyPair.generate(), tmp_path / "key")
    assert os.listdir(tmp_path) == []


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert load_or_make_key(path).public == load_or_make_key(path).public
    with pytest.raises(FileNotFoundError):
        load_key(tmp_path / "none")


def test_of_two_that_make_it_at_once_both_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    other = KeyPair.generate()
    generate = KeyPair.generate

    def be_overtaken(curve: str) -> KeyPair:
        save_key(other, path)
        return generate(curve)

    monkeypatch.setattr(KeyPair, "generate", be_overtaken)
    assert load_or_make_key(path).public == other.public


def test_without_cryptography_the_error_says_what_to_install() -> None:
    script = (
        "import sys\nsys.modules['cryptography'] = None\ntry:\n    import pea2pea.noise\n"
        "except ImportError as error:\n    assert error.name == 'cryptography', error.name\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install pea2pea[noise]" in done.stdout
