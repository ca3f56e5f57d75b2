"""MindSpore's `.ckpt`: a protobuf of named tensors, read without MindSpore.

`Checkpoint {repeated Value value = 1}`, `Value {string tag = 1; TensorProto tensor = 2}`,
`TensorProto {repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3}`.
"""

import binascii
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from weights_sync.errors import DamagedModelError, UnsupportedModelError

Array = npt.NDArray[np.generic]

TYPES = {
    "Float16": "<f2",
    "Float32": "<f4",
    "Float64": "<f8",
    "BFloat16": "<u2",
    "Int8": "<i1",
    "Int16": "<i2",
    "Int32": "<i4",
    "Int64": "<i8",
    "UInt8": "<u1",
    "UInt16": "<u2",
    "UInt32": "<u4",
    "UInt64": "<u8",
    "Bool": "?",
}
CRC_TAG = b"crc_num"
CRC_BYTES = len(CRC_TAG) + 10
MAX_RANK, MAX_ITEMS = 8, 1 << 31

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NO_CHECKPOINT = (
    (b"version https://git-lfs", "the file is a git-lfs pointer, not the weights: fetch them with `git lfs pull`"),
    (b"<", "the file is an HTML or XML page, not a checkpoint: check the link it was downloaded from"),
    (b"PK\x03\x04", "the file is a zip archive (a PyTorch checkpoint?), not a MindSpore checkpoint"),
    (b"\x1f\x8b", "the file is compressed with gzip: unpack it first"),
    (b"{", "the file is JSON text, not a checkpoint"),
    # MindSpore's ciphers each have a number of their own; which end comes first depends on the writer.
    *(
        (number.to_bytes(4, order), "the checkpoint is encrypted: save it without `enc_key`")
        for number in (0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA)
        for order in ("little", "big")
    ),
)


def read_checkpoint(data: bytes) -> dict[str, Array]:
    """Return every numeric tensor of a checkpoint by its name, in the file's order; optimizer state included.

    Tensors that were written in slices are whole. BFloat16 becomes float32. The arrays may be views of `data`.
    """
    if not data:
        raise DamagedModelError("the file is empty")
    for magic, reason in _NO_CHECKPOINT:
        if data.startswith(magic):
            raise DamagedModelError(reason)
    if data[8:10] == b'{"':
        raise UnsupportedModelError("the checkpoint is in the safetensors format: save it with format='ckpt'")
    dims: dict[str, tuple[int, ...]] = {}
    types: dict[str, str] = {}
    slices: dict[str, list[memoryview]] = {}
    try:
        for tag, shape, kind, content in _values(_without_crc(data)):
            dims[tag], types[tag] = shape, kind
            slices.setdefault(tag, []).append(content)
    except (IndexError, ValueError) as error:
        raise DamagedModelError(
            "the file is no complete MindSpore checkpoint: it is cut short, damaged, encrypted or of another format"
        ) from error
    return {tag: _array(tag, dims[tag], types[tag], parts) for tag, parts in slices.items() if types[tag] != "str"}


def _without_crc(data: bytes) -> memoryview:
    """Return the message, without the checksum that `crc_check=True` writes behind it."""
    view = memoryview(data)
    if data[-CRC_BYTES:][: len(CRC_TAG)] != CRC_TAG:
        return view
    message = view[:-CRC_BYTES]
    if binascii.crc32(message) != int.from_bytes(data[-CRC_BYTES + len(CRC_TAG) :], "big"):
        raise DamagedModelError("the checkpoint is damaged: its checksum is that of other bytes")
    return message


def _values(message: memoryview) -> Iterator[tuple[str, tuple[int, ...], str, memoryview]]:
    """Yield name, dims, element type and content of every stored value, those of one tensor in order."""
    for number, value in _fields(message):
        if number != 1 or isinstance(value, int):
            raise ValueError(number)
        tag, tensor = "", None
        for part, inner in _fields(value):
            if part == 1 and not isinstance(inner, int):
                tag = str(inner, "utf-8")
            elif part == 2 and not isinstance(inner, int):
                tensor = inner
        # A value without a tensor is a MapTensor, which no YOLO has.
        if tensor is not None:
            yield (tag, *_tensor(tensor))


def _tensor(message: memoryview) -> tuple[tuple[int, ...], str, memoryview]:
    dims: list[int] = []
    kind, content = "", memoryview(b"")
    for number, value in _fields(message):
        if number == 1:
            dims.extend([value] if isinstance(value, int) else _packed(value))
        elif number == 2 and not isinstance(value, int):
            kind = str(value, "utf-8")
        elif number == 3 and not isinstance(value, int):
            content = value
    if len(dims) > MAX_RANK:
        raise ValueError(dims)
    return tuple(dims), kind, content


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield a protobuf message's fields: their numbers, and their numbers or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            length, at = _varint(message, at)
        if at + length > len(message) or not (length or wire == _BYTES):
            raise ValueError(wire)
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    number = shift = 0
    while shift < 64:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError(number)


def _packed(message: memoryview) -> Iterator[int]:
    at = 0
    while at < len(message):
        number, at = _varint(message, at)
        yield number


def _array(tag: str, dims: tuple[int, ...], kind: str, parts: list[memoryview]) -> Array:
    if kind not in TYPES:
        raise UnsupportedModelError(f"the checkpoint's {tag[:80]!r} is of type {kind[:40]!r}, which is not read")
    dtype = np.dtype(TYPES[kind])
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    # MindSpore writes a number without dimensions as dims [0].
    shape = () if dims == (0,) and len(content) == dtype.itemsize else dims
    if math.prod(filter(None, shape)) > MAX_ITEMS or math.prod(shape) * dtype.itemsize != len(content):
        raise DamagedModelError(f"the checkpoint is damaged: {tag[:80]!r} {list(dims)} holds {len(content)} bytes")
    array: Array = np.frombuffer(content, dtype).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "BFloat16" else array
