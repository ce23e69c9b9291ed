"""The encrypting codecs: any inner codec, any chunks; and every way to tamper with what is on the wire."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import Decoder, Delimited, Encoder, Fixed, LengthDelimited, VarintDelimited
from pea2pea.errors import DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError, UsageError
from pea2pea.noise import DecryptError, MalformedMessageError, NoiseDecoder, NoiseEncoder
from pea2pea.noise import codec as codec_module
from pea2pea.noise.codec import LENGTH, MAX_PLAINTEXT, OVERHEAD, PORTION
from pea2pea.noise.crypto import CIPHERS, decrypt_copying, encrypt_copying
from pea2pea.noise.state import CipherState
from support.noise import sessions

KEY = bytes(range(32))
SUITES = ["25519_ChaChaPoly_BLAKE2s", "25519_AESGCM_SHA256"]


class Anything:
    """A codec with a bound, and messages that it can encode."""

    def __init__(self, codec: Any, messages: st.SearchStrategy[bytes]) -> None:
        self.codec = codec
        self.messages = messages


INNER = [
    Anything(LengthDelimited(max_frame=1 << 20), st.binary(max_size=300)),
    Anything(VarintDelimited(), st.binary(max_size=300)),
    Anything(Delimited(), st.binary(max_size=300).map(lambda message: message.replace(b"\n", b" "))),
    Anything(Fixed(7), st.binary(min_size=7, max_size=7)),
]


def pair(
    inner: Any = LengthDelimited(),  # noqa: B008 - it is immutable
    *,
    cipher: str = "ChaChaPoly",
    rekey_after: int | None = None,
) -> tuple[NoiseEncoder[bytes], NoiseDecoder[bytes]]:
    """An encoder, and the decoder of the other side."""
    ends = [CipherState(CIPHERS[cipher], KEY) for _ in range(2)]
    return NoiseEncoder(inner, ends[0], rekey_after), NoiseDecoder(inner, ends[1], rekey_after)


def feed(
    decoder: Decoder[bytes], data: bytes, cuts: Sequence[int] = (), messages: list[bytes] | None = None
) -> tuple[list[bytes], bytes]:
    """What a connection does with a decoder; return the messages (in the given list) and what is undecoded."""
    messages = [] if messages is None else messages
    rest = b""
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        memory = bytearray(rest + data[start:stop])
        position = 0
        while position < len(memory):
            found, used = decoder.decode(memoryview(memory)[position:])
            if not used:
                assert not found
                break
            messages += found
            position += used
        rest = bytes(memory[position:])
        memory[:] = bytes(len(memory))  # it is written over: nothing may refer to it
    return messages, rest


def cut(encoded: bytes) -> list[bytes]:
    """The Noise messages of ``encoded``, each with its length."""
    found = []
    while encoded:
        size = LENGTH.size + LENGTH.unpack_from(encoded)[0]
        found.append(encoded[:size])
        encoded = encoded[size:]
    return found


def joined(encoder: Encoder[bytes], *batches: Sequence[bytes]) -> bytes:
    return b"".join(bytes(buffer) for batch in batches for buffer in encoder.encode(batch))


# What goes through


@given(st.sampled_from(INNER), st.sampled_from(sorted(CIPHERS)), st.sampled_from([None, 1, 3]), st.data())
def test_any_codec_in_any_chunks(kind: Anything, cipher: str, rekey_after: int | None, data: st.DataObject) -> None:
    batches = data.draw(st.lists(st.lists(kind.messages, max_size=5), max_size=5))
    encoder, decoder = pair(kind.codec, cipher=cipher, rekey_after=rekey_after)
    encoded = joined(encoder, *batches)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=20)))
    messages, rest = feed(decoder, encoded, cuts)
    assert messages == [message for batch in batches for message in batch]
    assert rest == b""
    assert decoder.finish(memoryview(rest)) == ()


def test_byte_by_byte() -> None:
    encoder, decoder = pair(rekey_after=2)
    encoded = joined(encoder, [b"one", b"", b"two"], [b"three"], [b"four"])
    assert feed(decoder, encoded, range(1, len(encoded)))[0] == [b"one", b"", b"two", b"three", b"four"]


SIZES = [0, 1, PORTION - 4, PORTION, MAX_PLAINTEXT - 5, MAX_PLAINTEXT - 4, MAX_PLAINTEXT - 3, 65536, 300_000, 2_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1000, 65_537, 256 * 1024])
def test_messages_of_any_size(size: int, step: int) -> None:
    encoder, decoder = pair(cipher="AESGCM")
    batch = [random.Random(size).randbytes(size), b"small", bytes(size), b"small"]
    encoded = joined(encoder, batch)
    assert all(len(message) <= LENGTH.size + 65535 for message in cut(encoded))
    messages, rest = feed(decoder, encoded, range(step, len(encoded), step))
    assert (messages, rest) == (batch, b"")


def test_a_noise_message_is_not_a_frame() -> None:
    """Frames are cut anywhere, and several come in one message."""
    encoder, decoder = pair(LengthDelimited())
    plaintext = joined(LengthDelimited(), [b"one", b"two", b"three"])
    sealer = NoiseEncoder(Pieces(), encoder._cipher)
    encoded = joined(sealer, [plaintext[:1]], [plaintext[1:9]], [b""], [plaintext[9:]])
    assert feed(decoder, encoded)[0] == [b"one", b"two", b"three"]


class Pieces(Encoder[bytes]):
    """Bytes as they are, so that a batch is one Noise message."""

    def encode(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        return messages


def test_nothing_to_say_takes_no_bytes_and_no_nonce() -> None:
    encoder, _ = pair(Fixed(1))
    assert (list(encoder.encode([])), encoder._cipher.nonce) == ([], 0)


def test_an_empty_noise_message_is_nothing() -> None:
    _, decoder = pair()
    sealed = CipherState(CIPHERS["ChaChaPoly"], KEY).encrypt(b"", b"")
    assert feed(decoder, LENGTH.pack(len(sealed)) + sealed) == ([], b"")


def test_small_messages_share_a_noise_message_and_large_ones_are_few_buffers() -> None:
    encoder, _ = pair()
    assert len(cut(joined(encoder, [b"small"] * 100))) == 1
    buffers = encoder.encode([bytes(65536)] * 64)
    assert sum(map(len, buffers)) < 64 * (65536 + 4 + 3 * OVERHEAD)
    assert len(buffers) <= 33


@pytest.mark.parametrize("size", [65536, 2 * PORTION, 2 * PORTION + 1, 300_000])
def test_a_large_frame_ends_where_a_noise_message_ends(size: int) -> None:
    """So that its decoder has nothing to keep, and all but the first are of a size that ciphers like."""
    encoder, decoder = pair()
    messages = cut(joined(encoder, [bytes(size)] * 2))
    frame, rest = messages[: len(messages) // 2], messages[len(messages) // 2 :]
    assert {len(message) - OVERHEAD for message in [*frame[1:], *rest[1:]]} == {PORTION}
    assert feed(decoder, b"".join(frame)) == ([bytes(size)], b"")
    assert not decoder._kept


@pytest.mark.parametrize("cipher", CIPHERS)
def test_without_encrypt_into_the_bytes_are_the_same(cipher: str) -> None:
    """Older releases of cryptography lack it."""
    old = replace(CIPHERS[cipher], encrypt_into=encrypt_copying, decrypt_into=decrypt_copying)
    batch = [b"small", bytes(100_000)]
    encoded = joined(NoiseEncoder(LengthDelimited(), CipherState(old, KEY)), batch)
    encoder, decoder = pair(cipher=cipher)
    assert encoded == joined(encoder, batch)
    assert feed(NoiseDecoder(LengthDelimited(), CipherState(old, KEY)), encoded) == (batch, b"")
    assert feed(decoder, encoded) == (batch, b"")


# Rekeying


def test_both_sides_rekey_alike_and_no_two_messages_share_a_key_for_longer() -> None:
    encoder, decoder = pair(rekey_after=2)
    encoded = joined(encoder, *[[b"x"]] * 7)
    assert feed(decoder, encoded)[0] == [b"x"] * 7
    keys = [encoder._cipher._aead]
    for _ in range(4):
        encoder.encode([b"x"])
        keys.append(encoder._cipher._aead)
    assert [one is other for one, other in pairwise(keys)] == [False, True, False, True]


def test_who_rekeys_alone_is_not_understood() -> None:
    encoder, _ = pair(rekey_after=2)
    _, decoder = pair()
    with pytest.raises(DecryptError):
        feed(decoder, joined(encoder, *[[b"x"]] * 2) + joined(encoder, [b"y"]))


# Tampering


Outcome = tuple[list[bytes], type[Exception] | None]


def outcome(decoder: Decoder[bytes], data: bytes, cuts: Sequence[int] = ()) -> Outcome:
    """What arrives of a stream, and how that ends."""
    messages: list[bytes] = []
    try:
        _, rest = feed(decoder, data, cuts, messages)
        decoder.finish(memoryview(rest))
    except DecodeError as error:
        return messages, type(error)
    return messages, None


CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[bytes], type[Exception]]] = {
    "replayed": (lambda m: [m[0], m[0], m[1]], [b"a"], DecryptError),
    "replayed later": (lambda m: [m[0], m[1], m[0]], [b"a", b"b"], DecryptError),
    "reordered": (lambda m: [m[1], m[0], m[2]], [], DecryptError),
    "left out": (lambda m: [m[0], m[2]], [b"a"], DecryptError),
    "made up": (lambda m: [m[0], LENGTH.pack(40) + bytes(40)], [b"a"], DecryptError),
    "truncated": (lambda m: [m[0], LENGTH.pack(len(m[1]) - 3) + m[1][2:-1], m[2]], [b"a"], DecryptError),
    "too short to be one": (lambda m: [m[0], LENGTH.pack(15) + bytes(15)], [b"a"], MalformedMessageError),
    "empty": (lambda m: [bytes(2), *m], [], MalformedMessageError),
    "cut": (lambda m: [m[0], m[1][:-1]], [b"a"], IncompleteFrameError),
    "cut in its length": (lambda m: [m[0], m[1][:1]], [b"a"], IncompleteFrameError),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_was_tampered_with_is_refused_after_the_good(change: str, bytewise: bool) -> None:
    tamper, arrives, error = CHANGES[change]
    encoder, decoder = pair()
    data = b"".join(tamper(cut(joined(encoder, [b"a"], [b"b"], [b"c"]))))
    cuts = range(1, len(data)) if bytewise else ()
    assert outcome(decoder, data, cuts) == (arrives, error)
    if error is not IncompleteFrameError:
        # It stays refused, whatever comes.
        for again in (lambda: decoder.decode(memoryview(data)), lambda: decoder.finish(memoryview(b""))):
            with pytest.raises(error):
                again()


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_byte_that_is_altered(cipher: str) -> None:
    encoder, _ = pair(cipher=cipher)
    whole = joined(encoder, [b"first"], [b"second"])
    first = len(cut(whole)[0])
    for place in range(len(whole)):
        _, decoder = pair(cipher=cipher)
        altered = bytearray(whole)
        altered[place] ^= 0x10
        messages, error = outcome(decoder, bytes(altered))
        assert messages == ([] if place < first else [b"first"])
        # A length that grew beyond what comes leaves half a message.
        assert error in (DecryptError, MalformedMessageError, IncompleteFrameError)


def test_every_place_where_the_stream_can_end() -> None:
    whole = joined(pair()[0], [b"first"], [b"second"])
    bounds = {0: 0, len(cut(whole)[0]): 1, len(whole): 2}
    for size in range(len(whole) + 1):
        messages, error = outcome(pair()[1], whole[:size])
        assert messages == [b"first", b"second"][: len([b for b in bounds if 0 < b <= size])]
        assert error is (None if size in bounds else IncompleteFrameError)


def test_a_stream_that_ends_inside_an_inner_frame_is_incomplete() -> None:
    encoder, decoder = pair()
    half = joined(NoiseEncoder(Pieces(), encoder._cipher), [joined(LengthDelimited(), [b"half"])[:-1]])
    assert outcome(decoder, half) == ([], IncompleteFrameError)


def test_a_message_of_another_connection_is_refused() -> None:
    (ann, _), (_, bob) = sessions(), sessions()
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert outcome(bob.decoder(LengthDelimited()), data) == ([], DecryptError)


def test_ones_own_message_sent_back_is_refused() -> None:
    ann, _ = sessions()
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert outcome(ann.decoder(LengthDelimited()), data) == ([], DecryptError)


# What the inner codec refuses


def test_bad_frames_are_refused_after_the_good_ones_of_the_same_message() -> None:
    encoder, decoder = pair(LengthDelimited(max_frame=10))
    plaintext = joined(LengthDelimited(), [b"good", b"much too large"])
    data = joined(NoiseEncoder(Pieces(), encoder._cipher), [plaintext])
    assert outcome(decoder, data) == ([b"good"], FrameTooLargeError)
    _, decoder = pair(LengthDelimited(max_frame=10))
    assert outcome(decoder, data, range(1, len(data))) == ([b"good"], FrameTooLargeError)


def test_what_the_inner_codec_cannot_encode_costs_nothing() -> None:
    encoder, decoder = pair(LengthDelimited(max_frame=10))
    with pytest.raises(EncodeError):
        encoder.encode([b"fine", b"much too large"])
    assert feed(decoder, joined(encoder, [b"fine"]))[0] == [b"fine"]


def test_what_is_kept_is_bounded_by_the_inner_codec() -> None:
    """Whoever claims a frame and sends it a byte at a time makes the decoder hold what came, not what was claimed."""
    sealer = NoiseEncoder(Pieces(), CipherState(CIPHERS["AESGCM"], KEY))
    _, decoder = pair(LengthDelimited(max_frame=8 << 20), cipher="AESGCM")
    feed(decoder, joined(sealer, [(8 << 20).to_bytes(4, "big")], *[[b"x"]] * 100))
    assert sys.getsizeof(decoder._kept) < 1000
    for _ in range(8):
        feed(decoder, joined(sealer, [bytes(60_000)]))
    assert len(decoder._kept) <= 4 * (8 * 60_000 + 104)
    left = (8 << 20) - 100 - 8 * 60_000
    arrived = feed(decoder, joined(sealer, *[[bytes(10_000)]] * (left // 10_000), [bytes(left % 10_000)]))[0]
    assert [len(message) for message in arrived] == [8 << 20]
    assert len(decoder._kept) < 64 * 1024


def test_the_delimiter_that_never_comes_is_refused() -> None:
    sealer = NoiseEncoder(Pieces(), CipherState(CIPHERS["ChaChaPoly"], KEY))
    _, decoder = pair(Delimited(max_frame=100))
    assert outcome(decoder, joined(sealer, *[[b"x" * 30]] * 10)) == ([], FrameTooLargeError)


def test_the_size_of_a_noise_message_is_known_from_its_length() -> None:
    _, decoder = pair()
    assert [decoder.frame_size(memoryview(head)) for head in (b"", b"\1", b"\1\2", b"\1\2\3")] == [0, 0, 260, 260]


def test_scratch_memory_is_few_blocks() -> None:
    encoder, decoder = pair()
    feed(decoder, joined(encoder, [b"x"]))
    assert 1 <= len(codec_module._scratch) <= 2


# Sessions


@pytest.mark.parametrize("suite", SUITES)
def test_a_session_gives_each_codec_once(suite: str) -> None:
    ann, bob = sessions(suite)
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert feed(bob.decoder(LengthDelimited()), data)[0] == [b"hello"]
    for again in (lambda: ann.encoder(LengthDelimited()), lambda: bob.decoder(LengthDelimited())):
        with pytest.raises(UsageError):
            again()


def test_messages_can_be_sealed_by_hand_until_there_is_a_codec() -> None:
    ann, bob = sessions(rekey_after=1)
    for number in range(3):
        sealed = ann.seal(b"by hand %d" % number)
        assert LENGTH.unpack_from(sealed)[0] == len(sealed) - 2
        assert bob.unseal(sealed[2:]) == b"by hand %d" % number
    encoder, decoder = ann.encoder(LengthDelimited()), bob.decoder(LengthDelimited())
    assert feed(decoder, joined(encoder, [b"then in batches"]))[0] == [b"then in batches"]
    with pytest.raises(UsageError):
        ann.seal(b"")
    with pytest.raises(UsageError):
        bob.unseal(b"")


def test_sealing_has_a_bound_and_unsealing_is_strict() -> None:
    ann, bob = sessions()
    with pytest.raises(EncodeError):
        ann.seal(bytes(MAX_PLAINTEXT + 1))
    with pytest.raises(MalformedMessageError):
        bob.unseal(bytes(15))
    sealed = ann.seal(bytes(MAX_PLAINTEXT))
    with pytest.raises(DecryptError):
        bob.unseal(sealed[2:-1] + b"\0")
    assert bob.unseal(sealed[2:]) == bytes(MAX_PLAINTEXT)
