"""What the core promises, each promise beside the tests that hold it.

A promise without a test, or with one that is not there any more, fails here. The table is kept by
hand: a name in it says that the test would fail if the promise were broken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent


class Promise(NamedTuple):
    """One behaviour, and the tests that hold it as ``file::test`` without the ``test_`` and ``.py`` of the file."""

    id: str
    says: str
    tests: tuple[str, ...] = ()


CONTRACT = [
    # Node
    Promise(
        "node.name",
        "a node without a name is named by a number that counts up; a given name is kept",
        (
            "node::test_a_node_without_a_name_is_numbered",
            "node::test_a_given_name_is_kept",
        ),
    ),
    Promise(
        "node.log-name",
        "every log line of a node carries its name, and of a connection the address too",
        ("node::test_every_log_line_names_its_node_and_its_connection",),
    ),
    Promise(
        "node.log-quiet",
        "logs go to the logger pea2pea; importing the package configures nothing",
        (
            "node::test_importing_configures_no_logging",
            "architecture::test_importing_configures_no_logging_and_needs_no_dependency",
        ),
    ),
    Promise("node.config", "a limit of 0, a negative time, a malformed address: ConfigError names the field at once"),
    Promise("node.config-lowered", "max_connecting above max_connections is lowered to it"),
    Promise(
        "node.listen-port",
        "start_listening returns the bound address, with the real port where 0 was asked for",
        ("node::test_start_listening_returns_the_real_port",),
    ),
    Promise(
        "node.listen-unset",
        "start_listening raises without Config.listen",
        ("node::test_start_listening_needs_an_address",),
    ),
    Promise(
        "node.listen-stop",
        "stop_listening frees the port and leaves live connections alone",
        (
            "node::test_stop_listening_frees_the_port_and_leaves_connections_alone",
            "node::test_nobody_gets_in_while_not_listening",
        ),
    ),
    Promise(
        "node.listen-again",
        "starting and stopping to listen can be repeated",
        ("node::test_listening_can_be_stopped_and_started_again",),
    ),
    Promise(
        "node.listen-none",
        "listening_addr is None while not listening",
        (
            "node::test_stop_listening_frees_the_port_and_leaves_connections_alone",
            "node::test_start_listening_needs_an_address",
        ),
    ),
    Promise(
        "node.backlog",
        "backlog reaches the socket",
        (
            "node::test_backlog_reaches_the_socket",
            "node::test_who_is_beyond_the_backlog_waits_for_room",
        ),
    ),
    Promise(
        "node.reuse-port",
        "reuse_port lets several nodes share one port",
        ("node::test_nodes_that_agree_share_a_port",),
    ),
    Promise(
        "node.reuse-port-lacking",
        "where the platform cannot share ports, the error says so",
        ("node::test_a_platform_that_cannot_share_ports_is_told_of",),
    ),
    Promise(
        "node.own-socket",
        "connect dials from a socket that the user made and bound",
        (
            "node::test_a_node_dials_from_a_socket_of_the_users",
            "node::test_a_socket_of_the_users_is_closed_when_nothing_is_dialled",
        ),
    ),
    Promise(
        "node.mutual-dial",
        "two nodes that dial each other have two connections",
        ("node::test_two_nodes_that_dial_each_other_have_two_connections",),
    ),
    Promise(
        "node.self-dial",
        "dialling one's own listening address fails",
        (
            "node::test_dialling_oneself_fails",
            "node::test_another_node_at_the_same_port_of_another_host_is_not_oneself",
        ),
    ),
    Promise(
        "node.self-dial-wildcard",
        "so it does through loopback when listening on a wildcard",
        ("node::test_dialling_oneself_fails",),
    ),
    Promise(
        "node.second-dial",
        "a second dial to a connected address fails with AlreadyConnectedError",
        ("node::test_a_second_dial_to_a_connected_address_fails",),
    ),
    Promise(
        "node.second-dial-pending",
        "so it does while the first dial is under way",
        ("node::test_a_second_dial_fails_while_the_first_is_under_way",),
    ),
    Promise(
        "node.second-dial-leaving",
        "so it does while the first connection is torn down",
        ("node::test_a_second_dial_fails_while_the_first_connection_is_torn_down",),
    ),
    Promise(
        "node.views",
        "counts, peers, is_connected and is_connecting agree at every moment",
        (
            "node::test_the_views_agree_in_every_hook",
            "node::test_the_views_take_an_address_however_it_is_written",
        ),
    ),
    Promise(
        "node.stats",
        "node statistics outlive connections; those of a peer are its own",
        ("node::test_the_statistics_of_a_node_outlive_connections_and_a_peers_are_its_own",),
    ),
    # Admission
    Promise("admission.total", "max_connections counts those being set up too"),
    Promise("admission.per-ip", "max_connections_per_ip counts per address, IPv4-mapped IPv6 as its IPv4"),
    Promise("admission.per-ip-64", "an IPv6 address counts as its /64"),
    Promise("admission.pending", "max_connecting bounds inbound and outbound setups together"),
    Promise("admission.outbound", "outbound over a limit: an error that names the limit"),
    Promise("admission.inbound", "inbound over a total or per-IP limit: closed before any hook, and counted"),
    Promise("admission.inbound-waits", "inbound over max_connecting stays in the kernel's queue until a slot is free"),
    Promise("admission.idle-listener", "an idle listener holds no slot"),
    Promise("admission.atomic", "concurrent attempts never exceed a limit"),
    Promise("admission.released-once", "every reservation is released exactly once on every path out"),
    Promise("admission.exhausted", "accept without resources left is counted and waited out; the listener goes on"),
    Promise("admission.aborted", "a peer that aborted before accept costs nothing"),
    Promise("admission.connect-timeout", "connect_timeout bounds dialling"),
    Promise("admission.connect-cancelled", "a cancelled connect leaves nothing, or an established connection"),
    # Handshake
    Promise("handshake.first", "the handshake runs on both sides before anything else"),
    Promise("handshake.streams", "it gets a standard StreamReader and StreamWriter over the raw connection"),
    Promise(
        "handshake.raises",
        "raising: never registered, slot freed, connect raises HandshakeError with the cause",
        ("node::test_a_handshake_that_raises_leaves_no_trace_on_either_side",),
    ),
    Promise(
        "handshake.late",
        "too late: the same, and the timeout is counted",
        (
            "node::test_a_handshake_that_is_late_leaves_no_trace_and_is_counted",
            "node::test_a_handshake_that_ignores_its_deadline_is_late_all_the_same",
        ),
    ),
    Promise(
        "handshake.closed",
        "the other side closing: the same",
        ("node::test_a_peer_that_aborts_during_the_handshake_is_a_handshake_error",),
    ),
    Promise("handshake.surplus", "bytes that arrived past the handshake are the first that the decoder sees"),
    Promise("handshake.session", "what it returns is peer.session before decoder and encoder are asked for"),
    # Reading
    Promise("reading.order", "messages of one peer are processed in order, one at a time"),
    Promise("reading.others", "process_message may suspend, and the other peers go on"),
    Promise("reading.backpressure", "a full inbox pauses reading until it drains"),
    Promise("reading.drop", "with backpressure = False the surplus is dropped and counted"),
    Promise("reading.decoder-raises", "a decoder that raises ends that connection and nothing else"),
    Promise("reading.garbage", "so does garbage"),
    Promise("reading.too-large", "so does a frame over the limit"),
    Promise("reading.half-frame", "a stream that ends inside a frame is an error in the reason"),
    Promise("reading.idle", "no message for idle_timeout: disconnected and counted"),
    Promise("reading.one-timer", "one timer per connection however many messages arrive"),
    Promise("reading.without", "a node without Reading delivers nothing and does not notice a close by itself"),
    # Writing
    Promise("writing.full", "QueueFullError beyond write_queue_depth"),
    Promise("writing.gone", "NotConnectedError for a peer that is gone"),
    Promise("writing.not-enabled", "NotEnabledError without the protocol"),
    Promise("writing.waits", "send waits for room"),
    Promise("writing.cancelled", "a cancelled send queued its message whole or not at all"),
    Promise("writing.flush", "flush returns when all that was queued before it is with the operating system"),
    Promise("writing.flush-ended", "flush raises if the connection ended first"),
    Promise("writing.timeout", "a batch not written within write_timeout ends the connection and is counted"),
    Promise("writing.encoder-raises", "an encoder that raises ends that connection and no other"),
    Promise("writing.broadcast", "broadcast reaches every peer that can take it and returns the error of each other"),
    Promise("writing.broadcast-slow", "one slow peer delays no broadcast"),
    # OnConnect, OnDisconnect
    Promise("on-connect.usable", "on_connect runs when the peer is registered and usable"),
    Promise("on-connect.not-awaited", "connect does not wait for it"),
    Promise("on-connect.beside", "it may run beside process_message"),
    Promise("on-connect.cancelled", "a disconnect cancels it"),
    Promise("on-connect.unabortable", "unless on_connect_abortable = False: then it runs to its end, also in aclose"),
    Promise("on-disconnect.once", "on_disconnect runs exactly once for every registered peer, whoever ended it"),
    Promise("on-disconnect.together", "however many ended the connection at once"),
    Promise("on-disconnect.registered", "it runs before the peer leaves the registry"),
    Promise("on-disconnect.bounded", "within disconnect_timeout"),
    Promise("on-disconnect.last-word", "a last message can be sent and flushed from it"),
    Promise("on-disconnect.no-last-word", "unless writing is what failed"),
    Promise("reason.origin", "the reason has an origin and, where there is one, the exception"),
    Promise("disconnect.unknown", "disconnect of an unknown or already leaving peer returns False"),
    Promise("disconnect.cancelled", "cancelling disconnect still tears the connection down"),
    # Shutdown
    Promise("shutdown.stops", "aclose stops accepting and disconnects all peers at once"),
    Promise("shutdown.hooks", "it awaits the hooks within their bounds"),
    Promise("shutdown.leaves-nothing", "it leaves no task, socket, timer or descriptor"),
    Promise("shutdown.twice", "it can be called twice"),
    Promise("shutdown.cancelled", "after a cancelled first call a second one finishes"),
    Promise("shutdown.connect-after", "connect after it raises NodeClosedError"),
    Promise("shutdown.from-hook", "called from inside a hook it raises and says what to do instead"),
    Promise("shutdown.collected", "a node that is garbage collected while open warns"),
    # A user's mistakes
    Promise("mistakes.logged", "an exception in a hook or codec is logged with traceback and address"),
    Promise("mistakes.contained", "and ends that connection at most"),
    Promise("mistakes.not-swallowed", "KeyboardInterrupt and cancellation are never swallowed"),
    Promise("mistakes.enabled-twice", "enabling a protocol twice raises at once"),
    Promise("mistakes.not-implemented", "so does one that the class does not implement"),
    Promise("mistakes.thread", "use from another thread raises in asyncio's debug mode"),
    # Topology
    Promise(
        "topology.shapes",
        "line, ring, mesh, star, grid, binary tree and a seeded random graph of a given degree",
        (
            "topology::test_degrees_of_the_plain_shapes",
            "topology::test_a_tree_is_binary_and_its_children_dial",
            "topology::test_a_grid_connects_exactly_the_neighbours",
            "topology::test_a_random_graph_has_the_degree_asked_for",
            "topology::test_the_seed_decides_the_random_graph",
        ),
    ),
    Promise(
        "topology.counts",
        "connect_nodes connects them and says how many connections each has",
        ("topology::test_nodes_get_the_connections_that_were_told",),
    ),
    Promise(
        "topology.refused",
        "wrong dimensions or too few nodes are refused before anything is dialled",
        (
            "topology::test_wrong_dimensions_are_refused_by_name",
            "topology::test_too_few_nodes_are_refused",
            "topology::test_what_is_wrong_is_refused_before_anything_is_dialled",
        ),
    ),
]


def names_in(path: Path) -> Iterator[str]:
    """The tests in a file: functions, those in classes included, and the ``TestCase`` of a state machine."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{path.stem.removeprefix('test_')}::{node.name}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield f"{path.stem.removeprefix('test_')}::{node.targets[0].id}"


KNOWN = {test for path in TESTS.glob("test_*.py") for test in names_in(path)}


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.id)
def test_every_promise_is_held_by_tests_that_exist(promise: Promise) -> None:
    assert promise.tests, f"nothing holds: {promise.says}"
    assert not set(promise.tests) - KNOWN


def test_no_promise_stands_here_twice() -> None:
    assert len({promise.id for promise in CONTRACT}) == len(CONTRACT)
    assert len({promise.says for promise in CONTRACT}) == len(CONTRACT)
