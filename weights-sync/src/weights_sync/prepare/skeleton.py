"""A model's file, read without its weights, and written again with them."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from onnx import ModelProto, TensorProto

from weights_sync.prepare.checks import MAX_BYTES, START, check_size, check_start, parse_message, tensors
from weights_sync.prepare.external import note_external
from weights_sync.prepare.notes import LARGE, MARK_BYTES, Note, check_note, find_note, load, reading, stamp_of
from weights_sync.prepare.wire import Field, Part, Span, rewritten

_AS_RAW = {
    TensorProto.RAW_DATA_FIELD_NUMBER,
    TensorProto.FLOAT_DATA_FIELD_NUMBER,
    TensorProto.DOUBLE_DATA_FIELD_NUMBER,
}
"""Fields of a tensor that hold bytes as raw data are: packed floats and doubles do."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model that was read from a file."""

    model: ModelProto
    """With notes of where its large tensors' bytes are (`notes`)."""
    file: Note
    """All of the file."""
    beside: tuple[Path, ...]
    """The files that hold weights of it beside that."""

    def digest(self, known: str = "") -> str:
        """Return the sha256 (hex) of all the files; `known` is that of the model's own, where somebody has it.

        The weights' digest has to change with the weights, wherever they are.
        """
        if known and not self.beside:
            return known
        digest = hashlib.sha256()
        for file in (self.file.file, *self.beside):
            with reading(file), file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
        return digest.hexdigest()


def read_skeleton(path: Path, max_bytes: int = MAX_BYTES) -> Skeleton:
    """Read a file, and where its weights are in it or in files beside it; `max_bytes` is for all of them together."""
    with reading(path), path.open("rb") as stream:
        stamp = stamp_of(stream)
        size = stamp[1]
        check_size(size, max_bytes)
        check_start(stream.read(START))

        def noted(field: Field) -> bytes | None:
            if field.number not in _AS_RAW or len(field.value) < LARGE:
                return None
            return Note(path, field.value.begin, len(field.value), stamp).written()

        model = parse_message(b"".join(_bytes(stream, part) for part in rewritten(stream, size, LARGE, noted)))
    beside = note_external(model, path.parent, size, max_bytes)
    for tensor in model.graph.initializer:
        check_note(tensor)
    return Skeleton(model, Note(path, 0, size, stamp), beside)


def pieces(model: ModelProto) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a model's file, with those that its notes stand for; each holds until the next."""
    data = model.SerializeToString()
    stream = io.BytesIO(data)

    def whole(field: Field) -> Note | None:
        if field.number != TensorProto.RAW_DATA_FIELD_NUMBER:
            return None
        return find_note(data[field.value.begin : field.value.end])

    parts = rewritten(stream, len(data), MARK_BYTES, whole)
    check_size(sum(map(len, parts)))
    for part in parts:
        if isinstance(part, Note):
            yield from part.pieces()
        else:
            yield _bytes(stream, part)


def loaded(model: ModelProto) -> ModelProto:
    """Return a copy of a model that holds its weights itself."""
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in tensors(whole):
        load(tensor)
    return whole


def _bytes(stream: IO[bytes], part: Part) -> bytes:
    if isinstance(part, Span):
        stream.seek(part.begin)
        return stream.read(len(part))
    return part if isinstance(part, bytes) else b""
