"""The tree of errors: it is what the top of its module shows, and each is what else a caller may catch it as."""

from __future__ import annotations

import inspect
import re

import pytest

from pea2pea import errors


def children(error: type[BaseException]) -> list[type[BaseException]]:
    every = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [value for value in every if issubclass(value, errors.Pea2PeaError) and error in value.__bases__]


def tree(error: type[BaseException], depth: int = 0) -> list[tuple[int, str]]:
    return [(depth, error.__name__), *(line for child in children(error) for line in tree(child, depth + 1))]


def test_the_tree_at_the_top_is_the_tree() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert [(len(lines) // 4, name) for lines, name in drawn] == tree(errors.Pea2PeaError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.UsageError, RuntimeError),
        (errors.ListenError, OSError),
        (errors.ConnectError, ConnectionError),
        (errors.NotConnectedError, ConnectionError),
        (errors.CodecError, ValueError),
        (errors.PeerTimeoutError, TimeoutError),
    ],
)
def test_an_error_is_caught_as_what_python_calls_it(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


def test_errors_tell_what_they_are_about() -> None:
    config = errors.ConfigError("backlog", "0 is too few")
    assert (config.field, str(config)) == ("backlog", "backlog: 0 is too few")
    limit = errors.LimitError("max_connections", 3)
    assert (limit.limit, str(limit)) == ("max_connections", "max_connections (3) is reached")
