"""Every example runs, as a user would run it, and so does the first program of the README."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pea2pea.noise import load_or_make_key

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

#: What is left open is complained about, and that is an error. Not in development mode, in which asyncio complains
#: about a callback that took long as well: of a busy machine.
PYTHON = (sys.executable, "-W", "error", "-u")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}


def run(*arguments: str | Path, typed: str | None = None) -> str:
    """Run a program to its end and return what it printed; it must succeed and complain of nothing."""
    done = subprocess.run(
        [*PYTHON, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=50, check=False,
        input=typed,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A program that reads and writes lines; it is killed at the end if it has not ended by itself."""
    program = subprocess.Popen(
        [*PYTHON, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    with program:
        try:
            yield program
        finally:
            program.kill()


def first_program(markdown: Path) -> str:
    found = re.search(r"^```python\n(.*?)^```$", markdown.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_every_example_is_run_here() -> None:
    run_here = {"chaos", "chat", "crawler", "echo", "encrypted_chat", "handshake", "libp2p_ping", "tls_mesh"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run_here


def test_the_program_of_the_readme(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(first_program(ROOT / "README.md"), encoding="utf-8")
    assert run(program) == "received: b'hello'\n"


def test_echo() -> None:
    assert run(EXAMPLES / "echo.py") == "hello\n"


def test_tls_mesh() -> None:
    assert run(EXAMPLES / "tls_mesh.py") == "ann is connected with bob and cleo\neve: refused\neve: connected\n"


def test_handshake_lets_in_who_knows_the_secret_and_nobody_else() -> None:
    printed = run(EXAMPLES / "handshake.py")
    assert printed == "friend: accepted, session 32 bytes\nstranger: refused (HandshakeError)\n"


def test_libp2p_ping_of_hosts_that_are_told_and_not() -> None:
    who, *pings, shouted = run(EXAMPLES / "libp2p_ping.py").splitlines()
    assert re.fullmatch(r"12D3KooW\w+ is pea2pea, and supports .*/shout/1.0.0", who)
    assert len(pings) == 3 and all(re.fullmatch(r"ping: \d+\.\d ms", ping) for ping in pings)
    assert shouted == "HELLO"


def test_crawler_finds_everyone() -> None:
    assert run(EXAMPLES / "crawler.py") == "found 20 of 20 nodes\n"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_chaos_does_not_bring_the_node_down(seed: str) -> None:
    summary, answer = run(EXAMPLES / "chaos.py", seed).splitlines()
    assert re.match(rf"seed {seed}: 50 connections ended, .*\d+ BAD_DATA, \d+ PEER_CLOSED", summary)
    assert answer == "still there"


def test_chat_tells_everyone_what_is_typed() -> None:
    def line(program: subprocess.Popen[str]) -> str:
        assert program.stdout is not None
        return program.stdout.readline().rstrip("\n")

    def type_in(program: subprocess.Popen[str], text: str) -> None:
        assert program.stdin is not None
        program.stdin.write(text)
        program.stdin.flush()

    with running(EXAMPLES / "chat.py", "ann", "127.0.0.1:0") as ann:
        addr = line(ann).rpartition(" ")[2]
        with running(EXAMPLES / "chat.py", "bob", "127.0.0.1:0", addr) as bob:
            assert line(bob).startswith("* bob listens on ")
            assert (line(ann), line(bob)) == ("* bob is here", "* ann is here")
            type_in(bob, "hello\n")
            assert line(ann) == "<bob> hello"
            type_in(ann, "\x1b[2J and welcome\n")
            assert line(bob) == "<ann> \\x1b[2J and welcome"
            assert bob.stdin is not None
            bob.stdin.close()
            assert line(ann) == "* bob left (the peer closed the connection)"
            assert bob.wait(timeout=20) == 0


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_chat_says_who_cannot_be_reached(tmp_path: Path, encrypted: bool) -> None:
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        addr = f"127.0.0.1:{nobody.getsockname()[1]}"
        if encrypted:
            said = run(EXAMPLES / "encrypted_chat.py", tmp_path / "key", "127.0.0.1:0", "--dial", addr, typed="")
        else:
            said = run(EXAMPLES / "chat.py", "ann", "127.0.0.1:0", addr, typed="")
    assert said.splitlines()[1] == f"* {addr}: Connection refused"


def test_encrypted_chat_lets_in_whom_it_knows(tmp_path: Path) -> None:
    def line(program: subprocess.Popen[str]) -> str:
        assert program.stdout is not None
        return program.stdout.readline().rstrip("\n")

    keys = {name: load_or_make_key(tmp_path / name).public.hex() for name in ("ann", "bob", "eve")}
    script = EXAMPLES / "encrypted_chat.py"
    with running(script, tmp_path / "ann", "127.0.0.1:0", "--allow", keys["bob"]) as ann:
        start, _, addr = line(ann).rpartition(" ")
        assert start == f"* key {keys['ann']} listens on"
        allow_ann = ("127.0.0.1:0", "--allow", keys["ann"], "--dial", addr)
        with running(script, tmp_path / "bob", *allow_ann) as bob:
            assert line(bob).startswith(f"* key {keys['bob']}")
            assert (line(ann), line(bob)) == (f"* {keys['bob'][:8]} is here", f"* {keys['ann'][:8]} is here")
            assert bob.stdin is not None
            bob.stdin.write("hello\n")
            bob.stdin.flush()
            assert line(ann) == f"<{keys['bob'][:8]}> hello"
        eve = run(script, tmp_path / "eve", "127.0.0.1:0", "--allow", keys["bob"], "--dial", addr, typed="")
        assert eve.endswith(f"* {addr}: PeerNotAllowedError\n")
