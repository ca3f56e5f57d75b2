"""A file's first picture without all else that the file holds, and the size in pixels that its header claims.

Comments, profiles, EXIF blocks, later frames and bytes after the end never reach a decoder: they can neither fail a
picture nor cost the memory and time that a block made for it would.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from servekit.errors import InvalidRequest, UnsupportedPicture
from yolo_transformer.formats import UPRIGHT, Format, exif_orientation

# Honest writers fill their blocks: 32 MiB are 4 096 chunks of 8 KiB, or 131 072 sub-blocks of 255 bytes.
_MAX_CHUNKS: Final = 65_536
_MAX_SUB_BLOCKS: Final = 400_000
# Pillow walks run-length bitmaps in Python: a second a megabyte, at worst.
_MAX_RUN_LENGTH_BYTES: Final = 1024 * 1024
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNM_HEADER: Final = re.compile(rb"P[456]" + 2 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})")
_PNM_MAXIMUM: Final = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,5})\s")
_EXIF_ITEM: Final = re.compile(rb"(infe[\s\S]{8,10}?)Exif")


@dataclass(frozen=True, slots=True)
class Bare:
    """A file of one picture, its format, its size in pixels as stored and its EXIF orientation, 1 to 8."""

    data: bytes
    format: Format
    height: int
    width: int
    orientation: int = UPRIGHT


def bare_png(data: bytes) -> Bare:
    """Return a PNG of the default image's header, palette, transparency and pixels; of an animation, mostly frame 1.

    What is missing at the end of the pixels is left to the decoder to find: it may be no more than the end mark.

    Raises:
        InvalidRequest: a chunk that the picture needs is damaged.

    """
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise InvalidRequest("the PNG is damaged or cut short in its header")
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    kept: dict[bytes, list[memoryview]] = {b"IHDR": [], b"PLTE": [], b"tRNS": [], b"IDAT": []}
    view, position, orientation = memoryview(data), len(_PNG_MAGIC), UPRIGHT
    for _ in range(_MAX_CHUNKS):
        length, name = int.from_bytes(view[position : position + 4], "big"), bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if len(name) < 4 or name == b"IEND":
            break
        if name in kept:
            if end <= len(data) and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
                raise InvalidRequest("the PNG is damaged: the checksum of its data is wrong")
            kept[name].append(view[position + 8 : position + 8 + length])
        elif name == b"eXIf":
            orientation = exif_orientation(bytes(view[position + 8 : end - 4]))
        position = end
    else:
        raise InvalidRequest(f"the PNG has more than {_MAX_CHUNKS} chunks")
    if (depth, colours) == (16, 2):
        # The colour that is transparent has 16 bits a sample, and the decoded pixels 8: it would match wrong ones.
        kept[b"tRNS"].clear()
    return Bare(_png_of(kept), Format.PNG, height, width, orientation)


def _png_of(chunks: dict[bytes, list[memoryview]]) -> bytes:
    parts = [_PNG_MAGIC]
    for name, bodies in chunks.items():
        if bodies:
            body = b"".join(bodies) if name == b"IDAT" else bytes(bodies[0])
            parts += [struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))]
    return b"".join([*parts, b"\0\0\0\0IEND\xaeB`\x82"])


def bare_gif(data: bytes) -> Bare:
    """Return a GIF of the first frame alone; its size holds both the screen and that frame.

    Raises:
        InvalidRequest: the file ends before its first frame begins.

    """
    blocks = _Blocks(data)
    end = 13 + _table_size(blocks.byte(10))
    control, position = b"", end
    while (kind := blocks.byte(position)) != 0x2C:
        if kind != 0x21:
            raise InvalidRequest("the GIF is damaged: it has no picture")
        after = blocks.after(position + 2)
        if blocks.byte(position + 1) == 0xF9:
            control = data[position:after]
        position = after
    # After the frame's own colours comes one byte, the size of the smallest code, and then the sub-blocks.
    pixels = position + 10 + _table_size(blocks.byte(position + 9)) + 1
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    left, top, width, height = struct.unpack_from("<HHHH", data, position + 1)
    bare = data[:end] + control + data[position : blocks.after(pixels)] + b"\0;"
    return Bare(bare, Format.GIF, max(screen_height, top + height), max(screen_width, left + width))


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


class _Blocks:
    """The sub-blocks of a GIF, of which a bounded number is walked."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_SUB_BLOCKS

    def byte(self, position: int) -> int:
        if position >= len(self._data):
            raise InvalidRequest("the GIF is cut short")
        return self._data[position]

    def after(self, position: int) -> int:
        """Return the position after the chain of sub-blocks that starts here, or the file's end if it is cut short."""
        data, size = self._data, len(self._data)
        while position < size:
            length = data[position]
            position += length + 1
            if not length:
                return position
            self._left -= 1
            if self._left < 0:
                raise InvalidRequest(f"the GIF has more than {_MAX_SUB_BLOCKS} blocks")
        return size


