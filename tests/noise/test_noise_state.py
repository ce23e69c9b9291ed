"""The state machine: both sides agree for every pattern and payload, and every fault is an error."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import LengthDelimited
from pea2pea.errors import ConfigError, DecodeError, EncodeError, UsageError
from pea2pea.noise import (
    DecryptError,
    HandshakeState,
    KeyPair,
    MalformedMessageError,
    NoiseConfig,
    NoiseProtocol,
    NonceExhaustedError,
)
from pea2pea.noise.codec import NoiseEncoder
from pea2pea.noise.crypto import CIPHERS, CURVES, HASHES
from pea2pea.noise.patterns import MESSAGES, pattern
from pea2pea.noise.state import LAST_NONCE, MAX_MESSAGE, CipherState
from support.noise import ANN, BOB, EVE, PSKS, config_for, session_of, states

SUITES = [f"{c}_{a}_{h}" for c in CURVES for a in CIPHERS for h in HASHES]


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Any pattern with any valid modifiers."""
    plain = draw(st.sampled_from(sorted(MESSAGES)))
    places = draw(st.sets(st.integers(0, MESSAGES[plain].count("/") + 1), max_size=4))
    return plain + "+".join(f"psk{place}" for place in sorted(places))


def exchange(ann: HandshakeState, bob: HandshakeState, payloads: list[bytes]) -> list[bytes]:
    """Perform a handshake. Return the payloads that were received."""
    arrived = []
    while not ann.finished:
        writer, reader = (ann, bob) if ann.is_my_turn else (bob, ann)
        assert not reader.is_my_turn
        arrived.append(reader.read_message(writer.write_message(payloads[ann.messages_done])))
    return arrived


@given(patterns(), st.sampled_from(SUITES[:8]), st.lists(st.binary(max_size=200), min_size=4, max_size=4))
def test_both_sides_agree(name: str, suite: str, payloads: list[bytes]) -> None:
    ann, bob = states(name, suite)
    assert exchange(ann, bob, payloads) == payloads[: ann.messages_done]
    assert bob.finished and not ann.is_my_turn and not bob.is_my_turn
    assert ann.handshake_hash == bob.handshake_hash
    for (sending, _), (_, receiving) in ((ann.split(), bob.split()), (bob.split(), ann.split())):
        assert receiving.decrypt(b"", sending.encrypt(b"", b"hello")) == b"hello"
    assert ann.remote_static == (BOB.public if ann.protocol.pattern.has_static(initiator=False) else None)
    assert bob.remote_static == (ANN.public if ann.protocol.pattern.has_static(initiator=True) else None)


@given(patterns(), st.data())
def test_a_message_that_was_altered_is_detected(name: str, data: st.DataObject) -> None:
    """By the side that reads it or, if it is not encrypted yet, by the other side at the next message."""
    ann, bob = states(name)
    target = data.draw(st.integers(0, len(ann.protocol.pattern.messages) - 1))
    with pytest.raises(DecodeError):
        while not ann.finished:
            writer, reader = (ann, bob) if ann.is_my_turn else (bob, ann)
            message = bytearray(writer.write_message(b"payload"))
            if writer.messages_done == target + 1:
                message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            reader.read_message(bytes(message))
        for (sending, _), (_, receiving) in ((ann.split(), bob.split()), (bob.split(), ann.split())):
            receiving.decrypt(b"", sending.encrypt(b"", b"what follows"))


@pytest.mark.parametrize("name", ["NN", "XX", "IKpsk2", "NNpsk0"])
def test_a_message_that_was_cut_is_malformed_or_not_authentic(name: str) -> None:
    whole = states(name)[0].write_message(b"payload")
    for size in range(32):
        with pytest.raises(MalformedMessageError):
            states(name)[1].read_message(whole[:size])


def test_after_a_refused_message_the_handshake_is_over() -> None:
    ann, bob = states("XX")
    with pytest.raises(MalformedMessageError):
        bob.read_message(b"")
    with pytest.raises(UsageError):
        bob.read_message(ann.write_message())


def test_messages_alternate() -> None:
    ann, bob = states("NN")
    with pytest.raises(UsageError):
        bob.write_message()
    with pytest.raises(UsageError):
        ann.read_message(b"")
    with pytest.raises(UsageError):
        ann.split()
    with pytest.raises(UsageError):
        _ = ann.handshake_hash
    exchange(ann, bob, [b"", b""])
    with pytest.raises(UsageError):
        ann.write_message()
    with pytest.raises(UsageError):
        ann.read_message(b"")


def test_a_payload_fills_a_message_and_no_more() -> None:
    ann, bob = states("NN")
    assert len(bob.read_message(ann.write_message(bytes(MAX_MESSAGE - 32)))) == MAX_MESSAGE - 32
    with pytest.raises(EncodeError):
        bob.write_message(bytes(MAX_MESSAGE - 47))
    with pytest.raises(MalformedMessageError):
        states("NN")[1].read_message(bytes(MAX_MESSAGE + 1))


