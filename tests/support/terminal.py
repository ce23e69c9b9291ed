"""The command on a pseudo-terminal, and what a person sees of it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.cli_process import COMMAND

ROWS = 50


class Screen:
    """As much of a terminal as the command and rich use: cursor up, erasing, colours, wrapping at the right edge."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", text):
            if token.startswith("\x1b"):
                self._control(token[2:-1], token[-1])
            elif token == "\n":
                self._down()
            elif token == "\r":
                self.column = 0
            else:
                self._put(token)

    @property
    def text(self) -> str:
        """The lines on the screen, where a line that was wrapped is one again."""
        text = ""
        for row in self.rows:
            line = "".join(row)
            text += line if len(line) == self.columns else line.rstrip() + "\n"
        return text.rstrip("\n")

    @property
    def lines(self) -> list[str]:
        """The rows of the screen that hold something."""
        return [line for row in self.rows if (line := "".join(row).rstrip())]

    def _control(self, number: str, kind: str) -> None:
        if kind == "A":
            self.row = max(0, self.row - int(number or 1))
        elif kind == "K":
            self.rows[self.row] = [] if number == "2" else self.rows[self.row][: self.column]
        elif kind not in "mhl":  # colours, and whether the cursor is shown
            raise AssertionError(f"the screen of the tests does not know {kind}")

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self._down()
            self.column = 0
        row = self.rows[self.row]
        row += [" "] * (self.column + 1 - len(row))
        row[self.column] = character
        self.column += 1


class Session:
    """A command on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, screen: Screen) -> None:
        self.process = process
        self.screen = screen
        self.raw = ""
        self._descriptor = descriptor

    def until(self, condition: Callable[[Screen], object], seconds: float = 30.0) -> Screen:
        """Read until the screen meets ``condition``, or the command has ended and all of its output is read."""
        deadline = time.monotonic() + seconds
        while not condition(self.screen) and self._read(deadline):
            pass
        return self.screen

    def finish(self) -> int:
        """Read to the end. Returns the exit status."""
        self.until(lambda screen: False)
        return self.process.wait(timeout=20)

    def interrupt(self) -> int:
        """Press Ctrl-C and read to the end. Returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def _read(self, deadline: float) -> bool:
        if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"too late; the screen is:\n{self.screen.text}")
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux reports that the other side of a terminal is closed
            return False
        text = data.decode()
        self.raw += text
        self.screen.feed(text)
        return bool(data)


@contextmanager
def on_terminal(*args: object, columns: int = 100, term: str = "xterm-256color") -> Iterator[Session]:
    """Run the command on a terminal of so many columns. At the end it is gone."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    hidden = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
    environ = {name: value for name, value in os.environ.items() if name not in hidden} | {"TERM": term}
    command = [*COMMAND, *map(str, args)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        try:
            yield Session(process, ours, Screen(columns))
        finally:
            process.kill()
            os.close(ours)