def bare_webp(data: bytes) -> Bare:
    """Return the WebP as it is; its size is the canvas's.

    Raises:
        InvalidRequest: its header is damaged or cut short.

    """
    kind, body = data[12:16], data[20:30]
    if len(body) == 10 and kind == b"VP8X":
        height, width = int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    elif len(body) == 10 and kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        height, width = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    elif len(body) == 10 and kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    else:
        raise InvalidRequest("the WebP is damaged or cut short in its header")
    return Bare(data, Format.WEBP, height, width)


def bare_avif(data: bytes) -> Bare:
    """Return the AVIF without its EXIF block, which by its standard does not turn it; its size is the largest it names.

    Raises:
        InvalidRequest: it names no size.

    """
    sizes = [found.end() for found in re.finditer(rb"ispe\0{4}", data)]
    sides = [struct.unpack_from(">II", data, start) for start in sizes if start + 8 <= len(data)]
    if not sides:
        raise InvalidRequest("the AVIF is damaged or cut short in its header")
    width, height = max(sides, key=lambda side: side[0] * side[1])
    return Bare(_EXIF_ITEM.sub(rb"\1skip", data), Format.AVIF, height, width)


def bare_bmp(data: bytes) -> Bare:
    """Return the bitmap as it is.

    Raises:
        InvalidRequest: its header is cut short.
        UnsupportedPicture: it is run-length encoded and large.

    """
    if len(data) < 26:
        raise InvalidRequest("the BMP is cut short in its header")
    if data[14:18] == b"\x0c\0\0\0":
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        # Rows from top to bottom are told by a negative height.
        width, height = (abs(side) for side in struct.unpack_from("<ii", data, 18))
        if data[30:31] in {b"\1", b"\2"} and len(data) > _MAX_RUN_LENGTH_BYTES:
            raise UnsupportedPicture("a run-length encoded BMP of this size is not read here: save it as PNG")
    return Bare(data, Format.BMP, height, width)


def bare_pnm(data: bytes) -> Bare:
    """Return the picture under a header without comments.

    Raises:
        InvalidRequest: the header is damaged or cut short.

    """
    head = data[:65_536]
    size = _PNM_HEADER.match(head)
    maximum = _PNM_MAXIMUM.match(head, size.end()) if size else None
    is_bitmap = data[1:2] == b"4"
    if size is None or (maximum is None and not is_bitmap):
        raise InvalidRequest("the PNM is damaged or cut short in its header")
    pixels = size.end() + 1 if maximum is None or is_bitmap else maximum.end()
    depth = b"" if maximum is None or is_bitmap else maximum[1] + b"\n"
    header = data[:2] + b"\n" + size[1] + b" " + size[2] + b"\n" + depth
    return Bare(header + data[pixels:], Format.PNM, int(size[2]), int(size[1]))


def bare_ico(data: bytes) -> Bare:
    """Return an icon's largest picture: a PNG, or an icon of that picture alone.

    Raises:
        InvalidRequest: its table is damaged or cut short.

    """
    best = (0, 0, b"", b"")
    for entry in range(6, 6 + 16 * int.from_bytes(data[4:6], "little"), 16):
        row = data[entry : entry + 16]
        size, start = struct.unpack_from("<II", row, 8) if len(row) == 16 else (0, 0)
        head = data[start : start + min(size, 24)]
        if head.startswith(_PNG_MAGIC) and len(head) == 24:
            width, height = struct.unpack_from(">II", head, 16)
        elif head[:4] == b"\x28\0\0\0" and len(head) >= 12:
            # A mask of the same size lies below the picture, and the height counts both.
            width, height = (abs(side) for side in struct.unpack_from("<ii", head, 4))
            height //= 2
        else:
            raise InvalidRequest("the ICO is damaged or cut short in its table")
        if height * width > best[0] * best[1]:
            best = (height, width, row, data[start : start + size])
    height, width, row, picture = best
    if picture.startswith(_PNG_MAGIC):
        return bare_png(picture)
    return Bare(b"\0\0\1\0\1\0" + row[:12] + struct.pack("<I", 22) + picture, Format.ICO, height, width)