@pytest.mark.parametrize("curve", CURVES)
def test_a_key_of_low_order_is_refused(curve: str) -> None:
    _, bob = states("NN", f"{curve}_AESGCM_SHA256")
    bob.read_message(bytes(CURVES[curve].size))
    with pytest.raises(MalformedMessageError):
        bob.write_message()


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"prologue": b"one"}, {"prologue": b"other"}),
        ({"psks": PSKS[:1]}, {"psks": PSKS[1:2]}),
        ({"protocol": NoiseProtocol.of("Noise_NNpsk2_25519_AESGCM_SHA256")}, {}),
    ],
)
def test_sides_that_do_not_agree_fail(mine: dict[str, Any], other: dict[str, Any]) -> None:
    common: dict[str, Any] = {"protocol": NoiseProtocol.of("Noise_NNpsk2_25519_ChaChaPoly_SHA256"), "psks": PSKS[:1]}
    ann = HandshakeState(**{**common, **mine}, initiator=True)
    bob = HandshakeState(**{**common, **other}, initiator=False)
    with pytest.raises(DecryptError):
        exchange(ann, bob, [b"", b""])


@pytest.mark.parametrize(
    ("field", "name", "settings"),
    [
        ("static_key", "XX", {}),
        ("static_key", "XX", {"static": KeyPair.generate("448")}),
        ("remote_key", "NK", {}),
        ("remote_key", "NN", {"remote_static": BOB.public}),
        ("remote_key", "NK", {"remote_static": BOB.public[1:]}),
        ("psks", "NNpsk0", {}),
        ("psks", "NN", {"psks": PSKS[:1]}),
        ("psks", "NNpsk0", {"psks": [b"short"]}),
    ],
)
def test_a_wrong_key_is_named(field: str, name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        HandshakeState(NoiseProtocol.of(f"Noise_{name}_25519_AESGCM_SHA256"), initiator=True, **settings)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name",
    [
        "", "Noise", "Noise_XX", "Noise_XX_25519_AESGCM", "Noise_XX_25519_AESGCM_SHA256_",
        "noise_XX_25519_AESGCM_SHA256",
        "Noise_XX_25519_AESGCM_SHA1", "Noise_XX_P256_AESGCM_SHA256", "Noise_XX_25519_AES_SHA256",
        *(f"Noise_{bad}_25519_AESGCM_SHA256" for bad in ("N", "YY", "xx", "XXpsk", "XXpsk4", "XXpsk1+psk1")),
        "Noise_XXpsk2+psk1_25519_AESGCM_SHA256",
        "Noise_XXfallback_25519_AESGCM_SHA256",
    ],
)  # fmt: skip
def test_an_unknown_protocol_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NoiseProtocol.of(name)
    assert caught.value.field == "protocol"


def test_psk4_is_the_end_of_the_fourth_message() -> None:
    assert pattern("X1Npsk4").messages[-1] == ("se", "psk")
    assert pattern("X1Npsk0").messages[0] == ("psk", "e")


@pytest.mark.parametrize("name", CIPHERS)
def test_the_last_nonce_is_never_used(name: str) -> None:
    cipher = CipherState(CIPHERS[name], bytes(32))
    cipher.nonce = LAST_NONCE - 1
    cipher.encrypt(b"", b"the last")
    for use in (
        lambda: cipher.encrypt(b"", b""),
        lambda: cipher.decrypt(b"", bytes(16)),
        lambda: cipher.encrypt_into(b"", memoryview(bytearray(16))),
        lambda: cipher.decrypt_into(memoryview(bytes(16)), memoryview(bytearray())),
        lambda: NoiseEncoder(LengthDelimited(), cipher).encode([b"x"]),
    ):
        with pytest.raises(NonceExhaustedError):
            use()
    assert cipher.nonce == LAST_NONCE


