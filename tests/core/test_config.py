"""Settings: what is taken as it is, what is lowered, and what is refused by its name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.addr import Addr
from pea2pea.config import Config, check_count, check_seconds
from pea2pea.errors import ConfigError

COUNTS = ["backlog", "max_connections", "max_connecting", "max_connections_per_ip"]


def refusal(**settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        Config(**settings)
    assert isinstance(error.value, ValueError)
    return error.value


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("bad", [0, -1, 1.0, "1", True, None, math.inf])
def test_a_limit_that_is_no_whole_number_of_1_or_more_is_refused_by_its_name(field: str, bad: object) -> None:
    error = refusal(**{field: bad})
    assert error.field == field
    assert str(error).startswith(f"{field}: {bad!r} ")


@pytest.mark.parametrize("bad", [0, 0.0, -0.1, -5, math.inf, -math.inf, math.nan, "1", True, None])
def test_a_time_that_is_no_number_above_0_is_refused_by_its_name(bad: object) -> None:
    assert refusal(connect_timeout=bad).field == "connect_timeout"


@pytest.mark.parametrize(
    "bad", ["", "localhost", ":80", "host:", "host:port", "host:65536", "::1:80", "[::1]", "a b:1", ("h",), ("h", "1")]
)
def test_a_malformed_address_is_refused_by_its_name(bad: Any) -> None:
    assert refusal(listen=bad).field == "listen"


@pytest.mark.parametrize("bad", ["", 7, b"name"])
def test_a_name_that_is_no_text_is_refused_by_its_name(bad: Any) -> None:
    assert refusal(name=bad).field == "name"


@given(total=st.integers(1, 200), setups=st.integers(1, 200))
def test_max_connecting_is_lowered_to_max_connections(total: int, setups: int) -> None:
    config = Config(max_connections=total, max_connecting=setups)
    assert (config.max_connections, config.max_connecting) == (total, min(total, setups))


def test_the_default_of_max_connecting_is_lowered_too() -> None:
    assert Config(max_connections=7).max_connecting == 7


def test_the_listening_address_is_made_canonical() -> None:
    assert Config(listen=("::ffff:10.0.0.1", 80)).listen == Addr("10.0.0.1", 80)


def test_it_is_frozen_and_its_settings_go_by_name() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().backlog = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config("name")  # type: ignore[call-arg]


@given(st.integers(1) | st.floats(min_value=1e-9, allow_infinity=False))
def test_every_time_above_0_is_taken(seconds: float) -> None:
    check_seconds("any", seconds)
    assert Config(connect_timeout=seconds).connect_timeout == seconds


@given(st.integers(1))
def test_every_count_of_1_or_more_is_taken(count: int) -> None:
    check_count("any", count)
    assert Config(backlog=count).backlog == count
