"""What the user sees on standard error: bars where it is a terminal and ``rich`` is there, plain lines elsewhere.

The only room that imports ``rich``, and only when a bar is drawn.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

#: Seconds between two plain lines about the same work.
PLAIN_INTERVAL = 2.0

MISSING_RICH = "(for progress bars, install rich: pip install 'pea2pea[cli]')"

Row = Sequence[str]


class Show(ABC):
    """Progress of one thing at a time, and lines in between. Safe to use from a thread."""

    @abstractmethod
    def begin(self, what: str, total: int | None) -> None:
        """Something new is under way: ``total`` bytes of it, ``None`` where it has no end."""

    @abstractmethod
    def at(self, done: int, note: str = "") -> None:
        """So many bytes are done. May be called as often as one likes."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Show a line that stays."""

    @abstractmethod
    def table(self, head: Row, rows: Sequence[Row]) -> None:
        """Show a table in the place of the last one."""

    @abstractmethod
    def close(self) -> None:
        """Leave the screen as it should stay. May be called twice."""


class Silence(Show):
    """Shows nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`Show`."""

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`Show`."""

    def say(self, line: str) -> None:
        """As in :class:`Show`."""

    def table(self, head: Row, rows: Sequence[Row]) -> None:
        """As in :class:`Show`."""

    def close(self) -> None:
        """As in :class:`Show`."""


class PlainShow(Show):
    """Lines, at most one every ``PLAIN_INTERVAL`` seconds about the same work."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._what = ""
        self._total: int | None = None
        self._first: int | None = None
        self._began = clock()
        self._due = self._began + PLAIN_INTERVAL
        self._head: Row = ()
        self._shown: list[Row] = []
        self._rows: list[Row] = []

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`Show`."""
        self._what, self._total, self._first = what, total, None
        self._began = self._clock()
        self._due = self._began + PLAIN_INTERVAL

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`Show`."""
        if self._first is None:
            self._first = done
        now = self._clock()
        if now >= self._due:
            self._due = now + PLAIN_INTERVAL
            rate = (done - self._first) / (now - self._began)
            parts = (f"{self._what}: {self._share(done)}", f"{size(rate)}/s", self._left(done, rate), note)
            self.say(", ".join(filter(None, parts)))

    def say(self, line: str) -> None:
        """As in :class:`Show`."""
        print(line, file=self._stream, flush=True)

    def table(self, head: Row, rows: Sequence[Row]) -> None:
        """Print the rows that have changed, one line each, when the next line is due; the last ones at the end."""
        self._head, self._rows = head, list(rows)
        now = self._clock()
        if now >= self._due:
            self._due = now + PLAIN_INTERVAL
            self._print_rows()

    def close(self) -> None:
        """As in :class:`Show`."""
        self._print_rows()

    def _print_rows(self) -> None:
        for row in self._rows:
            if row not in self._shown:
                self.say("  ".join(f"{name} {cell}" for name, cell in zip(self._head, row, strict=True)))
        self._shown = self._rows

    def _share(self, done: int) -> str:
        return f"{percent(done, self._total)} of {size(self._total)}" if self._total is not None else size(done)

    def _left(self, done: int, rate: float) -> str:
        return f"{(self._total - done) / rate:.0f} s left" if self._total is not None and rate > 0 else ""


class RichShow(Show):
    """A bar with rate and time left, and a live table."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._progress: Progress | None = None
        self._live: Live | None = None

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`Show`."""
        from rich import progress

        self.close()
        columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        columns += [progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn()]
        if total is not None:
            columns += [progress.TimeRemainingColumn()]
        columns += [progress.TextColumn("{task.fields[note]}")]
        self._progress = progress.Progress(*columns, console=self._console)
        self._progress.add_task(what, total=total, note="")
        self._progress.start()

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`Show`."""
        if self._progress is not None:
            task = self._progress.task_ids[0]
            if self._progress.tasks[0].completed == 0 and done:
                self._progress.reset(task, completed=done, total=self._progress.tasks[0].total)
            self._progress.update(task, completed=done, note=note)

    def say(self, line: str) -> None:
        """As in :class:`Show`."""
        self._console.print(line, markup=False, soft_wrap=True)

    def table(self, head: Row, rows: Sequence[Row]) -> None:
        """As in :class:`Show`."""
        from rich.live import Live
        from rich.table import Column, Table

        table = Table(*(Column(name, no_wrap=True) for name in head), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """As in :class:`Show`."""
        if self._progress is not None:
            self._progress.stop()
        if self._live is not None:
            self._live.stop()
        self._progress = self._live = None


class Meter:
    """The rate of a counter, smoothed over about ``span`` seconds."""

    def __init__(self, now: float, *, span: float = 2.0) -> None:
        self._at, self._count, self._span = now, 0, span
        self.rate = 0.0

    def read(self, count: int, now: float) -> float:
        """Return the rate, ``count`` being reached at ``now``."""
        passed = now - self._at
        if passed > 0:
            weight = min(1.0, passed / self._span)
            self.rate += weight * ((count - self._count) / passed - self.rate)
            self._at, self._count = now, count
        return self.rate


def make_show(stream: TextIO) -> Show:
    """Return the best show for ``stream``."""
    if not stream.isatty():
        return PlainShow(stream)
    try:
        return RichShow(stream)
    except ImportError:
        show = PlainShow(stream)
        show.say(MISSING_RICH)
        return show


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def percent(done: int, total: int) -> str:
    """Return how much of ``total`` is done; 100 % only when all is."""
    return f"{100 * done // total if total else 100} %"