def test_rekeying_replaces_the_key_and_keeps_the_nonce() -> None:
    one, other = (CipherState(CIPHERS["ChaChaPoly"], bytes(32)) for _ in range(2))
    one.encrypt(b"", b"")
    one.rekey()
    other.nonce = one.nonce
    assert one.encrypt(b"", b"x") != other.encrypt(b"", b"x")
    other.nonce = 1
    other.rekey()
    one.nonce = 1
    assert one.encrypt(b"", b"x") == other.encrypt(b"", b"x")
    with pytest.raises(UsageError):
        CipherState(CIPHERS["ChaChaPoly"]).rekey()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"protocol": "Noise_XX_25519_AESGCM_SHA1"}, "expected one of SHA256, SHA512, BLAKE2s, BLAKE2b"),
        ({"protocol": None}, "expected a str, got NoneType"),
        ({"static_key": None}, "XX_25519_ChaChaPoly_SHA256 needs a key pair, got None"),
        ({"static_key": bytes(32)}, "expected a KeyPair, got bytes"),
        ({"static_key": KeyPair.generate("448")}, "needs a key on curve 25519, got 448"),
        ({"remote_key": b"x"}, "a public key of curve 25519 has 32 bytes, got 1"),
        ({"remote_key": BOB.public.hex()}, "must be bytes, got str"),
        ({"psks": PSKS[0]}, "expected a tuple of bytes"),
        ({"psks": ("x" * 32,)}, "expected a tuple of bytes"),
        ({"psks": PSKS[:1]}, "needs 0 pre-shared keys, got 1"),
        ({"psks": (), "protocol": "Noise_XXpsk0+psk3_25519_AESGCM_SHA256"}, "needs 2 pre-shared keys, got 0"),
        ({"psks": (b"short",), "protocol": "Noise_XXpsk3_25519_AESGCM_SHA256"}, "has 32 bytes, got 5"),
        ({"prologue": "text"}, "expected bytes, got str"),
        ({"allowed": b"x"}, "expected a collection of public keys"),
        ({"allowed": 1}, "expected a collection of public keys"),
        ({"allowed": [BOB.public, b"x"]}, "a public key of curve 25519 has 32 bytes, got 1"),
        ({"allowed": {BOB.public.hex()}}, "must be bytes, got str"),
        ({"rekey_after": 0}, "expected an integer >= 1, or None, got 0"),
        ({"rekey_after": True}, "expected an integer >= 1, or None, got True"),
        ({"confirm": 1}, "expected True or False, got 1"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name(bad: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        NoiseConfig(**{"static_key": ANN, **bad})
    assert caught.value.field == next(iter(bad))


NN, NK, IK, KK, KN = (f"Noise_{name}_25519_AESGCM_SHA256" for name in ("NN", "NK", "IK", "KK", "KN"))


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("static_key", {"protocol": IK, "remote_key": BOB.public}),
        ("static_key", {"protocol": NN, "static_key": ANN}),
        ("remote_key", {"protocol": KK, "static_key": ANN}),
        ("remote_key", {"protocol": NN, "remote_key": BOB.public}),
        ("allowed", {"protocol": NN, "allowed": {BOB.public}}),
    ],
)
def test_settings_that_fit_the_pattern_in_neither_role_are_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        NoiseConfig(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "settings", "initiator"),
    [
        ("static_key", {"protocol": NK}, False),
        ("remote_key", {"protocol": NK, "static_key": BOB}, True),
        ("remote_key", {"protocol": IK, "static_key": ANN}, True),
        ("static_key", {"protocol": KN}, True),
        ("remote_key", {"protocol": KN, "static_key": ANN}, False),
        ("remote_key", {"protocol": NK, "static_key": BOB, "remote_key": ANN.public}, False),
        ("allowed", {"protocol": NK, "static_key": BOB, "allowed": [ANN.public]}, False),
    ],
)
def test_settings_that_do_not_fit_one_role_are_refused_in_that_role(
    field: str, settings: dict[str, Any], initiator: bool
) -> None:
    config = NoiseConfig(**settings)
    for begin in (config.check, config.begin):
        with pytest.raises(ConfigError) as caught:
            begin(initiator=initiator)
        assert caught.value.field == field


@given(patterns())
def test_settings_that_are_complete_are_accepted_in_both_roles(name: str) -> None:
    for initiator in (True, False):
        config_for(name, initiator=initiator).check(initiator=initiator)


def test_no_key_is_shown() -> None:
    private = bytes(range(32))
    pair = KeyPair.from_private(private)
    config = NoiseConfig(static_key=pair, remote_key=EVE.public, allowed=[EVE.public], prologue=b"p")
    psk_config = NoiseConfig(protocol="Noise_NNpsk0_25519_AESGCM_SHA256", psks=(private,))
    ann, bob = states("XX")
    exchange(ann, bob, [b"", b"", b""])
    session = session_of(ann)
    coders = session.encoder(LengthDelimited()), session.decoder(LengthDelimited())
    shown = "".join(map(repr, (pair, config, psk_config, ann, ann._symmetric, ann.split(), session, *coders)))
    for secret in (private, pair.public, EVE.public, ANN.public, BOB.public, ann.handshake_hash):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown
    assert "25519" in shown and "Noise_XX" in shown
    with pytest.raises(TypeError):
        pickle.dumps(pair)


def test_a_key_pair_of_the_wrong_size_or_curve_is_refused() -> None:
    for private, curve in ((b"short", "25519"), (bytes(32), "448"), (bytes(32), "P-256")):
        with pytest.raises(ConfigError):
            KeyPair.from_private(private, curve)


