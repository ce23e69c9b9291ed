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
    Promise(
        "node.config",
        "a limit of 0, a negative time, a malformed address: ConfigError names the field at once",
        (
            "settings::test_a_limit_that_is_not_an_integer_of_at_least_1_is_refused_by_its_name",
            "settings::test_a_time_that_is_not_a_number_above_0_is_refused_by_its_name",
            "settings::test_a_malformed_address_is_refused_by_its_name",
            "node::test_every_setting_of_a_protocol_is_checked",
        ),
    ),
    Promise(
        "node.config-lowered",
        "max_connecting above max_connections is lowered to it",
        (
            "settings::test_max_connecting_is_lowered_to_max_connections",
            "settings::test_the_default_of_max_connecting_is_lowered_too",
        ),
    ),
    Promise(
        "node.listen-port",
        "start_listening returns the bound address, with the real port where 0 was asked for",
        ("node::test_start_listening_returns_the_real_port",),
    ),
    Promise(
        "node.listen-unset",
        "start_listening raises without listen",
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
            "state_machine::test_nodes_are_sound_whatever_happens",
        ),
    ),
    Promise(
        "node.stats",
        "node statistics outlive connections; those of a peer are its own",
        ("node::test_the_statistics_of_a_node_outlive_connections_and_a_peers_are_its_own",),
    ),
    # Admission
    Promise(
        "admission.total",
        "max_connections counts those being set up too",
        (
            "gate::test_connections_being_set_up_count",
            "gate::test_inbound_and_outbound_count_together",
            "gate::test_counters_are_what_is_held_and_never_above_a_limit",
        ),
    ),
    Promise(
        "admission.per-ip",
        "max_connections_per_ip counts per address, IPv4-mapped IPv6 as its IPv4",
        (
            "gate::test_inbound_counts_per_address",
            "gate::test_an_ipv4_address_is_itself_where_it_comes_in_over_ipv6",
        ),
    ),
    Promise(
        "admission.per-ip-64",
        "an IPv6 address counts as its /64",
        (
            "gate::test_an_ipv6_address_counts_as_its_64",
            "gate::test_inbound_counts_an_ipv6_address_as_its_64",
        ),
    ),
    Promise(
        "admission.pending",
        "max_connecting bounds inbound and outbound setups together",
        ("gate::test_setups_both_ways_share_max_connecting",),
    ),
    Promise(
        "admission.outbound",
        "outbound over a limit: an error that names the limit",
        (
            "gate::test_an_error_names_the_limit_and_its_value",
            "gate::test_outbound_over_the_total_is_an_error_and_counted",
            "gate::test_outbound_over_the_limit_per_ip_is_an_error_and_counted",
        ),
    ),
    Promise(
        "admission.inbound",
        "inbound over a total or per-IP limit: closed before any hook, and counted",
        (
            "gate::test_inbound_over_the_total_is_closed_before_any_hook_and_counted",
            "gate::test_inbound_counts_per_address",
            "hostile::test_ten_thousand_where_there_is_no_room",
        ),
    ),
    Promise(
        "admission.inbound-waits",
        "inbound over max_connecting stays in the kernel's queue until a slot is free",
        ("gate::test_inbound_over_max_connecting_waits_in_the_kernels_queue",),
    ),
    Promise(
        "admission.idle-listener",
        "an idle listener holds no slot",
        ("gate::test_listening_holds_no_slot",),
    ),
    Promise(
        "admission.atomic",
        "concurrent attempts never exceed a limit",
        (
            "gate::test_attempts_at_once_never_exceed_a_limit",
            "gate::test_counters_are_what_is_held_and_never_above_a_limit",
            "state_machine::test_nodes_are_sound_whatever_happens",
        ),
    ),
    Promise(
        "admission.released-once",
        "every reservation is released exactly once on every path out",
        (
            "gate::test_every_way_out_frees_the_slot",
            "gate::test_counters_are_what_is_held_and_never_above_a_limit",
            "gate::test_room_is_told_of_once_for_each_setup_that_ends",
            "state_machine::test_nodes_are_sound_whatever_happens",
        ),
    ),
    Promise(
        "admission.exhausted",
        "accept without resources left is counted and waited out; the listener goes on",
        (
            "gate::test_a_lack_of_resources_is_counted_and_waited_out",
            "gate::test_a_listener_outlives_a_lack_of_descriptors",
        ),
    ),
    Promise(
        "admission.aborted",
        "a peer that aborted before accept costs nothing",
        ("gate::test_who_aborted_before_being_accepted_costs_nothing",),
    ),
    Promise(
        "admission.connect-timeout",
        "connect_timeout bounds dialling",
        (
            "gate::test_connect_timeout_bounds_dialling",
            "gate::test_connect_timeout_bounds_the_resolution_of_a_name_too",
        ),
    ),
    Promise(
        "admission.connect-cancelled",
        "a cancelled connect leaves nothing, or an established connection",
        (
            "gate::test_a_cancelled_connect_leaves_nothing_or_a_connection",
            "gate::test_a_connect_cancelled_in_its_handshake_frees_its_slot",
        ),
    ),
    # Handshake
    Promise(
        "handshake.first",
        "the handshake runs on both sides before anything else",
        (
            "handshake::test_it_runs_on_both_sides_before_anything_else",
            "handshake::test_meanwhile_the_peer_is_connecting_and_cannot_be_written_to",
        ),
    ),
    Promise(
        "handshake.streams",
        "it gets a standard StreamReader and StreamWriter over the raw connection",
        (
            "handshake::test_it_gets_plain_streams_over_the_raw_connection",
            "handshake::test_flow_control_reaches_its_streams",
        ),
    ),
    Promise(
        "handshake.raises",
        "raising: never registered, slot freed, connect raises HandshakeError with the cause",
        (
            "handshake::test_raising_refuses_the_peer_and_frees_the_slot",
            "node::test_a_handshake_that_raises_leaves_no_trace_on_either_side",
        ),
    ),
    Promise(
        "handshake.late",
        "too late: the same, and the timeout is counted",
        (
            "handshake::test_too_late_is_counted_and_refused",
            "handshake::test_what_returns_too_late_is_refused",
            "node::test_a_handshake_that_is_late_leaves_no_trace_and_is_counted",
        ),
    ),
    Promise(
        "handshake.closed",
        "the other side closing: the same",
        (
            "handshake::test_the_other_side_closing_ends_it",
            "handshake::test_a_reset_that_the_hook_did_not_see_ends_it_too",
            "node::test_a_peer_that_aborts_during_the_handshake_is_a_handshake_error",
        ),
    ),
    Promise(
        "handshake.surplus",
        "bytes that arrived past the handshake are the first that the decoder sees",
        (
            "handshake::test_bytes_past_it_are_the_first_to_decode",
            "handshake::test_it_reads_all_that_came_before_it_began",
            "handshake::test_a_peer_may_say_all_and_end_its_stream_at_once",
        ),
    ),
    Promise(
        "handshake.session",
        "what it returns is peer.session before decoder and encoder are asked for",
        ("handshake::test_it_runs_on_both_sides_before_anything_else",),
    ),
    # Reading
    Promise(
        "reading.order",
        "messages of one peer are processed in order, one at a time",
        ("reading::test_messages_are_processed_in_order_one_at_a_time",),
    ),
    Promise(
        "reading.others",
        "process_message may suspend, and the other peers go on",
        ("reading::test_one_peer_is_processed_while_another_waits",),
    ),
    Promise(
        "reading.backpressure",
        "a full inbox pauses reading until it drains",
        (
            "reading::test_a_full_inbox_pauses_reading_until_it_drains",
            "reading::test_what_came_before_the_connection_was_open_does_not_overfill_the_inbox",
        ),
    ),
    Promise(
        "reading.drop",
        "with backpressure = False the surplus is dropped and counted",
        (
            "reading::test_without_backpressure_the_surplus_is_dropped_and_counted",
            "reading::test_drops_are_logged_at_a_limited_rate",
        ),
    ),
    Promise(
        "reading.decoder-raises",
        "a decoder that raises ends that connection and nothing else",
        ("reading::test_a_decoder_that_raises_ends_that_connection_and_no_other",),
    ),
    Promise(
        "reading.garbage",
        "so does garbage",
        (
            "reading::test_garbage_ends_that_connection_and_no_other",
            "hostile::test_garbage_ends_the_connection_that_it_comes_on",
        ),
    ),
    Promise(
        "reading.too-large",
        "so does a frame over the limit",
        ("reading::test_a_frame_over_the_limit_ends_that_connection_and_no_other",),
    ),
    Promise(
        "reading.half-frame",
        "a stream that ends inside a frame is an error in the reason",
        (
            "reading::test_an_end_inside_a_frame_is_an_error_in_the_reason",
            "reading::test_an_end_between_frames_is_none",
        ),
    ),
    Promise(
        "reading.idle",
        "no message for idle_timeout: disconnected and counted",
        (
            "reading::test_a_silent_peer_is_disconnected_and_counted",
            "reading::test_every_message_puts_the_idle_timeout_off",
            "reading::test_bytes_that_make_no_message_do_not",
        ),
    ),
    Promise(
        "reading.one-timer",
        "one timer per connection however many messages arrive",
        ("reading::test_one_timer_however_many_messages_arrive",),
    ),
    Promise(
        "reading.without",
        "a node without Reading delivers nothing and does not notice a close by itself",
        (
            "reading::test_a_node_without_reading_delivers_nothing_and_does_not_notice_a_close",
            "reading::test_a_node_without_reading_hears_of_a_close_by_its_next_write",
        ),
    ),
    # Writing
    Promise(
        "writing.full",
        "QueueFullError beyond write_queue_depth",
        ("writing::test_a_full_queue_refuses",),
    ),
    Promise(
        "writing.gone",
        "NotConnectedError for a peer that is gone",
        (
            "writing::test_a_peer_that_is_gone_is_refused",
            "writing::test_who_waits_to_send_learns_that_the_peer_left",
        ),
    ),
    Promise(
        "writing.not-enabled",
        "NotEnabledError without the protocol",
        ("writing::test_without_the_protocol_sending_is_refused",),
    ),
    Promise(
        "writing.waits",
        "send waits for room",
        ("writing::test_send_waits_for_room_and_serves_its_callers_in_order",),
    ),
    Promise(
        "writing.cancelled",
        "a cancelled send queued its message whole or not at all",
        (
            "writing::test_who_is_cancelled_while_waiting_sent_nothing",
            "writing::test_a_send_cancelled_as_it_is_served_is_whole",
            "link::test_a_sender_that_is_cancelled_when_it_has_been_served_queued_all",
        ),
    ),
    Promise(
        "writing.flush",
        "flush returns when all that was queued before it is with the operating system",
        (
            "writing::test_flush_returns_when_all_before_it_is_with_the_system",
            "writing::test_flush_does_not_wait_for_what_is_sent_after_it",
        ),
    ),
    Promise(
        "writing.flush-ended",
        "flush raises if the connection ended first",
        (
            "writing::test_flush_raises_if_the_connection_ends_first",
            "writing::test_flush_raises_if_the_write_itself_finds_the_connection_gone",
            "link::test_everybody_who_waits_learns_of_the_end",
        ),
    ),
    Promise(
        "writing.timeout",
        "a batch not written within write_timeout ends the connection and is counted",
        (
            "writing::test_a_peer_that_never_reads_is_given_up_and_counted",
            "writing::test_the_timeout_is_for_the_whole_batch",
        ),
    ),
    Promise(
        "writing.encoder-raises",
        "an encoder that raises ends that connection and no other",
        ("writing::test_an_encoder_that_raises_ends_that_connection_and_no_other",),
    ),
    Promise(
        "writing.broadcast",
        "broadcast reaches every peer that can take it and returns the error of each other",
        (
            "writing::test_a_broadcast_reaches_all_and_tells_whom_it_did_not",
            "writing::test_a_broadcast_is_encoded_once_for_encoders_that_are_equal",
        ),
    ),
    Promise(
        "writing.broadcast-slow",
        "one slow peer delays no broadcast",
        ("writing::test_a_slow_peer_delays_no_broadcast",),
    ),
    # OnConnect, OnDisconnect
    Promise(
        "on-connect.usable",
        "on_connect runs when the peer is registered and usable",
        ("hooks::test_on_connect_runs_when_the_peer_is_registered_and_usable",),
    ),
    Promise(
        "on-connect.not-awaited",
        "connect does not wait for it",
        ("hooks::test_connect_does_not_wait_for_on_connect_and_messages_are_processed_beside_it",),
    ),
    Promise(
        "on-connect.beside",
        "it may run beside process_message",
        ("hooks::test_connect_does_not_wait_for_on_connect_and_messages_are_processed_beside_it",),
    ),
    Promise(
        "on-connect.cancelled",
        "a disconnect cancels it",
        ("hooks::test_the_end_of_the_connection_cancels_on_connect",),
    ),
    Promise(
        "on-connect.unabortable",
        "unless on_connect_abortable = False: then it runs to its end, also in aclose",
        (
            "hooks::test_an_unabortable_on_connect_runs_to_its_end",
            "hooks::test_aclose_waits_for_an_unabortable_on_connect",
        ),
    ),
    Promise(
        "on-disconnect.once",
        "on_disconnect runs exactly once for every registered peer, whoever ended it",
        (
            "hooks::test_on_disconnect_runs_once_while_registered_and_is_told_why",
            "state_machine::test_nodes_are_sound_whatever_happens",
        ),
    ),
    Promise(
        "on-disconnect.together",
        "however many ended the connection at once",
        ("hooks::test_however_many_end_it_at_once",),
    ),
    Promise(
        "on-disconnect.registered",
        "it runs before the peer leaves the registry",
        ("hooks::test_on_disconnect_runs_once_while_registered_and_is_told_why",),
    ),
    Promise(
        "on-disconnect.bounded",
        "within disconnect_timeout",
        (
            "hooks::test_on_disconnect_has_disconnect_timeout_and_no_more",
            "hooks::test_hooks_that_wait_and_the_last_bytes_share_that_time",
        ),
    ),
    Promise(
        "on-disconnect.last-word",
        "a last message can be sent and flushed from it",
        (
            "hooks::test_a_last_message_from_on_disconnect_arrives",
            "hooks::test_a_large_last_message_is_waited_for",
        ),
    ),
    Promise(
        "on-disconnect.no-last-word",
        "unless writing is what failed",
        ("hooks::test_there_is_no_last_word_where_writing_is_what_failed",),
    ),
    Promise(
        "reason.origin",
        "the reason has an origin and, where there is one, the exception",
        ("hooks::test_on_disconnect_runs_once_while_registered_and_is_told_why",),
    ),
    Promise(
        "disconnect.unknown",
        "disconnect of an unknown or already leaving peer returns False",
        ("hooks::test_disconnect_of_one_unknown_leaving_or_gone_is_false",),
    ),
    Promise(
        "disconnect.cancelled",
        "cancelling disconnect still tears the connection down",
        ("hooks::test_a_cancelled_disconnect_still_tears_the_connection_down",),
    ),
    # Shutdown
    Promise(
        "shutdown.stops",
        "aclose stops accepting and disconnects all peers at once",
        (
            "shutdown::test_aclose_frees_the_port_and_tells_every_peer",
            "shutdown::test_all_peers_are_disconnected_at_once",
            "shutdown::test_nobody_gets_in_while_it_closes",
            "shutdown::test_connects_under_way_end_at_once",
            "shutdown::test_inbound_setups_end_at_once",
        ),
    ),
    Promise(
        "shutdown.hooks",
        "it awaits the hooks within their bounds",
        (
            "shutdown::test_hooks_that_hang_are_given_their_time_and_no_more",
            "shutdown::test_on_connect_is_cancelled",
            "shutdown::test_a_peer_that_takes_nothing_does_not_hold_it_up",
        ),
    ),
    Promise(
        "shutdown.leaves-nothing",
        "it leaves no task, socket, timer or descriptor",
        (
            "shutdown::test_nothing_is_left_whatever_was_going_on",
            "shutdown::test_no_task_is_left_on_any_network",
            "shutdown::test_a_transport_that_takes_its_time_to_close_is_waited_for",
            "state_machine::test_nodes_are_sound_whatever_happens",
        ),
    ),
    Promise(
        "shutdown.twice",
        "it can be called twice",
        (
            "shutdown::test_it_can_be_called_twice",
            "shutdown::test_it_can_be_called_twice_at_once",
        ),
    ),
    Promise(
        "shutdown.cancelled",
        "after a cancelled first call a second one finishes",
        ("shutdown::test_after_a_cancelled_call_a_second_one_finishes",),
    ),
    Promise(
        "shutdown.connect-after",
        "connect after it raises NodeClosedError",
        ("shutdown::test_after_closing_everything_says_so",),
    ),
    Promise(
        "shutdown.from-hook",
        "called from inside a hook it raises and says what to do instead",
        (
            "shutdown::test_closing_in_a_hook_raises_and_says_what_to_do",
            "shutdown::test_closing_in_a_hook_raises_also_where_it_disconnected_its_peer",
        ),
    ),
    Promise(
        "shutdown.collected",
        "a node that is garbage collected while open warns",
        (
            "shutdown::test_a_node_that_is_collected_while_open_warns",
            "shutdown::test_a_node_that_was_closed_or_never_opened_does_not_warn",
        ),
    ),
    # A user's mistakes
    Promise(
        "mistakes.logged",
        "an exception in a hook or codec is logged with traceback and address",
        ("mistakes::test_an_exception_is_logged_and_ends_its_connection_and_no_other",),
    ),
    Promise(
        "mistakes.contained",
        "and ends that connection at most",
        (
            "mistakes::test_an_exception_is_logged_and_ends_its_connection_and_no_other",
            "mistakes::test_an_exception_on_the_side_that_was_dialled_ends_its_connection_and_no_other",
        ),
    ),
    Promise(
        "mistakes.not-swallowed",
        "KeyboardInterrupt and cancellation are never swallowed",
        (
            "mistakes::test_keyboard_interrupt_goes_through",
            "mistakes::test_cancellation_reaches_the_hook",
            "mistakes::test_a_cancelled_call_is_cancelled",
        ),
    ),
    Promise(
        "mistakes.enabled-twice",
        "enabling a protocol twice raises at once",
        ("mistakes::test_enabling_a_protocol_twice_raises_at_once",),
    ),
    Promise(
        "mistakes.not-implemented",
        "so does one that the class does not implement",
        ("mistakes::test_enabling_what_the_class_does_not_implement_raises_at_once",),
    ),
    Promise(
        "mistakes.thread",
        "use from another thread raises in asyncio's debug mode",
        ("mistakes::test_use_from_another_thread_raises_in_debug_mode",),
    ),
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
    # Added in 0.2: a user's mistakes, again
    Promise(
        "mistakes.hook-without-protocol",
        "a hook without its protocol is refused when the class is made, with the name that was meant",
        (
            "settings::test_a_hook_without_its_protocol_is_refused_when_the_class_is_made",
            "settings::test_a_misspelt_hook_is_refused_with_the_name_that_was_meant",
        ),
    ),
    Promise(
        "mistakes.unknown-setting",
        "so is a setting that no protocol or node has, or one of a wrong type",
        (
            "settings::test_an_unknown_keyword_is_refused_with_the_name_that_was_meant",
            "settings::test_a_misspelt_setting_of_a_class_is_refused_with_the_name_that_was_meant",
            "settings::test_a_keyword_of_a_protocol_that_the_class_lacks_is_refused",
            "settings::test_a_flag_that_is_not_a_bool_is_refused_by_its_name",
        ),
    ),
    Promise(
        "mistakes.whose",
        "what the user's hooks raise is an ERROR with traceback; what a peer or the network does is one line without",
        (
            "ends::test_a_reason_tells_whose_doing_it_was_and_only_the_users_is_an_error",
            "reporting::test_bare_probes_write_one_line_each_without_traceback_and_no_more_than_the_limit",
        ),
    ),
    Promise(
        "mistakes.unencodable",
        "a message that cannot be encoded is never lost in silence",
        (
            "ends::test_a_message_that_cannot_be_encoded_is_logged_and_a_later_send_raises_the_cause",
            "ends::test_a_broadcast_that_cannot_be_encoded_is_the_error_of_each_and_ends_no_connection",
        ),
    ),
    # Added in 0.2: ends
    Promise(
        "ends.closed",
        "peer.closed() returns the reason to everyone who waits, after the last hook",
        (
            "ends::test_closed_returns_the_reason_to_everyone_who_waits_after_the_last_hook",
            "peer::test_everyone_who_waits_for_its_end_gets_the_reason_and_one_who_stops_waiting_disturbs_nobody",
        ),
    ),
    Promise(
        "ends.reason",
        "a reason says whose doing it was and prints as a sentence; NotConnectedError carries it",
        (
            "ends::test_a_reason_tells_whose_doing_it_was_and_only_the_users_is_an_error",
            "lifecycle::test_a_reason_reads_as_a_sentence_and_the_exception",
            "receiving::test_a_receiver_that_waits_gets_the_reason_when_its_own_node_disconnects",
        ),
    ),
    Promise(
        "ends.leaving",
        "sending to a peer that is leaving raises, except from its own on_disconnect",
        (
            "ends::test_a_peer_that_is_leaving_cannot_be_sent_to_except_from_its_own_hook",
            "ends::test_another_peers_hook_is_not_an_exception",
        ),
    ),
    Promise(
        "ends.listener",
        "a failed listener is resumed and reported",
        ("instruments::test_a_listener_that_fails_is_resumed_and_told",),
    ),
    # Added in 0.2: connecting
    Promise(
        "connecting.addresses",
        "a name is tried at all its addresses, in the manner of RFC 8305, within one connect_timeout",
        (
            "connect::test_a_name_is_tried_at_all_its_addresses",
            "connect::test_an_address_that_does_not_answer_delays_the_next_a_quarter_of_a_second",
            "connect::test_all_of_them_have_one_connect_timeout",
            "connect::test_over_tcp_a_listener_of_either_family_is_found",
        ),
    ),
    Promise(
        "connecting.refused",
        "a dialler whose connection ends before anything was exchanged is told so by the reason",
        (
            "ends::test_a_reason_tells_whose_doing_it_was_and_only_the_users_is_an_error",
            "ends::test_a_peer_that_said_something_and_one_that_dialled_did_not_refuse",
            "shutdown::test_aclose_frees_the_port_and_tells_every_peer",
        ),
    ),
    Promise(
        "connecting.loopback",
        "addresses of the machine itself are exempt from the limit per address unless the user says otherwise",
        ("gate::test_addresses_of_the_machine_itself_are_exempt_from_the_limit_per_address",),
    ),
    # Added in 0.2: admission and bounds
    Promise(
        "gate.rule",
        "a refusal names its rule and is counted under it",
        ("instruments::test_a_refusal_and_a_failure_are_told", "gate::test_an_error_names_the_limit_and_its_value"),
    ),
    Promise(
        "gate.raises",
        "a rule that raises refuses",
        ("gate::test_a_gate_that_raises_refuses_before_and_after_the_handshake",),
    ),
    Promise(
        "bounds.log",
        "what strangers can have the node log is bounded by the second",
        (
            "reporting::test_what_strangers_cause_is_limited_and_what_is_left_out_is_counted",
            "reporting::test_bare_probes_write_one_line_each_without_traceback_and_no_more_than_the_limit",
        ),
    ),
    # Added in 0.2: drain
    Promise(
        "drain.nothing-lost",
        "drain() stops accepting and reading, has what arrived processed and what was sent leave, then closes",
        (
            "drain::test_what_arrived_is_processed_and_what_is_sent_leaves",
            "drain::test_many_peers_are_drained_beside_one_another",
            "drain::test_messages_that_wait_to_be_pulled_can_be_pulled_while_it_drains",
        ),
    ),
    Promise("drain.deadline", "within its deadline", ("drain::test_it_ends_at_its_deadline_and_closes_what_is_left",)),
]


def names_in(path: Path) -> Iterator[str]:
    """The tests in a file: functions, those in classes included, and the ``TestCase`` of a state machine."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{path.stem.removeprefix('test_')}::{node.name}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield f"{path.stem.removeprefix('test_')}::{node.targets[0].id}"


KNOWN = {test for path in TESTS.rglob("test_*.py") for test in names_in(path)}


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.id)
def test_every_promise_is_held_by_tests_that_exist(promise: Promise) -> None:
    assert promise.tests, f"nothing holds: {promise.says}"
    assert not set(promise.tests) - KNOWN


def test_no_promise_stands_here_twice() -> None:
    assert len({promise.id for promise in CONTRACT}) == len(CONTRACT)
    assert len({promise.says for promise in CONTRACT}) == len(CONTRACT)
