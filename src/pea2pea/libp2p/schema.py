"""The protobuf messages of libp2p, built once from their fields by the ``protobuf`` library. Pure.

Field numbers are those of the specifications (peer-ids, noise, identify). They are written in the order of
their numbers, so that a key has one encoding.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from ..errors import DecodeError

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE: Final = "pea2pea.libp2p"

_BYTES: Final = (_Field.TYPE_BYTES, _Field.LABEL_OPTIONAL)
_TEXT: Final = (_Field.TYPE_STRING, _Field.LABEL_OPTIONAL)
_NUMBER: Final = (_Field.TYPE_UINT64, _Field.LABEL_OPTIONAL)
_MANY_BYTES: Final = (_Field.TYPE_BYTES, _Field.LABEL_REPEATED)
_MANY_TEXTS: Final = (_Field.TYPE_STRING, _Field.LABEL_REPEATED)

# A key's type is an enumeration on paper; as a number it has the same bytes, and a kind that is not known survives.
_MESSAGES: Final = {
    "PublicKey": {"type": (1, _NUMBER), "data": (2, _BYTES)},
    "PrivateKey": {"type": (1, _NUMBER), "data": (2, _BYTES)},
    "NoisePayload": {"identity_key": (1, _BYTES), "identity_sig": (2, _BYTES)},
    "Identify": {
        "public_key": (1, _BYTES),
        "listen_addrs": (2, _MANY_BYTES),
        "protocols": (3, _MANY_TEXTS),
        "observed_addr": (4, _BYTES),
        "protocol_version": (5, _TEXT),
        "agent_version": (6, _TEXT),
        "signed_peer_record": (8, _BYTES),
    },
}


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="pea2pea/libp2p.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, (kind, label)) in fields.items():
            message.field.add(name=field, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(found[name]) for name in _MESSAGES}


_CLASSES: Final = _build()


def encode(name: str, **fields: object) -> bytes:
    """Return the message ``name`` with these fields as bytes."""
    return _CLASSES[name](**fields).SerializeToString(deterministic=True)


def decode(name: str, data: bytes) -> Any:
    """Return the message ``name`` in ``data``. Raises :class:`DecodeError` where there is none."""
    try:
        return _CLASSES[name].FromString(data)
    except ProtobufError as error:
        raise DecodeError(f"{len(data)} bytes are no {name}") from error
