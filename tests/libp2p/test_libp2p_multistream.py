"""Multistream-select without a network: proposals and answers, message boundaries, and violations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.libp2p import NegotiationError, UnsupportedProtocolError
from pea2pea.libp2p.multistream import (
    HEADER,
    MAX_MESSAGE,
    MAX_PROPOSALS,
    Choice,
    Negotiation,
    Proposal,
    encode_message,
)

names = st.from_regex(r"/[a-z]{1,3}/[0-9]", fullmatch=True)


def feed(side: Negotiation, data: bytes) -> bytes:
    """Pass ``side`` the bytes that it wants; return the bytes that it does not."""
    while side.protocol is None and len(data) >= side.wanted:
        taken, data = data[: side.wanted], data[side.wanted :]
        side.receive(taken)
    return data


def exchange(dialler: Negotiation, listener: Negotiation) -> None:
    while out := dialler.take():
        assert feed(listener, out) == b""
        assert feed(dialler, listener.take()) == b""


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.lists(names, max_size=6))
def test_both_sides_agree_on_the_first_common_protocol(proposed: list[str], supported: list[str]) -> None:
    common = [name for name in proposed if name in supported]
    dialler, listener = Proposal(proposed), Choice(supported)
    if common:
        exchange(dialler, listener)
        assert dialler.protocol == listener.protocol == common[0]
        assert listener.refused == proposed[: proposed.index(common[0])]
    else:
        with pytest.raises(UnsupportedProtocolError) as caught:
            exchange(dialler, listener)
        assert caught.value.protocols == tuple(proposed)


def test_the_header_and_the_first_proposal_are_sent_together() -> None:
    """Fact 5, on this side: js does the same."""
    assert Proposal(["/noise"]).take() == b"\x13/multistream/1.0.0\n\x07/noise\n"


def test_a_header_alone_is_answered_at_once() -> None:
    """Fact 5, on the other side: py sends its header, and waits for ours before its first proposal."""
    listener = Choice(["/noise"])
    feed(listener, b"\x13/multistream/1.0.0\n")
    assert listener.take() == b"\x13/multistream/1.0.0\n"
    feed(listener, b"\x07/noise\n")
    assert listener.take() == b"\x07/noise\n" and listener.protocol == "/noise"


def test_bytes_after_the_negotiation_are_not_consumed() -> None:
    listener = Choice(["/a"])
    assert feed(listener, encode_message(HEADER) + encode_message("/a") + b"more") == b"more"
    dialler = Proposal(["/a"])
    assert feed(dialler, encode_message(HEADER) + encode_message("/a") + b"more") == b"more"


def test_ls_is_answered_like_an_unknown_protocol() -> None:
    listener = Choice(["/a"])
    feed(listener, encode_message(HEADER) + encode_message("ls"))
    assert listener.take() == encode_message(HEADER) + encode_message("na")


@pytest.mark.parametrize(
    "data",
    [
        b"\0",  # an empty message
        b"\x80\x00",  # a padded length
        b"\xff\xff",  # a length of more than two bytes
        b"\xff\x7f",  # a length above the limit
        b"\x81\x08",  # 1,025
        b"\x02ab",  # no newline
        b"\x02\xff\n",  # not UTF-8
        encode_message("/multistream/2.0.0"),
        encode_message("/noise"),  # no header
    ],
)
@pytest.mark.parametrize("side", [Choice(["/noise"]), Proposal(["/noise"])], ids=["choice", "proposal"])
def test_violations_are_refused(side: Negotiation, data: bytes) -> None:
    fresh = Choice(["/noise"]) if isinstance(side, Choice) else Proposal(["/noise"])
    with pytest.raises(NegotiationError):
        feed(fresh, data)


def test_an_answer_with_another_protocol_is_refused() -> None:
    with pytest.raises(NegotiationError, match="expected /a or na"):
        feed(Proposal(["/a"]), encode_message(HEADER) + encode_message("/b"))


def test_the_longest_message_is_accepted() -> None:
    name = "/" + "x" * (MAX_MESSAGE - 2)
    listener = Choice([name])
    feed(listener, encode_message(HEADER) + encode_message(name))
    assert listener.protocol == name


def test_endless_proposals_are_refused() -> None:
    listener = Choice(["/a"])
    feed(listener, encode_message(HEADER) + encode_message("/b") * MAX_PROPOSALS)
    with pytest.raises(NegotiationError, match="proposals"):
        feed(listener, encode_message("/b"))


@pytest.mark.parametrize("name", ["", "na", "ls", HEADER, "a\nb", "x" * MAX_MESSAGE])
def test_invalid_protocol_names_are_refused(name: str) -> None:
    with pytest.raises(NegotiationError):
        Proposal([name])


@given(st.binary(max_size=64))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    for side in (Choice(["/a"]), Proposal(["/a"])):
        try:
            feed(side, encode_message(HEADER) + data)
        except (NegotiationError, UnsupportedProtocolError):
            continue
        assert 1 <= side.wanted <= MAX_MESSAGE
