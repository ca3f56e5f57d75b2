"""Whether a file can be an ONNX model, told from its outline: a large file that is none is never read into memory.

An ONNX file is one protobuf message: fields one after the other, each a tag and a value whose end is known before it
is read. Walking from field to field, past the values, costs a few bytes of reading for each node and each tensor.
"""

import io
import os
from pathlib import Path
from typing import IO

from weights_sync.errors import DamagedModelError

CUT_SHORT = "the file is no complete ONNX model: it is cut short, damaged or of another format"
_GRAPH = 7
"""Number of `ModelProto.graph` (onnx.proto3)."""
_MOST_FIELDS = 200_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


def check_outline(path: Path) -> None:
    """Refuse a file whose fields do not end where it ends, or whose graph's fields do not end where that ends."""
    with path.open("rb", buffering=io.DEFAULT_BUFFER_SIZE) as file:
        size = os.fstat(file.fileno()).st_size
        graphs = _walk(file, 0, size, _GRAPH)
        for begin, end in graphs:
            _walk(file, begin, end, 0)


def _walk(file: IO[bytes], begin: int, end: int, wanted: int) -> list[tuple[int, int]]:
    """Go from field to field of a message; return where the fields with the number `wanted` begin and end."""
    file.seek(begin)
    at = begin
    found: list[tuple[int, int]] = []
    for _ in range(_MOST_FIELDS):
        if at == end:
            return found
        tag = _varint(file)
        kind, at = tag & 7, file.tell()
        if kind == _VARINT:
            _varint(file)
            at = file.tell()
        elif kind == _BYTES:
            length = _varint(file)
            at = file.tell() + length
            if tag >> 3 == wanted:
                found.append((file.tell(), at))
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise DamagedModelError(CUT_SHORT)
        if not tag >> 3 or at > end:
            raise DamagedModelError(CUT_SHORT)
        file.seek(at)
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
