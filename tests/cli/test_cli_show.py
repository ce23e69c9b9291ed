"""What the user sees: lines where there is no terminal, bars and tables where there is."""

from __future__ import annotations

import builtins
import io
from typing import Any

import pytest

from pea2pea.cli import show
from pea2pea.cli.errors import CliError, PeerFaultError, explain
from pea2pea.cli.show import Meter, PlainShow, RichShow, Show, Silence, make_show, percent, size


class Terminal(io.StringIO):
    """Claims to be one."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(stream: io.StringIO, clock: Clock) -> PlainShow:
    return PlainShow(stream, clock)


def lines(stream: io.StringIO) -> list[str]:
    found = stream.getvalue().splitlines()
    stream.seek(0)
    stream.truncate()
    return found


def test_lines_are_few_and_tell_rate_and_time_left(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("fetching", 100 << 20)
    plain.at(20 << 20)
    assert lines(stream) == []
    clock.now += 2
    plain.at(40 << 20, "3 peers")
    plain.at(41 << 20, "3 peers")
    assert lines(stream) == ["fetching: 40 % of 100.0 MiB, 10.0 MiB/s, 6 s left, 3 peers"]
    clock.now += 2
    plain.at(100 << 20)
    assert lines(stream) == ["fetching: 100 % of 100.0 MiB, 20.0 MiB/s, 0 s left"]


def test_without_an_end_there_is_no_time_left(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("served", None)
    plain.at(0)
    clock.now += 2
    plain.at(1024, "1 peer")
    assert lines(stream) == ["served: 1.0 KiB, 512 B/s, 1 peer"]


def test_nothing_moves(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("fetching", 10)
    clock.now += 2
    plain.at(0)
    assert lines(stream) == ["fetching: 0 % of 10 B, 0 B/s"]


def test_a_plain_table_prints_what_changed(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.table(("node", "state"), [["0", "starting"], ["1", "starting"]])
    assert lines(stream) == []
    clock.now += 2
    plain.table(("node", "state"), [["0", "sharing"], ["1", "fetching"]])
    assert lines(stream) == ["node 0  state sharing", "node 1  state fetching"]
    plain.table(("node", "state"), [["0", "sharing"], ["1", "verified"]])
    assert lines(stream) == []
    plain.close()
    plain.close()
    assert lines(stream) == ["node 1  state verified"]


def use(one: Show) -> None:
    one.begin("hashing", 100)
    one.at(50)
    one.begin("served", None)
    one.at(0)
    one.at(20, "2 peers")
    one.at(40, "2 peers")
    one.say("a [line] that stays")
    one.close()
    one.table(("node", "state"), [["0", "sharing"]])
    one.table(("node", "state"), [["0", "verified"]])
    one.close()
    one.close()
    one.at(1)


def test_a_terminal_gets_bars_and_tables() -> None:
    stream = Terminal()
    one = make_show(stream)
    assert isinstance(one, RichShow)
    use(one)
    for text in ("hashing", "served", "2 peers", "a [line] that stays", "node", "verified"):
        assert text in stream.getvalue()


def test_silence() -> None:
    use(Silence())


def test_without_rich_there_are_lines_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    stream = Terminal()
    assert isinstance(make_show(stream), PlainShow)
    assert lines(stream) == [show.MISSING_RICH]


def test_a_pipe_gets_lines(stream: io.StringIO) -> None:
    assert isinstance(make_show(stream), PlainShow)


def test_sizes() -> None:
    counts = [0, 1023, 1024, 1536 << 10, 5 << 30, 3 << 40, 5000 << 40]
    assert [size(count) for count in counts] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "5.0 GiB",
        "3.0 TiB",
        "5000.0 TiB",
    ]
    assert [percent(0, 0), percent(0, 3), percent(2, 3), percent(999, 1000), percent(3, 3)] == [
        "100 %",
        "0 %",
        "66 %",
        "99 %",
        "100 %",
    ]


def test_a_meter_settles_on_the_rate() -> None:
    meter = Meter(0.0, span=1.0)
    assert meter.read(100, 0.0) == 0.0, "no time has passed"
    assert meter.read(100, 1.0) == 100.0
    assert meter.read(100, 1.5) == 50.0
    assert meter.read(100, 9.0) == 0.0


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CliError("as it is"), "as it is"),
        (FileNotFoundError(2, "No such file or directory", "x"), "no such file or directory: x"),
        (OSError(28, "No space left on device", "x"), "the disk is full: x"),
        (PermissionError(13, "Permission denied", "x"), "permission denied: x"),
        (TimeoutError(), "timed out"),
        (OSError(), "oserror"),
        (KeyError("x"), "KeyError: 'x'"),
        (PeerFaultError("odd"), "PeerFaultError: odd"),
    ],
)
def test_errors_in_one_line(error: Exception, line: str) -> None:
    assert explain(error) == line


def test_an_error_of_the_core_tells_its_cause_unless_it_has() -> None:
    from pea2pea import ConnectError, HandshakeError

    bare, told, new = ConnectError(""), HandshakeError("peer x: gone"), HandshakeError("peer x: refused")
    told.__cause__ = CliError("gone")
    new.__cause__ = CliError("no room")
    assert [explain(error) for error in (bare, told, new)] == [
        "ConnectError",
        "peer x: gone",
        "peer x: refused: no room",
    ]
