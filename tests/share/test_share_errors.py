"""Errors in one line."""

from __future__ import annotations

import pytest

from pea2pea.share.errors import PeerFaultError, ShareError, explain


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ShareError("as it is"), "as it is"),
        (FileNotFoundError(2, "No such file or directory", "x"), "no such file or directory: x"),
        (OSError(28, "No space left on device", "x"), "the disk is full: x"),
        (PermissionError(13, "Permission denied", "x"), "permission denied: x"),
        (TimeoutError(), "timed out"),
        (OSError(), "oserror"),
        (KeyError("x"), "KeyError: 'x'"),
        (PeerFaultError("odd"), "odd"),
    ],
)
def test_errors_in_one_line(error: Exception, line: str) -> None:
    assert explain(error) == line


def test_the_cause_of_an_error_is_added_unless_its_text_contains_it() -> None:
    from pea2pea import ConnectError, HandshakeError

    bare, told, new = ConnectError(""), HandshakeError("peer x: gone"), HandshakeError("peer x: refused")
    told.__cause__ = ShareError("gone")
    new.__cause__ = ShareError("no room")
    assert [explain(error) for error in (bare, told, new)] == [
        "ConnectError",
        "peer x: gone",
        "peer x: refused: no room",
    ]
