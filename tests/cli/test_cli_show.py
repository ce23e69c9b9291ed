"""What the user sees: bars and tables in a terminal, plain lines elsewhere."""

from __future__ import annotations

import builtins
import io
from typing import Any

import pytest

from pea2pea.cli import show
from pea2pea.cli.show import PlainShow, Show, TerminalShow, make_show


class Terminal(io.StringIO):
    """Claims to be one."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

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


def test_lines_are_few_and_have_the_rate_and_the_time_left(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("getting", 100 << 20)
    plain.at(20 << 20)
    assert lines(stream) == []
    clock.now += 2
    plain.at(40 << 20, "3 peers")
    plain.at(41 << 20, "3 peers")
    assert lines(stream) == ["getting: 40 % of 100.0 MiB, 10.0 MiB/s, 0:06 left, 3 peers"]
    clock.now += 2
    plain.at(100 << 20)
    assert lines(stream) == ["getting: 100 % of 100.0 MiB, 20.0 MiB/s, 0:00 left"]


def test_the_rate_is_that_of_the_last_seconds(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("getting", 1 << 40)
    for second in range(20):
        clock.now += 1
        plain.at((second + 1) << 30)
    lines(stream)
    for second in range(20):
        clock.now += 1
        plain.at((20 << 30) + ((second + 1) << 20), "1 peer")
    assert "1.0 MiB/s" in lines(stream)[-1]


def test_without_an_end_there_is_no_time_left(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("served", None)
    plain.at(0)
    clock.now += 2
    plain.at(1024, "1 peer")
    assert lines(stream) == ["served: 1.0 KiB, 512 B/s, 1 peer"]


def test_serving_prints_on_change_alone(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("served", None)
    for _ in range(20):
        clock.now += 2
        plain.at(0, "0 peers")
    assert lines(stream) == []
    for note in ("1 peer", "1 peer", "1 peer", "0 peers", "0 peers"):
        clock.now += 2
        plain.at(0, note)
    assert lines(stream) == ["served: 0 B, 0 B/s, 1 peer", "served: 0 B, 0 B/s, 0 peers"]


def test_a_download_that_does_not_begin_is_reported_once(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.begin("getting", 10)
    for _ in range(5):
        clock.now += 2
        plain.at(0)
    assert lines(stream) == ["getting: 0 % of 10 B, 0 B/s"]


HEAD = ("node", "pid", "state")


def test_a_plain_table_prints_what_changed(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    plain.table(HEAD, [], ["node 0: starting", "node 1: starting"])
    assert lines(stream) == []
    clock.now += 2
    plain.table(HEAD, [], ["node 0: sharing", "node 1: getting"])
    assert lines(stream) == ["node 0: sharing", "node 1: getting"]
    plain.table(HEAD, [], ["node 0: sharing", "node 1: verified"])
    assert lines(stream) == []
    plain.close()
    plain.close()
    assert lines(stream) == ["node 1: verified"]


def use(one: Show) -> None:
    one.at(1)
    one.begin("hashing", 100)
    one.at(50)
    one.begin("served", None)
    one.at(0)
    one.at(20, "2 peers")
    one.at(40, "2 peers")
    one.say("a [line] that stays")
    one.end()
    one.begin("empty", 0)
    one.close()
    one.table(HEAD, [["0", "77", "sharing"]], ["node 0"], ("pid",))
    one.table(HEAD, [["0", "77", "verified"]], ["node 0"], ("pid",))
    one.close()
    one.close()
    one.at(1)


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "\u2501"), ("ascii", "#")])
def test_a_terminal_gets_bars_and_tables(encoding: str, bar: str) -> None:
    stream = Terminal(encoding)
    one = make_show(stream, {"TERM": "xterm"})
    assert isinstance(one, TerminalShow)
    use(one)
    for text in ("hashing", bar, "served", "a [line] that stays", "node", "pid", "verified"):
        assert text in stream.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown", "DUMB"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(term: str) -> None:
    assert isinstance(make_show(Terminal(), {"TERM": term}), PlainShow)


def test_a_plain_display_shows_lines_alone(plain: PlainShow, stream: io.StringIO, clock: Clock) -> None:
    use(plain)
    assert lines(stream) == ["a [line] that stays", "node 0"]


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
