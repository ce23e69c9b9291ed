"""The codecs of an encrypted connection: any inner codec, any chunks, and every way to tamper with the wire."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import Decoder, Delimited, Encoder, Fixed, LengthDelimited, VarintDelimited
from pea2pea.codec.mapped import Codec
from pea2pea.errors import DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError, UsageError
from pea2pea.noise import DecryptError, MalformedMessageError, NoiseCodec, NoiseDecoder, NoiseEncoder, NoiseMessages
from pea2pea.noise import codec as codec_module
from pea2pea.noise.codec import PORTION, SCRATCH_SIZE
from pea2pea.noise.crypto import CIPHERS, decrypt_copying, encrypt_copying
from pea2pea.noise.state import CipherState
from pea2pea.noise.wire import LENGTH, MAX_PLAINTEXT, OVERHEAD, framed
from support.noise import sessions

KEY = bytes(range(32))
SUITES = ["25519_ChaChaPoly_BLAKE2s", "25519_AESGCM_SHA256"]


class Anything:
    """A codec, and messages that it can encode."""

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
    sending, receiving = (new_cipher(cipher, rekey_after) for _ in range(2))
    return NoiseEncoder(inner, sending), NoiseDecoder(inner, receiving)


def messages_pair(cipher: str = "ChaChaPoly", rekey_after: int | None = None) -> tuple[NoiseMessages, NoiseMessages]:
    """The message codecs of both sides."""
    one, two, three, four = (new_cipher(cipher, rekey_after) for _ in range(4))
    return NoiseMessages(one, two), NoiseMessages(three, four)


def new_cipher(cipher: str = "ChaChaPoly", rekey_after: int | None = None) -> CipherState:
    made = CipherState(CIPHERS[cipher], KEY)
    made.rekey_after = rekey_after
    return made


def feed(
    decoder: Decoder[bytes], data: bytes, cuts: Sequence[int] = (), messages: list[bytes] | None = None
) -> tuple[list[bytes], bytes]:
    """Decode as a connection does. Return the messages (in the given list) and the bytes that are not decoded."""
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
        memory[:] = bytes(len(memory))  # messages must not refer to the buffer, which is reused
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


# Streams


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
    """Frames may be divided anywhere, and one Noise message may hold several."""
    _, decoder = pair(LengthDelimited())
    plaintext = joined(LengthDelimited(), [b"one", b"two", b"three"])
    sealer = NoiseEncoder(Pieces(), new_cipher())
    encoded = joined(sealer, [plaintext[:1]], [plaintext[1:9]], [b""], [plaintext[9:]])
    assert feed(decoder, encoded)[0] == [b"one", b"two", b"three"]


LARGE = [LengthDelimited(), VarintDelimited(), Delimited(max_frame=1 << 20), Fixed(150_000)]


@pytest.mark.parametrize("inner", LARGE, ids=lambda inner: type(inner).__name__)
@pytest.mark.parametrize("seed", range(5))
def test_large_frames_may_be_divided_over_noise_messages_anyhow(inner: Any, seed: int) -> None:
    """Frames are received in memory of their own, which a Noise message need not fit exactly."""
    chance = random.Random(seed)
    sizes = [150_000] * 4 if isinstance(inner, Fixed) else [chance.randrange(900_000) for _ in range(4)]
    batch = [chance.randbytes(size).replace(b"\n", b" ") for size in sizes]
    stream = b"".join(map(bytes, inner.encode(batch)))
    sealer, pieces = NoiseEncoder(Pieces(), new_cipher()), []
    while stream:
        size = chance.choice([0, 1, 1000, chance.randrange(MAX_PLAINTEXT), MAX_PLAINTEXT])
        pieces.append(joined(sealer, [stream[:size]]))
        stream = stream[size:]
    encoded = b"".join(pieces)
    step = chance.choice([70_000, 256 * 1024, len(encoded)])
    assert feed(pair(inner)[1], encoded, range(step, len(encoded), step)) == (batch, b"")


class Pieces(Encoder[bytes]):
    """Bytes without framing, so that a batch is one Noise message."""

    def encode(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        return messages


def test_an_empty_batch_takes_no_bytes_and_no_nonce() -> None:
    sending = new_cipher()
    assert list(NoiseEncoder(Fixed(1), sending).encode([])) == []
    assert list(NoiseMessages(sending, new_cipher()).encode([])) == []
    assert sending.nonce == 0


def test_an_empty_noise_message_adds_nothing_to_the_stream() -> None:
    _, decoder = pair()
    assert feed(decoder, framed(new_cipher().encrypt(b"", b""))) == ([], b"")


def test_small_messages_share_a_noise_message_and_large_ones_are_few_buffers() -> None:
    encoder, _ = pair()
    assert len(cut(joined(encoder, [b"small"] * 100))) == 1
    buffers = encoder.encode([bytes(65536)] * 64)
    assert sum(map(len, buffers)) < 64 * (65536 + 4 + 3 * OVERHEAD)
    assert len(buffers) <= 33


def test_small_buffers_share_noise_messages_up_to_their_size() -> None:
    encoded = joined(NoiseEncoder(Pieces(), new_cipher()), [bytes(30_000)] * 5 + [bytes(PORTION)])
    assert [len(message) - OVERHEAD for message in cut(encoded)] == [60_000, 60_000, 30_000, PORTION]


@pytest.mark.parametrize("size", [65536, 2 * PORTION, 2 * PORTION + 1, 300_000])
def test_a_large_frame_ends_where_a_noise_message_ends(size: int) -> None:
    """The decoder has no remainder to copy then. All messages but the first have the size that is fastest."""
    encoder, decoder = pair()
    messages = cut(joined(encoder, [bytes(size)] * 2))
    frame, rest = messages[: len(messages) // 2], messages[len(messages) // 2 :]
    assert {len(message) - OVERHEAD for message in [*frame[1:], *rest[1:]]} == {PORTION}
    assert feed(decoder, b"".join(frame)) == ([bytes(size)], b"")
    assert not decoder.undecoded


@pytest.mark.parametrize("cipher", CIPHERS)
def test_without_encrypt_into_the_bytes_are_the_same(cipher: str) -> None:
    """Older releases of cryptography do not have it."""
    old = replace(CIPHERS[cipher], encrypt_into=encrypt_copying, decrypt_into=decrypt_copying)
    batch = [b"small", bytes(100_000)]
    encoded = joined(NoiseEncoder(LengthDelimited(), CipherState(old, KEY)), batch)
    encoder, decoder = pair(cipher=cipher)
    assert encoded == joined(encoder, batch)
    assert feed(NoiseDecoder(LengthDelimited(), CipherState(old, KEY)), encoded) == (batch, b"")
    assert feed(decoder, encoded) == (batch, b"")


# Rekeying


def test_a_key_is_replaced_after_so_many_messages() -> None:
    sending = new_cipher(rekey_after=2)
    encoder, decoder = NoiseEncoder(LengthDelimited(), sending), pair(rekey_after=2)[1]
    encoded = joined(encoder, *[[b"x"]] * 7)
    assert feed(decoder, encoded)[0] == [b"x"] * 7
    keys = [sending._aead]
    for _ in range(4):
        encoder.encode([b"x"])
        keys.append(sending._aead)
    assert [one is other for one, other in pairwise(keys)] == [False, True, False, True]


def test_a_side_that_rekeys_alone_cannot_be_decrypted() -> None:
    encoder, _ = pair(rekey_after=2)
    _, decoder = pair()
    with pytest.raises(DecryptError):
        feed(decoder, joined(encoder, *[[b"x"]] * 2) + joined(encoder, [b"y"]))


# One message per Noise message


@given(
    st.lists(st.lists(st.binary(max_size=300), max_size=5), max_size=5),
    st.sampled_from(sorted(CIPHERS)),
    st.sampled_from([None, 1, 3]),
    st.data(),
)
def test_each_message_is_one_noise_message(
    batches: list[list[bytes]], cipher: str, rekey_after: int | None, data: st.DataObject
) -> None:
    ours, theirs = messages_pair(cipher, rekey_after)
    encoded = joined(ours, *batches)
    messages = [message for batch in batches for message in batch]
    assert [len(each) - OVERHEAD for each in cut(encoded)] == [len(message) for message in messages]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=20)))
    assert feed(theirs, encoded, cuts) == (messages, b"")
    assert theirs.finish(memoryview(b"")) == ()
    assert feed(ours, joined(theirs, *batches)) == (messages, b"")


def test_a_message_fills_a_noise_message_and_no_more() -> None:
    ours, theirs = messages_pair()
    with pytest.raises(EncodeError, match="65520 bytes, 65519 are allowed"):
        ours.encode([b"fine", bytes(MAX_PLAINTEXT + 1)])
    with pytest.raises(EncodeError):
        ours.encode([b"fine", "text"])  # type: ignore[list-item]
    # Nothing of a refused batch was encrypted, so both sides still agree.
    batch = [bytes(MAX_PLAINTEXT), b"", bytearray(b"any"), memoryview(b"buffer")]
    encoded = joined(ours, batch)  # type: ignore[arg-type]
    assert feed(theirs, encoded) == ([bytes(batch_item) for batch_item in batch], b"")


def test_a_codec_of_messages_can_be_built_on_it() -> None:
    """A message before a bad one is lost only if it arrives together with it: it cannot be decrypted again."""
    ours, theirs = messages_pair()
    numbers = Codec(theirs, parse=int, build=lambda number: b"%d" % number)
    assert numbers.decode(memoryview(joined(ours, [b"1", b"22"]))) == ([1, 22], 2 * OVERHEAD + 3)
    assert feed(ours, b"".join(map(bytes, numbers.encode([3, 4])))) == ([b"3", b"4"], b"")
    with pytest.raises(DecodeError, match="parse raised ValueError"):
        numbers.decode(memoryview(joined(ours, [b"1", b"two"])))


def test_many_messages_are_few_buffers() -> None:
    ours, _ = messages_pair()
    assert len(ours.encode([b"small"] * 100)) == 1
    assert len(ours.encode([bytes(MAX_PLAINTEXT)] * 64)) == 32


# Tampering


Outcome = tuple[list[bytes], type[Exception] | None]


def outcome(decoder: Decoder[bytes], data: bytes, cuts: Sequence[int] = ()) -> Outcome:
    """Return the messages of a stream, and the type of the error that ends it."""
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
@pytest.mark.parametrize("kind", [pair, messages_pair], ids=["stream", "messages"])
def test_tampering_is_refused_after_the_messages_before_it(change: str, bytewise: bool, kind: Any) -> None:
    tamper, arrives, error = CHANGES[change]
    encoder, decoder = kind()
    data = b"".join(tamper(cut(joined(encoder, [b"a"], [b"b"], [b"c"]))))
    cuts = range(1, len(data)) if bytewise else ()
    assert outcome(decoder, data, cuts) == (arrives, error)
    if error is not IncompleteFrameError and kind is pair:
        # It is refused from then on, whatever follows.
        with pytest.raises(error):
            decoder.decode(memoryview(data))
        with pytest.raises(error):
            decoder.finish(memoryview(b""))


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
        # A length that was increased leaves the last message incomplete.
        assert error in (DecryptError, MalformedMessageError, IncompleteFrameError)


def test_every_place_where_the_stream_can_end() -> None:
    whole = joined(pair()[0], [b"first"], [b"second"])
    bounds = {0: 0, len(cut(whole)[0]): 1, len(whole): 2}
    for size in range(len(whole) + 1):
        messages, error = outcome(pair()[1], whole[:size])
        assert messages == [b"first", b"second"][: len([b for b in bounds if 0 < b <= size])]
        assert error is (None if size in bounds else IncompleteFrameError)


def test_a_stream_that_ends_inside_an_inner_frame_is_incomplete() -> None:
    _, decoder = pair()
    half = joined(NoiseEncoder(Pieces(), new_cipher()), [joined(LengthDelimited(), [b"half"])[:-1]])
    assert outcome(decoder, half) == ([], IncompleteFrameError)


def test_a_message_of_another_connection_is_refused() -> None:
    (ann, _), (_, bob) = sessions(), sessions()
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert outcome(bob.decoder(LengthDelimited()), data) == ([], DecryptError)


def test_a_message_that_is_sent_back_is_refused() -> None:
    ann, _ = sessions()
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert outcome(ann.decoder(LengthDelimited()), data) == ([], DecryptError)


# Errors of the inner codec


def test_bad_frames_are_refused_after_the_good_ones_of_the_same_message() -> None:
    _, decoder = pair(LengthDelimited(max_frame=10))
    plaintext = joined(LengthDelimited(), [b"good", b"much too large"])
    data = joined(NoiseEncoder(Pieces(), new_cipher()), [plaintext])
    assert outcome(decoder, data) == ([b"good"], FrameTooLargeError)
    _, decoder = pair(LengthDelimited(max_frame=10))
    assert outcome(decoder, data, range(1, len(data))) == ([b"good"], FrameTooLargeError)


def test_a_batch_that_the_inner_codec_refuses_leaves_the_cipher_as_it_was() -> None:
    encoder, decoder = pair(LengthDelimited(max_frame=10))
    with pytest.raises(EncodeError):
        encoder.encode([b"fine", b"much too large"])
    assert feed(decoder, joined(encoder, [b"fine"]))[0] == [b"fine"]


def test_a_bad_frame_before_a_bad_message_is_the_error() -> None:
    """However the bytes are divided into chunks."""
    sealer = NoiseEncoder(Pieces(), new_cipher())
    data = joined(sealer, [joined(LengthDelimited(), [b"good", b"much too large"])]) + framed(bytes(20))
    for cuts in ((), range(1, len(data))):
        assert outcome(pair(LengthDelimited(max_frame=10))[1], data, cuts) == ([b"good"], FrameTooLargeError)


def test_memory_is_bounded_by_what_arrived_not_by_what_a_frame_claims() -> None:
    sealer = NoiseEncoder(Pieces(), new_cipher("AESGCM"))
    _, decoder = pair(LengthDelimited(max_frame=8 << 20), cipher="AESGCM")
    tracemalloc.start()
    try:
        feed(decoder, joined(sealer, [(8 << 20).to_bytes(4, "big")], *[[b"x"]] * 100))
        assert len(decoder.undecoded) == 104
        assert tracemalloc.get_traced_memory()[0] < SCRATCH_SIZE + 10_000
        for _ in range(8):
            feed(decoder, joined(sealer, [bytes(60_000)]))
        assert tracemalloc.get_traced_memory()[0] < SCRATCH_SIZE + 10_000 + 4 * (8 * 60_000 + 104)
    finally:
        tracemalloc.stop()
    left = (8 << 20) - 100 - 8 * 60_000
    arrived = feed(decoder, joined(sealer, *[[bytes(10_000)]] * (left // 10_000), [bytes(left % 10_000)]))[0]
    assert [len(message) for message in arrived] == [8 << 20]
    assert not decoder.undecoded


def test_a_frame_without_its_delimiter_is_refused_at_the_limit() -> None:
    sealer = NoiseEncoder(Pieces(), CipherState(CIPHERS["ChaChaPoly"], KEY))
    _, decoder = pair(Delimited(max_frame=100))
    assert outcome(decoder, joined(sealer, *[[b"x" * 30]] * 10)) == ([], FrameTooLargeError)


def test_the_size_of_a_noise_message_is_known_from_its_length() -> None:
    for decoder in (pair()[1], messages_pair()[0], NoiseCodec(pair()[1], pair()[0])):
        assert [decoder.frame_size(memoryview(head)) for head in (b"", b"\1", b"\1\2", b"\1\2\3")] == [
            0, 0, 260, 260
        ]  # fmt: skip


class Nested(Decoder[bytes]):
    """Decodes with another decoder, and records how many blocks of memory are free meanwhile."""

    def __init__(self, inner: Decoder[bytes]) -> None:
        self.inner = inner
        self.free: list[int] = []

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        self.free.append(len(codec_module._scratch))
        return self.inner.decode(buffer)


def test_noise_in_noise_in_noise() -> None:
    """Each level borrows memory of its own; two blocks are kept in the end."""
    levels = [new_cipher() for _ in range(6)]
    encoder = NoiseEncoder(NoiseEncoder(NoiseEncoder(LengthDelimited(), levels[0]), levels[1]), levels[2])
    innermost = Nested(LengthDelimited())
    decoder = NoiseDecoder(NoiseDecoder(NoiseDecoder(innermost, levels[3]), levels[4]), levels[5])
    batch = [b"one", b"", bytes(100_000), bytes(700_000), b"last"]
    encoded = joined(encoder, batch)
    assert feed(decoder, encoded, range(50_001, len(encoded), 50_001)) == (batch, b"")
    assert set(innermost.free) == {0}
    assert len(codec_module._scratch) == 2


def test_decoders_in_several_threads() -> None:
    def receive(number: int) -> bool:
        batch = [bytes([number]) * size for size in range(1, 3000, 7)]
        for _ in range(10):
            encoder, decoder = pair()
            encoded = joined(encoder, batch)
            if feed(decoder, encoded, range(5000, len(encoded), 5000)) != (batch, b""):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(receive, range(4)))


def test_between_calls_a_decoder_refers_to_no_shared_memory() -> None:
    encoder, decoder = pair()
    encoded = joined(encoder, [bytes(1000)], [bytes(1000)])
    first = len(cut(encoded)[0])
    feed(decoder, encoded[:first])
    while codec_module._scratch:
        codec_module._scratch.pop().release()
    assert feed(decoder, encoded[first:]) == ([bytes(1000)], b"")


# Sessions


@pytest.mark.parametrize("suite", SUITES)
def test_a_session_has_one_codec_per_direction(suite: str) -> None:
    ann, bob = sessions(suite)
    data = joined(ann.encoder(LengthDelimited()), [b"hello"])
    assert feed(bob.decoder(LengthDelimited()), data)[0] == [b"hello"]
    for again in (
        lambda: ann.encoder(LengthDelimited()),
        lambda: bob.decoder(LengthDelimited()),
        lambda: ann.codec(LengthDelimited()),
        ann.message_codec,
        bob.message_codec,
    ):
        with pytest.raises(UsageError, match=r"one (en|de)coder"):
            again()


def test_a_codec_for_both_directions_is_the_same_for_either() -> None:
    for session in sessions():
        codec = session.codec(LengthDelimited())
        assert session.codec(LengthDelimited()) is codec
        with pytest.raises(UsageError):
            session.message_codec()
    for session in sessions():
        messages = session.message_codec()
        assert session.message_codec() is messages
        with pytest.raises(UsageError):
            session.codec(LengthDelimited())


def test_a_codec_is_both_halves() -> None:
    ann, bob = (session.codec(LengthDelimited(max_frame=10)) for session in sessions())
    batch = [b"hello", b"", b"there"]
    assert feed(bob, joined(ann, batch)) == (batch, b"")
    assert feed(ann, joined(bob, batch)) == (batch, b"")
    half = joined(ann, [b"half"])
    with pytest.raises(IncompleteFrameError):
        bob.finish(memoryview(half[:-1]))
    with pytest.raises(EncodeError):
        bob.encode([bytes(11)])
    assert "LengthDelimited" in repr(ann) and "0 received" in repr(sessions()[0].message_codec())


def test_a_message_codec_begins_with_what_was_given_back() -> None:
    ann, bob = sessions()
    sealed = ann.seal(b"a name, a message")
    assert bob.unseal(sealed[2:])[:8] == b"a name, "
    bob.give_back(b"a message")
    codec = bob.message_codec()
    data = sealed + joined(ann.message_codec(), [b"another"])
    assert feed(codec, data, range(1, len(data))) == ([b"a message", b"another"], b"")


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
