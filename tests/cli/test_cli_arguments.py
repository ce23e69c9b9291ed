"""The arguments: what they mean, and that a wrong one is refused at once, with what was expected."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pea2pea import Topology
from pea2pea.cli.arguments import parse
from pea2pea.share import Limits, Mode, Security

ROOT, OTHER_ROOT, KEY = "ab" * 32, "cd" * 32, "ef" * 32
LINK = f"pea2pea://h:1/{ROOT}/name"
NOISE = f"pea2pea+noise://{KEY}@h:1/{ROOT}/name"
TLS = f"pea2pea+tls://h:1/{ROOT}/name"


def parsed(*args: object) -> argparse.Namespace:
    return parse([str(arg) for arg in args], "1.2.3")


def refusal(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The last line about a command line that is wrong."""
    with pytest.raises(SystemExit) as ended:
        parsed(*args)
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("usage: pea2pea")
    return errors.splitlines()[-1]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == "pea2pea 1.2.3\n"


def test_what_is_asked_for() -> None:
    args = parsed("share", "f", "--listen", "0.0.0.0:4000", "--max-peers", "3")
    assert (args.command, args.file) == ("share", Path("f"))
    assert args.limits == Limits(listen="0.0.0.0:4000", max_peers=3)
    args = parsed("get", LINK, "--stall", "2", "--give-up", "9.5", "--force", "--stay")
    assert args.limits == Limits(stall=2.0, give_up=9.5)
    assert (args.force, args.stay) == (True, True)


def test_what_security_is_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    ca = [tmp_path / name for name in "ab"]
    words = ["--tls", "--key", "k", "--cert", "c", "--allow", KEY.upper(), "--ca", ca[0], "--ca", ca[1]]
    security = parsed("share", "f", *words).limits.security
    assert security == Security(mode=Mode.TLS, key=Path("k"), cert=Path("c"), allow=(KEY,), ca=tuple(ca))
    assert parsed("demo", "f", "--noise").plan.mode is Mode.NOISE
    assert parsed("demo", "f").plan.mode is Mode.PLAIN


def test_a_link_says_how_to_connect() -> None:
    assert parsed("get", LINK).limits.security == Security()
    assert parsed("get", NOISE).limits.security == Security(mode=Mode.NOISE)
    assert parsed("get", NOISE, "h:2", "--key", "k").limits.security == Security(mode=Mode.NOISE, key=Path("k"))
    assert parsed("get", NOISE, "--noise").limits.security == Security(mode=Mode.NOISE)
    assert parsed("get", TLS, "--cert", "c").limits.security == Security(mode=Mode.TLS, cert=Path("c"))
    assert parsed("get", "h:1", "--noise", "-o", "x").limits.security == Security(mode=Mode.NOISE)


def test_a_directory_is_saved_in_under_the_name_in_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("get", LINK, "-o", tmp_path).path == tmp_path / "name"
    assert parsed("get", "h:2", LINK, "-o", f"{tmp_path}/").path == tmp_path / "name"
    assert parsed("get", LINK, "-o", tmp_path / "x").path == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    assert parsed("get", LINK).path == Path("name")
    assert parsed("get", "h:1", "-o", "x").path == Path("x")


