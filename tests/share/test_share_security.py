"""Noise and TLS: files are transferred over either, and only to peers that are accepted."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pea2pea import Addr
from pea2pea.noise import NoiseError, load_or_make_key
from pea2pea.share.asker import Asker
from pea2pea.share.errors import PeerFaultError, ShareError
from pea2pea.share.jobs import Limits
from pea2pea.share.link import Link
from pea2pea.share.mode import Mode
from pea2pea.share.security import NoiseSeal, Security, crowd_security, keys_for
from pea2pea.share.tree import Target
from pea2pea.share.wire import HELLO_SIZE, PREAMBLE_SIZE, Bitmap, Hello, Wire
from pea2pea.tls.certificates import load_identity
from support.cli_process import running
from support.noise import sessions
from support.share import Notes, Printed, any_line, get, make_file, same, share

pytestmark = pytest.mark.loop("tcp")

KEY = "ab" * 32
ROOT = bytes(32)
LIMITS = Limits(security=Security(mode=Mode.NOISE), give_up=5.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 5.5)


async def transfer(file: Path, sharer: Security, getter: Security) -> tuple[Notes, Notes]:
    printed, shown, notes = Printed(), Notes(), Notes()
    async with running(share(file, Limits(security=sharer), shown, printed), printed) as link:
        copy = file.with_name("copy")
        await get([link], copy, Limits(security=getter, give_up=5.0), notes, Printed())
    assert same(file, copy)
    return shown, notes


async def refusal(file: Path, sharer: Security, getter: Security) -> str:
    with pytest.raises(ShareError) as caught:
        await transfer(file, sharer, getter)
    assert not file.with_name("copy").exists()
    return str(caught.value)


async def test_a_file_goes_over_noise(file: Path, tmp_path: Path) -> None:
    shown, _ = await transfer(file, Security(mode=Mode.NOISE, key=tmp_path / "key"), Security(mode=Mode.NOISE))
    assert shown.lines[0] == f"this node's key is {load_or_make_key(tmp_path / 'key').public.hex()}"


async def test_over_noise_only_allowed_peers_get_the_file(file: Path, tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("ann", "bob")]
    ann, bob = (load_or_make_key(key).public.hex() for key in keys)
    welcome = Security(mode=Mode.NOISE, key=keys[0], allow=(bob,))
    said = await refusal(file, welcome, Security(mode=Mode.NOISE))
    assert "it may accept only certain keys" in said
    said = await refusal(file, welcome, Security(mode=Mode.NOISE, key=keys[1], allow=(bob,)))
    assert "not on the allow-list" in said
    await transfer(file, welcome, Security(mode=Mode.NOISE, key=keys[1], allow=(ann,)))


async def test_over_tls_only_trusted_peers_get_the_file(file: Path, tmp_path: Path) -> None:
    ann, bob, eve = crowd_security(tmp_path, 3, Mode.TLS)
    await transfer(file, ann, bob)
    file.with_name("copy").unlink()
    assert ann.cert is not None and eve.cert is not None
    only = Security(mode=Mode.TLS, cert=ann.cert, ca=ann.ca, allow=(load_identity(ann.cert).node_id,))
    assert "cannot reach" in await refusal(file, only, bob)
    stranger = Security(mode=Mode.TLS, cert=tmp_path / "stranger", ca=ann.ca)
    told = await refusal(file, ann, stranger)
    assert "the sharer has to add --ca FILE with it" in told
    trusting_itself = Security(mode=Mode.TLS, cert=bob.cert)
    told = await refusal(file, ann, trusting_itself)
    assert "add --ca FILE with its certificate, or use the same --cert on both sides" in told


async def test_one_certificate_can_be_shared_by_all(file: Path, tmp_path: Path) -> None:
    mesh = Security(mode=Mode.TLS, cert=tmp_path / "mesh.pem")
    shown, notes = await transfer(file, mesh, mesh)
    assert shown.lines[0] == f"this node's id is {load_identity(tmp_path / 'mesh.pem').node_id}"
    assert not any_line(notes.lines, "this node's id")


#: What a user is told who gets a file shared in one way (the first) as if it were shared in another (the second).
TOLD = {
    (Mode.PLAIN, Mode.NOISE): "it is shared without encryption: leave out --noise",
    (Mode.PLAIN, Mode.TLS): "it is not shared with TLS: leave out --tls",
    (Mode.NOISE, Mode.PLAIN): "it is shared with Noise: add --noise, or use its link",
    (Mode.NOISE, Mode.TLS): "it is not shared with TLS: leave out --tls",
    (Mode.TLS, Mode.PLAIN): "shared with TLS.*add --tls --cert FILE",
    (Mode.TLS, Mode.NOISE): "shared with TLS.*add --tls --cert FILE",
}


@pytest.mark.expects_errors
@pytest.mark.parametrize(("sharer", "getter"), TOLD)
async def test_another_mode_is_reported_at_once_with_what_to_add(
    file: Path, tmp_path: Path, sharer: Mode, getter: Mode
) -> None:
    def security(mode: Mode) -> Security:
        return Security(mode=mode, cert=tmp_path / "mesh.pem" if mode is Mode.TLS else None)

    began = asyncio.get_running_loop().time()
    printed, address = Printed(), ""
    async with running(share(file, Limits(security=security(sharer)), Notes(), printed), printed) as link:
        address = str(Link.parse(link).addr)
        with pytest.raises(ShareError) as caught:
            await get([address], file.with_name("copy"), Limits(security=security(getter)), Notes(), Printed())
    assert re.fullmatch(f"cannot reach {address}: .*{TOLD[sharer, getter]}\\)?", str(caught.value))
    assert asyncio.get_running_loop().time() - began < 5, "not only when the handshake times out"
    assert not file.with_name("copy").exists()


@pytest.mark.expects_errors
async def test_another_protocol_is_reported_as_that(tmp_path: Path) -> None:
    for said, problem in (
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not answer as a sharer of pea2pea would"),
        (b"pea2pea\x01whatever", "another version"),
        (b"", "closed the connection"),
    ):
        async with await asyncio.start_server(partial(answer, said), "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            with pytest.raises(ShareError, match=problem):
                await get([f"{host}:{port}"], tmp_path / "copy", LIMITS, Notes(), Printed())


async def test_an_address_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "handshake_timeout", 0.1)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ShareError, match="it accepted the connection but did not answer"):
            await get([f"{host}:{port}"], tmp_path / "copy", Limits(), Notes(), Printed())


async def answer(said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(PREAMBLE_SIZE)
    writer.write(said)
    writer.close()


async def test_a_link_is_enough_for_noise_and_names_the_key(file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    printed = Printed()
    limits = Limits(security=Security(mode=Mode.NOISE, key=key))
    async with running(share(file, limits, Notes(), printed), printed) as link:
        assert Link.parse(link).key == load_or_make_key(key).public
        await get([link], file.with_name("copy"), LIMITS, Notes(), Printed())
    assert same(file, file.with_name("copy"))


@pytest.mark.expects_errors
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_sharer_without_the_key_in_the_link_gets_nothing(file: Path, host: str) -> None:
    """Whoever answers at the address of a link has to prove the key that the link names."""
    printed = Printed()
    async with running(share(file, LIMITS, Notes(), printed), printed) as link:
        honest = Link.parse(link)
        forged = replace(honest, addr=Addr(host, honest.addr.port), key=bytes(range(32)))
        with pytest.raises(ShareError, match="its key is not the one in the link"):
            await get([str(forged)], file.with_name("copy"), LIMITS, Notes(), Printed())
        assert not file.with_name("copy").exists()


def test_the_key_expected_from_each_address() -> None:
    def link(host: str, port: int, key: bytes | None) -> Link:
        return Link(Addr(host, port), ROOT, Mode.NOISE, key)

    ip, name, bare = link("10.0.0.1", 1, b"a"), link("example.org", 2, b"b"), link("10.0.0.3", 3, None)
    links = [ip, name, bare]
    assert keys_for(Addr("10.0.0.1", 1), links) == frozenset([b"a"])
    assert keys_for(Addr("10.0.0.9", 2), links) == frozenset([b"b"])
    assert keys_for(Addr("10.0.0.3", 3), links) is None
    assert keys_for(Addr("10.0.0.9", 9), links) is None
    assert keys_for(Addr("10.0.0.9", 2), [name, link("example.net", 2, b"c")]) == frozenset([b"b", b"c"])


async def test_a_key_made_for_one_run_is_not_reported(file: Path) -> None:
    shown, notes = await transfer(file, Security(mode=Mode.NOISE), Security(mode=Mode.NOISE))
    assert not any_line(shown.lines + notes.lines, "this node's key")


async def test_a_hello_is_read_however_it_is_split_into_noise_messages() -> None:
    """What follows in the same message is the first that is decoded."""
    hello, wire = Hello(Target(1000, bytes(32))), Wire(Target(1000, bytes(32)))
    said = hello.encode() + b"".join(map(bytes, wire.encode([Bitmap(1)])))
    for cut in (len(said), HELLO_SIZE, 1, HELLO_SIZE + 1):
        (ann, session), reader = sessions(), asyncio.StreamReader()
        bob = NoiseSeal(session)
        reader.feed_data(ann.seal(said[:cut]) + ann.seal(said[cut:]))
        assert await bob.read(reader) == hello
        reader.feed_eof()
        assert bob.decoder(wire).decode(memoryview(await reader.read()))[0] == [Bitmap(1)]


async def test_a_peer_that_sends_something_else_than_a_hello_is_refused() -> None:
    ann, bob = (NoiseSeal(session) for session in sessions())
    reader = asyncio.StreamReader()
    hello = Hello(Target(1000, bytes(32)))
    reader.feed_data(ann.seal(hello))
    assert await bob.read(reader) == hello
    reader.feed_data(b"".join(ann.encoder(Wire(Target(1000, bytes(32)))).encode([Bitmap(1)])) * 9)
    with pytest.raises(NoiseError):  # the same message again
        await bob.read(reader)
    for said, problem in ((b"\xff" * HELLO_SIZE, PeerFaultError), (b"pea2pea", ConnectionError)):
        (one, other), reader = sessions(), asyncio.StreamReader()
        reader.feed_data(one.seal(said))
        reader.feed_eof()
        with pytest.raises(problem):
            await NoiseSeal(other).read(reader)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key": Path("x")}, "--noise or --tls"),
        ({"allow": (KEY,)}, "--noise or --tls"),
        ({"cert": Path("x")}, "need --tls"),
        ({"mode": Mode.NOISE, "ca": (Path("x"),)}, "need --tls"),
        ({"mode": Mode.TLS}, "needs --cert"),
        ({"mode": Mode.NOISE, "allow": ("ab",)}, "64 hexadecimal digits"),
        ({"mode": Mode.NOISE, "allow": ("zz" * 32,)}, "64 hexadecimal digits"),
    ],
)
def test_fields_that_exclude_each_other(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ShareError, match=problem):
        Security(**options)  # type: ignore[arg-type]


def test_a_security_goes_through_json() -> None:
    for asked in (
        Security(),
        Security(mode=Mode.NOISE, key=Path("k"), allow=(KEY,)),
        Security(mode=Mode.TLS, key=Path("k"), cert=Path("c"), ca=(Path("a"), Path("b"))),
    ):
        assert Security.of_dict(json.loads(json.dumps(asked.to_dict()))) == asked
