"""What the user sees on standard error: a live line or table in a terminal, plain lines elsewhere.

The only module that imports ``rich``, and only for a terminal that can move its cursor.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from pea2pea.share import Progress

from .figures import Rate, Row, duration, fit_columns, line_of, percent, share_of, size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

#: Seconds between two plain lines about the same work.
PLAIN_INTERVAL = 2.0
#: Terminals that cannot move the cursor.
DUMB = ("dumb", "unknown")

MISSING_RICH = "(for progress bars, install rich: pip install 'pea2pea[cli]')"


class Show(Progress):
    """A display of progress, and of a table."""

    @abstractmethod
    def table(self, head: Row, rows: Sequence[Row], lines: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Show a table in place of the last one.

        Where no table can be shown, ``lines`` are printed instead, one for each row. Columns named in
        ``optional`` are left out, in that order, if the terminal is too narrow.
        """

    @abstractmethod
    def close(self) -> None:
        """End what is under way and leave the screen as it should stay. May be called twice."""


class Work:
    """The piece of work that is under way, with its rate over the last seconds."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self.note = ""
        self._rate = Rate()
        self._per_second = 0.0

    def at(self, done: int, note: str, now: float) -> None:
        """Take new figures."""
        self.done, self.note = done, note
        self._per_second = self._rate.read(done, now)

    def parts(self) -> list[str]:
        """Return what there is to say, of which only the first part is never empty."""
        rate = f"{size(self._per_second)}/s"
        if self.total is None:
            return [self.what, "", size(self.done), rate, "", self.note]
        left = duration((self.total - self.done) / self._per_second) if self._per_second > 0 else ""
        return [self.what, percent(self.done, self.total), share_of(self.done, self.total), rate, left, self.note]

    def line(self) -> str:
        """Return the same as a plain line."""
        what, done, amount, rate, left, note = self.parts()
        if self.total is not None:
            amount = f"{done} of {size(self.total)}"
        return f"{what}: {', '.join(filter(None, (amount, rate, left and f'{left} left', note)))}"


class PlainShow(Show):
    """Lines: at most one every ``PLAIN_INTERVAL`` seconds about the same work, and only if something has changed."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._work: Work | None = None
        self._shown: tuple[int, str] | None = None
        self._due = clock() + PLAIN_INTERVAL
        self._lines: list[str] = []
        self._printed: list[str] = []

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        self._work, self._shown = Work(what, total), None
        self._due = self._clock() + PLAIN_INTERVAL

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        if self._work is None:
            return
        now = self._clock()
        self._work.at(done, note, now)
        if self._shown is None and self._work.total is None:
            self._shown = done, note  # nothing has been served yet, which is not worth a line
        if now >= self._due and self._shown != (done, note):
            self._due = now + PLAIN_INTERVAL
            self._shown = done, note
            self.say(self._work.line())

    def say(self, line: str) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        print(line, file=self._stream, flush=True)

    def end(self) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        self._work = None

    def table(self, head: Row, rows: Sequence[Row], lines: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Print the lines that have changed when the next is due; the last ones are printed by :meth:`close`."""
        self._lines = list(lines)
        now = self._clock()
        if now >= self._due:
            self._due = now + PLAIN_INTERVAL
            self._print_lines()

    def close(self) -> None:
        """As in :class:`Show`."""
        self.end()
        self._print_lines()

    def _print_lines(self) -> None:
        for line in self._lines:
            if line not in self._printed:
                self.say(line)
        self._printed = self._lines


class TerminalShow(Show):
    """One line with a bar that is redrawn in place and disappears at its end, or a table that stays."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._clock = clock
        self._bar = BAR if (stream.encoding or "").lower().startswith("utf") else ASCII_BAR
        self._work: Work | None = None
        self._live: Live | None = None

    def begin(self, what: str, total: int | None) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        self.close()
        self._work = Work(what, total)
        self._live = self._start(_Line(self._work, self._bar), transient=True)

    def at(self, done: int, note: str = "") -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        if self._work is not None:
            self._work.at(done, note, self._clock())

    def say(self, line: str) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        self._console.print(line, markup=False, soft_wrap=True)

    def end(self) -> None:
        """As in :class:`~pea2pea.share.Progress`."""
        self.close()

    def table(self, head: Row, rows: Sequence[Row], lines: Sequence[str], optional: Sequence[str] = ()) -> None:
        """As in :class:`Show`."""
        from rich.table import Column, Table

        # A line as wide as the terminal makes some of them wrap, and then the redrawn table overwrites its own head.
        kept = fit_columns(head, rows, optional, self._console.width - 1)
        table = Table(*(Column(head[at], no_wrap=True) for at in kept), box=None, pad_edge=False, padding=(0, 1))
        for row in rows:
            table.add_row(*(row[at] for at in kept))
        if self._live is None:
            self._live = self._start(table, transient=False)
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """As in :class:`Show`."""
        if self._live is not None:
            self._live.stop()
        self._live = self._work = None

    def _start(self, what: RenderableType, *, transient: bool) -> Live:
        from rich.live import Live

        # Standard output is not redirected: what goes there are results, which may be piped elsewhere.
        live = Live(what, console=self._console, transient=transient, redirect_stdout=False, redirect_stderr=False)
        live.start()
        return live


#: The characters of the done and the open part of a bar.
BAR, ASCII_BAR = ("━", "─"), ("#", "-")


class _Line:
    """A :class:`Work` as one line of the width of the terminal."""

    #: The parts to leave out in a narrow terminal: the percentage, which the bar shows, then the peers, then the time.
    optional = (1, 5, 4)

    def __init__(self, work: Work, bar: tuple[str, str]) -> None:
        self._work = work
        self._bar = bar

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        work = self._work
        before, room, after = line_of(work.parts(), self.optional, options.max_width)
        text = Text(before, no_wrap=True, overflow="crop", end="")
        if work.total is None or not room:
            text.append(f"  {after}")
        else:
            done = min(room, room * work.done // work.total) if work.total else room
            text.append("  ").append(self._bar[0] * done, style="green")
            text.append(self._bar[1] * (room - done), style="dim").append(f"  {after}")
        yield text


def make_show(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Show:
    """Return the best display that ``stream`` can show."""
    if not stream.isatty() or environ.get("TERM", "").lower() in DUMB:
        return PlainShow(stream)
    try:
        return TerminalShow(stream)
    except ImportError:
        show = PlainShow(stream)
        show.say(MISSING_RICH)
        return show
