"""Key files: accessible to their owner only, written atomically, and refused otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pea2pea.errors import Pea2PeaError
from pea2pea.noise import KeyFileError, KeyPair, load_key, load_or_make_key, save_key

posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")


@pytest.mark.parametrize("curve", ["25519", "448"])
def test_a_key_is_saved_and_loaded(tmp_path: Path, curve: str) -> None:
    key = KeyPair.generate(curve)
    save_key(key, tmp_path / "key")
    loaded = load_key(tmp_path / "key")
    assert (loaded.public, loaded.curve, loaded.private_bytes()) == (key.public, curve, key.private_bytes())
    assert os.listdir(tmp_path) == ["key"]


@posix
def test_a_key_that_others_can_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    save_key(KeyPair.generate(), path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    for load in (load_key, load_or_make_key):
        with pytest.raises(KeyFileError, match="others can use it"):
            load(path)
    with pytest.raises(KeyFileError, match="not a file"):
        load_key(tmp_path)


GOOD = b"pea2pea-noise-25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, GOOD[:-4], GOOD.replace(b"25519", b"448"), GOOD.replace(b"A", b"?"), GOOD + b"A" * 300,
     GOOD.replace(b"pea2pea", b"pea"), GOOD[20:]],
)  # fmt: skip
def test_a_file_without_a_key_is_refused_and_its_content_is_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a key file") as caught:
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


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert load_or_make_key(path).public == load_or_make_key(path).public
    with pytest.raises(FileNotFoundError):
        load_key(tmp_path / "none")


def test_two_that_make_it_at_once_get_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "pip install 'pea2pea[noise]'" in done.stdout
