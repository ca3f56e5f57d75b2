"""Named tensors of the Open Inference Protocol and their two encodings: raw bytes and JSON.

Formats: the protocol's tensor data section (row-major, little-endian; BYTES elements are a 4-byte little-endian
length and that many bytes) and its binary tensor data extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from servekit.errors import InvalidRequest

DATATYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_NAMES: Final = {dtype: name for name, dtype in DATATYPES.items()}
_MAX_DIMENSIONS: Final = 32  # numpy's own bound is 64; no tensor here has more than four
_MAX_ELEMENTS: Final = 1 << 40  # empty tensors included: numpy can't hold [0, 2**62] either


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array with a name; BYTES tensors are object arrays of `bytes`."""

    name: str
    array: npt.NDArray[Any]

    @property
    def datatype(self) -> str:
        """The protocol's name of the element type."""
        return _NAMES[self.array.dtype]

    @property
    def shape(self) -> list[int]:
        """The dimensions, as the protocol lists them."""
        return list(self.array.shape)


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Return the numpy type of a protocol datatype.

    Raises:
        InvalidRequest: the datatype is none of the protocol's.

    """
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise InvalidRequest(f"tensor '{name}': datatype '{datatype[:20]}' is not one of {', '.join(DATATYPES)}")
    return dtype


def check_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape as a tuple of ints >= 0.

    Raises:
        InvalidRequest: a dimension is no integer, negative or too large, or there are too many.

    """
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidRequest(f"tensor '{name}': {len(shape)} dimensions are too many")
    for dimension in shape:
        if not isinstance(dimension, int) or isinstance(dimension, bool) or dimension < 0:
            raise InvalidRequest(f"tensor '{name}': the shape must be a list of integers >= 0")
    if math.prod(max(1, dimension) for dimension in shape) > _MAX_ELEMENTS:
        raise InvalidRequest(f"tensor '{name}': the shape {list(shape)} is too large")
    return tuple(shape)


def from_raw(name: str, datatype: str, shape: Sequence[Any], buffer: memoryview | bytes) -> Tensor:
    """Return the tensor in `buffer` without copying it (BYTES elements are copied); the array is read-only.

    Raises:
        InvalidRequest: datatype, shape and number of bytes do not agree.

    """
    dtype, dimensions = dtype_of(name, datatype), check_shape(name, shape)
    count = math.prod(dimensions)
    if datatype == "BYTES":
        return Tensor(name, _objects(_split_elements(name, memoryview(buffer), count), dimensions))
    if count * dtype.itemsize != len(buffer):
        raise InvalidRequest(
            f"tensor '{name}': {datatype} of shape {list(dimensions)} takes {count * dtype.itemsize} bytes, "
            f"{len(buffer)} came"
        )
    return Tensor(name, np.frombuffer(buffer, dtype).reshape(dimensions))


def to_raw(array: npt.NDArray[Any]) -> memoryview | bytes:
    """Return the array's raw bytes, row-major and little-endian; a view where the memory already is so."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(element)) + element for element in array.flat)
    # A zero-sized array has no flat byte view.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def from_json(name: str, datatype: str, shape: Sequence[Any], data: object) -> Tensor:
    """Return the tensor whose elements are in `data`, a flat list or a nested one of even depth and lengths.

    Raises:
        InvalidRequest: an element does not fit the datatype, or their number does not fit the shape.

    """
    dtype, dimensions = dtype_of(name, datatype), check_shape(name, shape)
    if not isinstance(data, list):
        raise InvalidRequest(f"tensor '{name}': 'data' must be a list")
    elements = _flatten(name, data)
    # Looked at before numpy does: it would convert texts, and one long text among many would take all memory.
    if not set(map(type, elements)) <= _ELEMENT_TYPES[dtype.kind]:
        raise _misfit(name, datatype)
    if len(elements) != math.prod(dimensions):
        raise InvalidRequest(f"tensor '{name}': shape {list(dimensions)} does not hold {len(elements)} elements")
    if datatype == "BYTES":
        return Tensor(name, _objects([element.encode() for element in elements], dimensions))
    return Tensor(name, _numbers(name, datatype, dtype, elements).reshape(dimensions))


def to_json(array: npt.NDArray[Any]) -> list[Any]:
    """Return the elements as a flat list of numbers, booleans or texts (UTF-8).

    Raises:
        InvalidRequest: a BYTES element is no UTF-8 text; it can only travel as binary data.

    """
    if array.dtype != object:
        flat: list[Any] = array.reshape(-1).tolist()
        return flat
    try:
        return [bytes(element).decode() for element in array.flat]
    except UnicodeDecodeError as error:
        raise InvalidRequest("this output holds bytes that are no text: ask for it as binary data") from error


def bytes_array(elements: Sequence[bytes]) -> npt.NDArray[Any]:
    """Return a BYTES array of shape [len(elements)]."""
    return _objects(elements, (len(elements),))


def _objects(elements: Sequence[bytes], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def _split_elements(name: str, buffer: memoryview, count: int) -> list[bytes]:
    elements: list[bytes] = []
    offset = 0
    while offset < len(buffer):
        if len(elements) == count or offset + 4 > len(buffer):
            break
        (length,) = struct.unpack_from("<I", buffer, offset)
        offset += 4
        if offset + length > len(buffer):
            raise InvalidRequest(f"tensor '{name}': a BYTES element of {length} bytes is cut short")
        elements.append(bytes(buffer[offset : offset + length]))
        offset += length
    if len(elements) != count or offset != len(buffer):
        raise InvalidRequest(f"tensor '{name}': {len(buffer)} bytes are not {count} length-prefixed BYTES elements")
    return elements


_ELEMENT_TYPES: Final[dict[str, frozenset[type]]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}


def _flatten(name: str, data: list[Any]) -> list[Any]:
    flat = data
    while flat and isinstance(flat[0], list):
        if set(map(type, flat)) != {list} or len(set(map(len, flat))) > 1:
            raise InvalidRequest(f"tensor '{name}': the nested lists of 'data' differ in depth or length")
        flat = list(chain.from_iterable(flat))
    return flat


def _numbers(name: str, datatype: str, dtype: np.dtype[Any], elements: list[Any]) -> npt.NDArray[Any]:
    try:
        with np.errstate(over="ignore"):
            # By way of FP64: numpy refuses an int too large for a narrower float, but not a float.
            array = np.array(elements, np.float64 if dtype.kind == "f" else dtype).astype(dtype, copy=False)
    except OverflowError as error:
        raise _misfit(name, datatype) from error
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise _misfit(name, datatype)
    return array


def _misfit(name: str, datatype: str) -> InvalidRequest:
    return InvalidRequest(f"tensor '{name}': the data does not fit datatype {datatype}")
