"""Inference messages as a small protobuf message and the raw tensors beside it.

Parsing a message with protobuf copies its raw tensors twice, building one copies them twice more. Here the tensors
are views into the received bytes, and are copied once into the sent ones. Format: protobuf's wire encoding, in which
a message is a sequence of (tag, value) and a `bytes` value is its length as a varint and its bytes.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from servekit.errors import InvalidRequest
from servekit.rpc.messages import ModelInferRequest, ModelInferResponse

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# No request has more tensors and parameters; a field takes two bytes to send and a thousand times that to hold.
_MAX_FIELDS: Final = 10_000
_RAW_FIELD: Final = {ModelInferRequest: 7, ModelInferResponse: 6}


def parse(message_type: Any, data: bytes) -> tuple[Any, list[memoryview]]:
    """Return the message in `data` without its raw contents, and views of those, in order.

    Raises:
        InvalidRequest: `data` is no such message.

    """
    view = memoryview(data)
    try:
        rest, raw = _split(view, _RAW_FIELD[message_type])
        return message_type.FromString(rest), raw
    except (DecodeError, IndexError) as error:
        raise InvalidRequest(f"the bytes are no {message_type.DESCRIPTOR.name} message") from error


def serialise(message: Any, raw: list[bytes | memoryview]) -> bytes:
    """Return the bytes of the message with `raw` as its raw contents."""
    tag = bytes([_RAW_FIELD[type(message)] << 3 | _LENGTH])
    parts: list[bytes | memoryview] = [message.SerializeToString()]
    for buffer in raw:
        parts += (tag, _encode_varint(len(buffer)), buffer)
    return b"".join(parts)


def _split(view: memoryview, raw_field: int) -> tuple[bytes, list[memoryview]]:
    raw: list[memoryview] = []
    kept: list[memoryview] = []
    offset = 0
    while offset < len(view):
        if len(raw) + len(kept) == _MAX_FIELDS:
            raise InvalidRequest(f"the message has more than {_MAX_FIELDS} fields")
        begin = offset
        tag, offset = _decode_varint(view, offset)
        field, kind = tag >> 3, tag & 7
        length = 0
        if kind == _VARINT:
            _, offset = _decode_varint(view, offset)
        elif kind == _LENGTH:
            length, offset = _decode_varint(view, offset)
        elif kind in {_FIXED64, _FIXED32}:
            length = 8 if kind == _FIXED64 else 4
        else:
            raise IndexError
        end = offset + length
        if end > len(view):
            raise IndexError
        if field == raw_field and kind == _LENGTH:
            raw.append(view[offset:end])
        else:
            kept.append(view[begin:end])
        offset = end
    return b"".join(kept), raw


def _decode_varint(view: memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise IndexError


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
