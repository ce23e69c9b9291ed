"""``--noise`` and ``--tls``: a file goes over either, and to nobody who is not let in."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from pea2pea.cli.errors import CliError, PeerFaultError
from pea2pea.cli.jobs import Limits, get, share
from pea2pea.cli.main import main, parser, plan_of
from pea2pea.cli.security import NoiseSeal, Security, crowd_security
from pea2pea.cli.tree import Target
from pea2pea.cli.wire import HELLO_SIZE, Bitmap, Hello, Wire
from pea2pea.noise import NoiseError, load_or_make_key
from pea2pea.tls.certificates import load_identity, load_or_make_identity
from support.cli import Notes, Printed, any_line, make_file, same
from support.cli_process import process, running
from support.noise import sessions

pytestmark = pytest.mark.loop("tcp")

KEY = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 5.5)


async def transfer(file: Path, sharer: Security, getter: Security) -> tuple[Notes, Notes]:
    printed, shown, notes = Printed(), Notes(), Notes()
    async with running(share(file, Limits(security=sharer), shown, printed), printed) as link:
        copy = file.with_name("copy")
        await get([link], copy, Limits(security=getter, give_up=5.0), notes, Printed())
    assert same(file, copy)
    return shown, notes


async def refusal(file: Path, sharer: Security, getter: Security) -> str:
    with pytest.raises(CliError) as caught:
        await transfer(file, sharer, getter)
    assert not file.with_name("copy").exists()
    return str(caught.value)


async def test_a_file_goes_over_noise(file: Path, tmp_path: Path) -> None:
    shown, _ = await transfer(file, Security(noise=True, key=tmp_path / "key"), Security(noise=True))
    assert shown.lines[0] == f"this node's key is {load_or_make_key(tmp_path / 'key').public.hex()}"


async def test_over_noise_only_who_is_allowed_gets_it(file: Path, tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("ann", "bob")]
    ann, bob = (load_or_make_key(key).public.hex() for key in keys)
    welcome = Security(noise=True, key=keys[0], allow=(bob,))
    said = await refusal(file, welcome, Security(noise=True))
    assert "is this node's key on its allow-list?" in said
    said = await refusal(file, welcome, Security(noise=True, key=keys[1], allow=(bob,)))
    assert "not on the allow-list" in said
    await transfer(file, welcome, Security(noise=True, key=keys[1], allow=(ann,)))


async def test_over_tls_only_who_is_trusted_gets_it(file: Path, tmp_path: Path) -> None:
    ann, bob, eve = crowd_security(tmp_path, 3, tls=True)
    await transfer(file, ann, bob)
    file.with_name("copy").unlink()
    assert ann.cert is not None and eve.cert is not None
    only = Security(tls=True, cert=ann.cert, ca=ann.ca, allow=(load_identity(ann.cert).node_id,))
    assert "cannot reach" in await refusal(file, only, bob)
    stranger = Security(tls=True, cert=tmp_path / "stranger", ca=ann.ca)
    assert "refuses this side's certificate: unknown ca" in await refusal(file, ann, stranger)


async def test_one_certificate_can_be_shared_by_all(file: Path, tmp_path: Path) -> None:
    mesh = Security(tls=True, cert=tmp_path / "mesh.pem")
    shown, notes = await transfer(file, mesh, mesh)
    assert shown.lines[0] == f"this node's id is {load_identity(tmp_path / 'mesh.pem').node_id}"
    assert not any_line(notes.lines, "this node's id")


@pytest.mark.expects_errors
async def test_without_what_the_other_side_asks_for_nothing_is_sent(file: Path, tmp_path: Path) -> None:
    tls = Security(tls=True, cert=tmp_path / "mesh.pem")
    noise = Security(noise=True)
    for sharer, getter in ((tls, Security()), (Security(), tls), (noise, Security())):
        assert "cannot reach" in await refusal(file, sharer, getter)


async def test_a_hello_ends_where_it_ends_however_it_is_cut_into_noise_messages() -> None:
    """What follows in the same message is the first that is decoded."""
    hello, wire = Hello(Target(1000, bytes(32))), Wire(Target(1000, bytes(32)))
    said = hello.encode() + b"".join(map(bytes, wire.encode([Bitmap(1)])))
    for cut in (len(said), HELLO_SIZE, 1, HELLO_SIZE + 1):
        (ann, session), reader = sessions(), asyncio.StreamReader()
        bob = NoiseSeal(session)
        reader.feed_data(ann.seal(said[:cut]) + ann.seal(said[cut:]))
        assert await bob.read(reader) == hello
        reader.feed_eof()
        assert bob.decoder(wire).decode(memoryview(await reader.read()))[0] == [Bitmap(1)]


async def test_who_does_not_begin_with_a_hello_is_refused() -> None:
    ann, bob = (NoiseSeal(session) for session in sessions())
    reader = asyncio.StreamReader()
    hello = Hello(Target(1000, bytes(32)))
    reader.feed_data(ann.seal(hello))
    assert await bob.read(reader) == hello
    reader.feed_data(b"".join(ann.encoder(Wire(Target(1000, bytes(32)))).encode([Bitmap(1)])) * 9)
    with pytest.raises(NoiseError):  # the same message again
        await bob.read(reader)
    for said, problem in ((bytes(HELLO_SIZE), PeerFaultError), (b"pea2pea", ConnectionError)):
        (one, other), reader = sessions(), asyncio.StreamReader()
        reader.feed_data(one.seal(said))
        reader.feed_eof()
        with pytest.raises(problem):
            await NoiseSeal(other).read(reader)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"noise": True, "tls": True}, "choose one"),
        ({"key": Path("x")}, "--noise or --tls"),
        ({"allow": (KEY,)}, "--noise or --tls"),
        ({"cert": Path("x")}, "go with --tls"),
        ({"noise": True, "ca": (Path("x"),)}, "go with --tls"),
        ({"tls": True}, "needs --cert"),
        ({"noise": True, "allow": ("ab",)}, "64 hexadecimal digits"),
        ({"noise": True, "allow": ("zz" * 32,)}, "64 hexadecimal digits"),
    ],
)
def test_what_does_not_go_together(options: dict[str, object], problem: str) -> None:
    with pytest.raises(CliError, match=problem):
        Security(**options)  # type: ignore[arg-type]


def test_a_command_line_says_what_is_asked_for() -> None:
    words = ["share", "f", "--tls", "--key", "k", "--cert", "c", "--allow", KEY.upper(), "--ca", "a", "--ca", "b"]
    asked = Security.of(parser().parse_args(words))
    paths = (Path("a"), Path("b"))
    assert asked == Security(tls=True, key=Path("k"), cert=Path("c"), allow=(KEY,), ca=paths)
    again = parser().parse_args(["share", "f", *asked.arguments()])
    assert Security.of(again) == asked
    plan = plan_of(parser().parse_args(["demo", "f", "--noise"]))
    assert plan.noise and not plan.tls


def test_a_mistake_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["share", str(file), "--tls"]) == 1
    assert capsys.readouterr().err.startswith("pea2pea: --tls needs --cert")


@pytest.mark.parametrize("kind", ["noise", "tls"])
def test_share_and_get_in_processes_of_their_own(file: Path, tmp_path: Path, kind: str) -> None:
    options: dict[str, list[str]] = {"noise": ["--noise"], "tls": ["--tls", "--cert", str(tmp_path / "mesh.pem")]}
    if kind == "tls":
        load_or_make_identity(tmp_path / "mesh.pem")
    with process("share", file, *options[kind]) as one:
        assert one.stdout is not None
        link = one.stdout.readline().strip()
        command = [sys.executable, "-m", "pea2pea", "get", link, "-o", str(tmp_path / "copy"), *options[kind]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert same(file, tmp_path / "copy")


@pytest.mark.parametrize("kind", ["--noise", "--tls"])
def test_the_demonstration_is_secured(file: Path, kind: str) -> None:
    with process("demo", file, "--nodes", 3, "--topology", "ring", kind) as one:
        out, errors = one.communicate(timeout=40)
    assert one.returncode == 0, errors
    assert out.startswith("OK: 3 nodes (ring)")
