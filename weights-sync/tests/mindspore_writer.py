"""Writes MindSpore checkpoints by hand, as the format's description has them."""

import binascii

NAMES = {"float32": "Float32", "float16": "Float16", "int32": "Int32", "int64": "Int64", "float64": "Float64"}


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def value(tag, dims, kind, content):
    tensor = b"".join(field(1, dim) for dim in dims) + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, tag.encode()) + field(2, tensor))


def checkpoint(arrays, *, slice_bytes=0, crc=False):
    """Return the bytes; tensors over `slice_bytes` are split into values of one tag, numbers have dims [0]."""
    parts = []
    for tag, array in arrays.items():
        content, kind, dims = array.tobytes(), NAMES[str(array.dtype)], array.shape or (0,)
        step = slice_bytes or len(content) or 1
        parts += [value(tag, dims, kind, content[at : at + step]) for at in range(0, len(content) or 1, step)]
    data = b"".join(parts)
    return data + b"crc_num" + binascii.crc32(data).to_bytes(10, "big") if crc else data