def test_where_a_file_cannot_be_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "name").mkdir()
    for args, problem in (
        ((LINK, "-o", tmp_path / "none" / "x"), f"no such directory: {tmp_path / 'none'}"),
        ((LINK, "-o", f"{tmp_path / 'none'}/"), f"no such directory: {tmp_path / 'none'}"),
        ((LINK, "-o", tmp_path), f"{tmp_path / 'name'} exists and is not a file"),
        (("h:1", "-o", tmp_path), f"no link contains the name of the file, and {tmp_path} is a directory: add -o FILE"),
        (("h:1",), "no link contains the name of the file, and . is a directory: add -o FILE"),
    ):
        assert refusal(capsys, "get", *args) == f"pea2pea get: error: {problem}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "share | get | demo"),
        ("nothing", "'nothing'"),
        ("share", "FILE"),
        ("share f --listen nowhere", "expected HOST:PORT, got 'nowhere'"),
        ("share f --listen 127.0.0.1:99999", "expected HOST:PORT"),
        ("share f --max-peers 0", "expected an integer from 1 to 100000, got '0'"),
        ("share f --max-peers many", "got 'many'"),
        ("get h:1 -o x --stall 0", "expected a number of seconds above 0, got '0'"),
        ("get h:1 -o x --stall soon", "expected a number of seconds above 0, got 'soon'"),
        ("get h:1 -o x --give-up inf", "got 'inf'"),
        ("share f --noise --tls", "not allowed with argument"),
        ("share f --key k", "--key and --allow need --noise or --tls"),
        (f"share f --allow {KEY}", "--key and --allow need --noise or --tls"),
        ("share f --noise --cert c", "--cert and --ca need --tls"),
        ("share f --noise --allow ab", "expected 64 hexadecimal digits, got 'ab'"),
        ("share f --tls", "TLS needs --cert FILE"),
        ("share f --tls --cert c --ca nowhere", "no such file: nowhere"),
        ("get -o x", "LINK|HOST:PORT"),
        ("get nonsense -o x", "expected a link or HOST:PORT, got 'nonsense'"),
        (f"get http://h:1/{ROOT} -o x", "expected a link that starts with pea2pea://"),
        (f"get {LINK} pea2pea://h:1/{OTHER_ROOT} -o x", "the links name different files"),
        (f"get {LINK} {NOISE} -o x", "different kinds of encryption"),
        (f"get {LINK} --noise", "shared without encryption: leave out --noise"),
        (f"get {NOISE} --tls --cert c", "shared with Noise: leave out --tls"),
        (f"get {TLS}", "TLS needs --cert FILE"),
        (f"get {LINK} --key k", "--key and --allow need --noise or --tls"),
        ("demo --topology cube", "invalid choice: 'cube'"),
        ("demo --nodes many", "expected an integer from 1 to 64, got 'many'"),
        ("demo --nodes 65", "expected an integer from 1 to 64, got '65'"),
        ("demo --nodes 2 --topology ring", "ring"),
        ("demo --width 2", "--width needs --topology grid, got random"),
        ("demo --degree 2 --topology line", "--degree needs --topology random, got line"),
        ("demo --seed 2 --topology line", "--seed needs --topology random, got line"),
        ("demo --nodes 6 --topology grid --width 4", "grid"),
        ("demo f --size 3", "--size is the size of a file that is made"),
        ("demo --size 0", "expected an integer from 1"),
        ("demo --rate -1", "expected a number of MiB per second, or 0, got '-1'"),
        ("demo --rate nan", "got 'nan'"),
        ("demo --noise --tls", "not allowed with argument"),
        ("node", "'node'"),
    ],
)
def test_a_wrong_argument(line: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert problem in refusal(capsys, *line.split())


# The demonstration


def dials(*args: str) -> int:
    return len(parsed("demo", *args).plan.edges())


def test_shapes() -> None:
    assert dials("--nodes", "6", "--topology", "grid") == 7, "two by three"
    assert dials("--nodes", "6", "--topology", "grid", "--width", "6") == 5
    assert dials("--nodes", "7", "--topology", "grid") == 6, "a prime number makes a line"
    assert dials("--nodes", "2") == 1
    assert dials("--nodes", "8", "--seed", "1") == 12
    assert dials("--nodes", "8", "--degree", "4") == 16
    for shape in Topology:
        assert dials("--nodes", "4", "--topology", shape.value) >= 3


def test_without_a_file_one_of_64_mib_is_made_and_spread_slowly() -> None:
    plan = parsed("demo").plan
    assert (plan.file, plan.size) == (None, 64 << 20)
    assert plan.rate is not None and 10 << 20 < plan.rate < 50 << 20
    plan = parsed("demo", "--size", "3", "--rate", "0").plan
    assert (plan.size, plan.rate) == (3 << 20, None)
