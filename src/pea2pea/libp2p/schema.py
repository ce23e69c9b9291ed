"""The protobuf messages of libp2p, defined at import with the ``protobuf`` library. Pure.

The field numbers come from the specifications (peer-ids, noise, identify). Fields are written in the order of their
numbers, so that each key has one encoding, and one peer id.
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

# The specification makes a key's type an enumeration. As an integer it has the same encoding, and protobuf does not
# discard a type that it does not know.
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
    """Return the message ``name`` with these fields, encoded."""
    return _CLASSES[name](**fields).SerializeToString(deterministic=True)


def decode(name: str, data: bytes) -> Any:
    """Return the message ``name`` decoded from ``data``. Raises :class:`DecodeError`."""
    try:
        return _CLASSES[name].FromString(data)
    except ProtobufError as error:
        raise DecodeError(f"expected a protobuf message {name}, got {len(data)} other bytes") from error
