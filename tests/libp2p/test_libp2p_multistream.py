"""Multistream-select without a network: both sides, whatever is proposed, however it is cut, and what is refused."""

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
    """Give ``side`` what it asks for; return what it does not ask for any more."""
    while side.protocol is None and len(data) >= side.wanted:
        taken, data = data[: side.wanted], data[side.wanted :]
        side.receive(taken)
    return data


def talk(dialler: Negotiation, listener: Negotiation) -> None:
    while out := dialler.take():
        assert feed(listener, out) == b""
        assert feed(dialler, listener.take()) == b""


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.lists(names, max_size=6))
def test_both_sides_agree_on_the_first_that_both_speak(proposed: list[str], spoken: list[str]) -> None:
    common = [name for name in proposed if name in spoken]
    dialler, listener = Proposal(proposed), Choice(spoken)
    if common:
        talk(dialler, listener)
        assert dialler.protocol == listener.protocol == common[0]
        assert listener.refused == proposed[: proposed.index(common[0])]
    else:
        with pytest.raises(UnsupportedProtocolError) as caught:
            talk(dialler, listener)
        assert caught.value.protocols == tuple(proposed)


def test_the_header_and_the_first_proposal_leave_together() -> None:
    """Fact 5, this side: as js does it."""
    assert Proposal(["/noise"]).take() == b"\x13/multistream/1.0.0\n\x07/noise\n"


def test_a_header_alone_is_answered_at_once() -> None:
    """Fact 5, the other side: py sends its header and waits for ours before it proposes anything."""
    listener = Choice(["/noise"])
    feed(listener, b"\x13/multistream/1.0.0\n")
    assert listener.take() == b"\x13/multistream/1.0.0\n"
    feed(listener, b"\x07/noise\n")
    assert listener.take() == b"\x07/noise\n" and listener.protocol == "/noise"


def test_what_follows_is_not_taken() -> None:
    listener = Choice(["/a"])
    assert feed(listener, encode_message(HEADER) + encode_message("/a") + b"more") == b"more"
    dialler = Proposal(["/a"])
    assert feed(dialler, encode_message(HEADER) + encode_message("/a") + b"more") == b"more"


def test_ls_is_refused_as_any_other_name() -> None:
    listener = Choice(["/a"])
    feed(listener, encode_message(HEADER) + encode_message("ls"))
    assert listener.take() == encode_message(HEADER) + encode_message("na")


@pytest.mark.parametrize(
    "data",
    [
        b"\0",  # nothing
        b"\x80\x00",  # a padded length
        b"\xff\xff",  # a length that goes on
        b"\xff\x7f",  # a length beyond the bound
        b"\x81\x08",  # 1,025
        b"\x02ab",  # no newline
        b"\x02\xff\n",  # no text
        encode_message("/multistream/2.0.0"),
        encode_message("/noise"),  # no header
    ],
)
@pytest.mark.parametrize("side", [Choice(["/noise"]), Proposal(["/noise"])], ids=["choice", "proposal"])
def test_what_no_one_may_say(side: Negotiation, data: bytes) -> None:
    fresh = Choice(["/noise"]) if isinstance(side, Choice) else Proposal(["/noise"])
    with pytest.raises(NegotiationError):
        feed(fresh, data)


def test_an_answer_that_was_not_asked_for() -> None:
    with pytest.raises(NegotiationError, match="no answer"):
        feed(Proposal(["/a"]), encode_message(HEADER) + encode_message("/b"))


def test_the_longest_message_passes() -> None:
    name = "/" + "x" * (MAX_MESSAGE - 2)
    listener = Choice([name])
    feed(listener, encode_message(HEADER) + encode_message(name))
    assert listener.protocol == name


def test_endless_proposals_are_cut_off() -> None:
    listener = Choice(["/a"])
    feed(listener, encode_message(HEADER) + encode_message("/b") * MAX_PROPOSALS)
    with pytest.raises(NegotiationError, match="proposals"):
        feed(listener, encode_message("/b"))


@pytest.mark.parametrize("name", ["", "na", "ls", HEADER, "a\nb", "x" * MAX_MESSAGE])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(NegotiationError):
        Proposal([name])


@given(st.binary(max_size=64))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    for side in (Choice(["/a"]), Proposal(["/a"])):
        try:
            feed(side, encode_message(HEADER) + data)
        except (NegotiationError, UnsupportedProtocolError):
            continue
        assert 1 <= side.wanted <= MAX_MESSAGE
