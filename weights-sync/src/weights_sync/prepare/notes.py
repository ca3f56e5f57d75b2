"""Notes: what a tensor holds in place of bytes that stay in a file until they are wanted.

A model of a gigabyte is a graph of a few hundred kilobytes and weights that preparing does not look at. Those wait on
the disk; in `raw_data` stands a note of where. To all but this module a note is the bytes of a tensor like any other.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from weights_sync.errors import DamagedModelError, SourceError

_MARK = secrets.token_bytes(16)
"""What notes of this process begin with. Nobody who makes a model knows it, so none in a file passes for one."""
MARK_BYTES = len(_MARK)
LARGE = 1 << 16
"""Bytes of a tensor that are left in the file. What surgery reads is smaller, but for tables of a grid's cells."""
_PIECE = 1 << 20
_ITEM_BYTES = {
    kind: np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    for kind in range(TensorProto.FLOAT, TensorProto.BFLOAT16 + 1)
    if kind != TensorProto.STRING
}
"""By element type, for those whose numbers are whole bytes: later ones may be packed."""
_DATA = [
    TensorProto.DESCRIPTOR.fields_by_name[f"{kind}_data"]
    for kind in ("float", "double", "int32", "int64", "uint64", "string")
]


@dataclass(frozen=True, slots=True)
class Note:
    """Bytes of a file, as long as the file stays as it is."""

    file: Path
    begin: int
    length: int
    """Bytes."""
    stamp: tuple[int, int, int]
    """What the system says of the file, by which a change shows."""

    def __len__(self) -> int:
        return self.length

    def written(self) -> bytes:
        """Return the note as a tensor's raw data."""
        return _MARK + json.dumps([str(self.file), self.begin, self.length, self.stamp]).encode()

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes; each piece holds until the next is asked for."""
        piece = memoryview(bytearray(min(_PIECE, self.length)))
        with reading(self.file), self.file.open("rb", buffering=0) as stream:
            stream.seek(self.begin)
            left = self.length
            while left:
                count = stream.readinto(piece[: min(left, _PIECE)])
                if not count or stamp_of(stream) != self.stamp:
                    raise SourceError(f"{self.file.name} changed while it was read: try again")
                left -= count
                yield piece[:count]


def stamp_of(stream: IO[bytes]) -> tuple[int, int, int]:
    """Return which file is open, its size in bytes, and when it was last written."""
    found = os.fstat(stream.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def find_note(raw_data: bytes) -> Note | None:
    """Return the note that raw data are, if they are one."""
    if not raw_data.startswith(_MARK):
        return None
    name, begin, length, stamp = json.loads(raw_data[MARK_BYTES:])
    return Note(Path(name), begin, length, tuple(stamp))


def load(tensor: TensorProto) -> None:
    """Give a tensor its bytes in place of a note of them."""
    note = find_note(tensor.raw_data)
    if note:
        tensor.raw_data = b"".join(map(bytes, note.pieces()))


def array_of(tensor: TensorProto) -> npt.NDArray[Any]:
    """Return a tensor's numbers, from wherever they are; the tensor stays as it is."""
    if find_note(tensor.raw_data):
        whole = TensorProto()
        whole.CopyFrom(tensor)
        load(whole)
        tensor = whole
    return numpy_helper.to_array(tensor)


def check_note(tensor: TensorProto) -> None:
    """Refuse a tensor that a note gives more or fewer bytes than its shape wants, or that has numbers besides.

    Of a type that is not known here the bytes are loaded, for ONNX's own checker to judge.
    """
    note = find_note(tensor.raw_data)
    item = _ITEM_BYTES.get(tensor.data_type)
    if note is None:
        return
    if item is None:
        load(tensor)
    elif note.length != math.prod(tensor.dims) * item or any(field in _DATA for field, _ in tensor.ListFields()):
        raise DamagedModelError(
            f"the model is damaged: its tensor {tensor.name[:60]!r} {list(tensor.dims)} holds {note.length} bytes"
        )


def described(model: ModelProto) -> ModelProto:
    """Return a copy of a model without the tensors that are notes, which are inputs of their types and shapes.

    For ONNX's checker, which counts bytes.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    held = [tensor for tensor in graph.initializer if not find_note(tensor.raw_data)]
    noted = [tensor for tensor in model.graph.initializer if find_note(tensor.raw_data)]
    known = {value.name for value in graph.input}
    del graph.initializer[:]
    graph.initializer.extend(held)
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in noted
        if tensor.name not in known
    )
    return bare


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Name the file in what the system says against reading it."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"can not read {file.name}: {error.strerror or error}") from error
