"""Settings: one system for all of them. What is accepted, what is lowered, and what is refused by its name."""

from __future__ import annotations

import inspect
import math
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import (
    Addr,
    Admission,
    ConfigError,
    DisconnectReason,
    LengthDelimited,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Receiving,
    Settings,
    UsageError,
    Writing,
)
from pea2pea.protocols import PROTOCOLS
from pea2pea.settings import HOOKS, SETTINGS, check_count, check_seconds
from support.node import Polite

COUNTS = ["backlog", "max_connections", "max_connecting", "max_connections_per_ip"]
COUNTS += ["read_queue_depth", "write_queue_depth"]
SECONDS = ["connect_timeout", "handshake_timeout", "disconnect_timeout"]
LIMITS = ["idle_timeout", "write_timeout"]
FLAGS = ["reuse_port", "exempt_loopback", "backpressure", "on_connect_abortable"]
NO_SECONDS = [0, 0.0, -0.1, -5, math.inf, -math.inf, math.nan, "1", True]


class Full(Polite):
    """Has every setting that there is; takes them as keywords."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings)  # type: ignore[arg-type]


def refusal(**settings: Any) -> ConfigError:
    """Refused as a keyword, and as an attribute of a class: with the same error."""
    with pytest.raises(ConfigError) as error:
        Full(**settings)
    assert isinstance(error.value, ValueError)
    with pytest.raises(ConfigError) as same:
        type("Overrides", (Full,), settings)()
    assert str(same.value) == str(error.value)
    return error.value


def test_every_setting_is_tested_here() -> None:
    assert {*COUNTS, *SECONDS, *LIMITS, *FLAGS, "name", "listen"} == SETTINGS.keys()


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("bad", [0, -1, 1.0, "1", True, None, math.inf])
def test_a_limit_that_is_not_an_integer_of_at_least_1_is_refused_by_its_name(field: str, bad: object) -> None:
    error = refusal(**{field: bad})
    assert error.field == field
    assert str(error) == f"{field}: must be an integer >= 1, got {bad!r}"


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("bad", [*NO_SECONDS, None])
def test_a_time_that_is_not_a_number_above_0_is_refused_by_its_name(field: str, bad: object) -> None:
    assert refusal(**{field: bad}).field == field


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.parametrize("bad", NO_SECONDS)
def test_a_time_limit_that_is_not_none_is_checked_too(field: str, bad: object) -> None:
    assert refusal(**{field: bad}).field == field
    assert getattr(Full(**{field: None}), field) is None


@pytest.mark.parametrize("field", FLAGS)
@pytest.mark.parametrize("bad", [0, 1, None, "yes"])
def test_a_flag_that_is_not_a_bool_is_refused_by_its_name(field: str, bad: object) -> None:
    assert refusal(**{field: bad}).field == field


@pytest.mark.parametrize(
    "bad", ["", "localhost", ":80", "host:", "host:port", "host:65536", "::1:80", "[::1]", "a b:1", ("h",), ("h", "1")]
)
def test_a_malformed_address_is_refused_by_its_name(bad: Any) -> None:
    assert refusal(listen=bad).field == "listen"


@pytest.mark.parametrize("bad", [None, 7, b"name"])
def test_a_name_that_is_not_text_is_refused_by_its_name(bad: Any) -> None:
    assert refusal(name=bad).field == "name"


@given(total=st.integers(1, 200), setups=st.integers(1, 200))
def test_max_connecting_is_lowered_to_max_connections(total: int, setups: int) -> None:
    gate = Node(max_connections=total, max_connecting=setups).gate
    assert isinstance(gate, Admission)
    assert (gate.max_connections, gate.max_connecting) == (total, min(total, setups))


def test_the_default_of_max_connecting_is_lowered_too() -> None:
    gate = Node(max_connections=7).gate
    assert isinstance(gate, Admission)
    assert gate.max_connecting == 7


@given(st.integers(1) | st.floats(min_value=1e-9, allow_infinity=False))
def test_every_time_above_0_is_accepted(seconds: float) -> None:
    check_seconds("any", seconds)
    assert Node(connect_timeout=seconds).connect_timeout == seconds


@given(st.integers(1))
def test_every_count_of_1_or_more_is_accepted(count: int) -> None:
    check_count("any", count)
    assert Node(backlog=count).backlog == count


# Where a setting comes from


def test_a_keyword_overrides_a_subclass_and_that_overrides_the_default() -> None:
    class Patient(Node):
        connect_timeout = 60.0

    assert Node().connect_timeout == 5.0
    assert Patient().connect_timeout == 60.0
    assert Patient(connect_timeout=1.0).connect_timeout == 1.0
    assert (Patient.connect_timeout, Patient().connect_timeout) == (60.0, 60.0), "a keyword is for one node"


def test_settings_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Node("127.0.0.1:0")  # type: ignore[call-arg, arg-type]


def test_settings_of_protocols_are_keywords_too() -> None:
    node = Full(idle_timeout=60, write_queue_depth=7, handshake_timeout=1.5, on_connect_abortable=False)
    assert (node.idle_timeout, node.write_queue_depth) == (60, 7)
    assert (node.handshake_timeout, node.on_connect_abortable) == (1.5, False)


def test_the_keywords_are_the_settings_of_the_classes() -> None:
    """The dictionary of the type checker, the table of the checks, and the classes say the same."""
    owners = {protocol.__name__: protocol for protocol in PROTOCOLS} | {"Node": Node}
    hints = get_type_hints(Settings)
    assert hints.keys() == SETTINGS.keys()
    for name, setting in SETTINGS.items():
        for owner in setting.owner.split(" or "):
            assert get_type_hints(owners[owner])[name] == hints[name]
            assert hasattr(owners[owner], name)
    found = {name for owner in owners.values() for name in inspect.get_annotations(owner)}
    assert found <= SETTINGS.keys() | {"codec"}


# Names that are wrong


def test_an_unknown_keyword_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_connections'") as error:
        Node(max_conections=5)  # type: ignore[call-arg]
    assert error.value.field == "max_conections"
    with pytest.raises(ConfigError, match=r"no such setting$"):
        Node(colour="red")  # type: ignore[call-arg]


def test_a_keyword_of_a_protocol_that_the_class_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="setting of Reading or Receiving, which is not among") as error:
        Node(idle_timeout=5)
    assert error.value.field == "idle_timeout"


def test_a_misspelt_setting_of_a_class_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'idle_timeout'") as error:

        class Typo(Node, Reading[bytes]):
            codec = LengthDelimited()
            idle_timeuot = 5

            async def process_message(self, peer: Peer, message: bytes) -> None: ...

    assert error.value.field == "idle_timeuot"


def test_a_setting_of_a_class_without_its_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="setting of OnDisconnect, which is not among the bases of Hasty"):

        class Hasty(Node, OnConnect):
            disconnect_timeout = 5.0

            async def on_connect(self, peer: Peer) -> None: ...


def test_a_misspelt_hook_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'on_disconnect'"):

        class Typo(Node, OnDisconnect):
            async def on_disconect(self, peer: Peer, reason: DisconnectReason) -> None: ...


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_without_its_protocol_is_refused_when_the_class_is_made(hook: str) -> None:
    async def anything(self: Node, *args: Any) -> None: ...

    with pytest.raises(ConfigError, match="without deriving from") as error:
        type("Deaf", (Node,), {hook: anything})
    assert error.value.field == hook
    assert any(protocol in str(error.value) for protocol in HOOKS[hook])


def test_a_hook_may_come_from_a_base_without_protocols() -> None:
    """A mixin has hooks, and the class that uses it the protocol."""

    class Greeting:
        async def on_connect(self, peer: Peer) -> None: ...

    class Greeter(Greeting, Node, OnConnect):
        pass

    Greeter()


def test_names_of_the_users_own_are_not_mistaken_for_settings() -> None:
    class Mine(Node, Writing[bytes]):
        codec = LengthDelimited()
        names = ("a", "b")
        lists = 1
        decode_timeout = 5
        on_message = None
        timeout = 5
        listeners = ()
        codecs = ()
        handler = None
        _idle_timeout = 5

    assert Mine().timeout == 5


def test_a_class_without_a_codec_is_refused_when_the_node_is_made() -> None:
    class Mute(Node, Writing[bytes]):
        pass

    with pytest.raises(UsageError, match="needs a codec for"):
        Mute()


def test_a_class_cannot_both_process_and_pull_messages() -> None:
    class Both(Node, Reading[bytes], Receiving[bytes]):
        codec = LengthDelimited()

        async def process_message(self, peer: Peer, message: bytes) -> None: ...

    with pytest.raises(UsageError, match="choose one"):
        Both()


@pytest.mark.parametrize("limit", ["max_connections", "max_connecting", "max_connections_per_ip"])
def test_limits_mean_nothing_beside_a_gate_and_are_refused(limit: Any) -> None:
    with pytest.raises(ConfigError) as error:
        Node(gate=Admission(), **{limit: 5})  # type: ignore[arg-type]
    assert error.value.field == limit


def test_a_codec_may_be_a_method_of_the_peer() -> None:
    class PerPeer(Node, Reading[bytes], Writing[bytes]):
        def codec(self, peer: Peer) -> LengthDelimited:
            return LengthDelimited(max_frame=peer.id)

        async def process_message(self, peer: Peer, message: bytes) -> None: ...

    node, peer = PerPeer(), Peer[Any](Addr("127.0.0.1", 1), inbound=True)
    for codec in (node.decoder(peer), node.encoder(peer)):
        assert codec == LengthDelimited(max_frame=peer.id)
