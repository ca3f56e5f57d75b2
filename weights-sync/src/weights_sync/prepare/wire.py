"""Protobuf's wire format, as far as going through a message without holding it needs it.

A message is fields one after the other, each a tag and a value whose end is known before it is read
(protobuf.dev, "Encoding"). Walking past the values costs a few bytes of reading for each field.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from onnx import GraphProto, ModelProto, TensorProto

from weights_sync.errors import DamagedModelError
from weights_sync.prepare.notes import Note

CUT_SHORT = "the file is no complete ONNX model: it is cut short, damaged or of another format"
RAW_DATA = TensorProto.RAW_DATA_FIELD_NUMBER

_NESTED = (ModelProto.GRAPH_FIELD_NUMBER, GraphProto.INITIALIZER_FIELD_NUMBER)
"""Numbers of the fields that lead from a model to its tensors; those of nodes and nested graphs are left alone."""
_MOST_FIELDS = 200_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the file that is gone through, from `begin` to `end`."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, by positions in the file."""

    number: int
    start: int
    """Where its tag begins."""
    value: Span
    holds_bytes: bool
    """Whether the value is a text, bytes, a message or packed numbers."""


Part = bytes | Span | Note
"""What a message is put together from."""
Replacement = Callable[[Field], Part | None]
"""From a field of a tensor to what stands for its raw data, None to leave the field as it is."""


def rewritten(file: IO[bytes], size: int, least: int, replacement: Replacement) -> list[Part]:
    """Return the model in the first `size` bytes of a file, with other raw data in some of its initializers.

    Messages of fewer than `least` bytes are not looked into. Fields that do not end where their message ends raise
    `DamagedModelError`.
    """
    return _rewritten(file, Span(0, size), _NESTED, least, replacement)


def _rewritten(
    file: IO[bytes], whole: Span, nested: tuple[int, ...], least: int, replacement: Replacement
) -> list[Part]:
    """Rewrite one message; `nested` are the numbers of the fields that lead from it to its tensors."""
    parts: list[Part] = []
    kept = whole.begin
    for field in _fields(file, whole):
        if not field.holds_bytes or len(field.value) < least:
            continue
        number, found = field.number, list[Part]()
        if nested[:1] == (number,):
            found = _rewritten(file, field.value, nested[1:], least, replacement)
        elif not nested and (stands_in := replacement(field)) is not None:
            number, found = RAW_DATA, [stands_in]
        if found and found != [field.value]:
            header = _varint_of(number << 3 | _BYTES) + _varint_of(sum(map(len, found)))
            parts += [Span(kept, field.start), header, *found]
            kept = field.value.end
    return [*parts, Span(kept, whole.end)]


def _fields(file: IO[bytes], whole: Span) -> Iterator[Field]:
    """Go from field to field of a message, wherever the file is read in between."""
    at = whole.begin
    for _ in range(_MOST_FIELDS):
        if at == whole.end:
            return
        start = file.seek(at)
        tag = _varint(file)
        kind = tag & 7
        if kind == _VARINT:
            _varint(file)
            value = Span(file.tell(), file.tell())
        elif kind == _BYTES:
            length = _varint(file)
            value = Span(file.tell(), file.tell() + length)
        elif kind in _WIDTHS:
            value = Span(file.tell(), file.tell() + _WIDTHS[kind])
        else:
            raise DamagedModelError(CUT_SHORT)
        at = value.end
        if not tag >> 3 or at > whole.end:
            raise DamagedModelError(CUT_SHORT)
        yield Field(tag >> 3, start, value, kind == _BYTES)
    raise DamagedModelError(CUT_SHORT)


def _varint(file: IO[bytes]) -> int:
    """Read an integer of at most 64 bits, seven in each byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise DamagedModelError(CUT_SHORT)


def _varint_of(value: int) -> bytes:
    """Write an integer, as `_varint` reads it."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
