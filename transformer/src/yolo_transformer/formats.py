"""What a file's first bytes say: its format and, for a JPEG and an EXIF block, what stands in their headers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from servekit.errors import InvalidRequest, UnsupportedPicture

UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
# A camera writes some twenty segments before the first scan; a thousand is a file made to keep a reader busy.
_MAX_SEGMENTS: Final = 1000
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSY_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE_FRAMES: Final = frozenset({0xC2, 0xCA})
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
# JFIF's segment and Adobe's tell how the colours are stored; every other application's segment is about the picture.
_ABOUT: Final = (frozenset(range(0xE1, 0xF0)) - {0xEE}) | {0xFE}


class Format(StrEnum):
    """The formats that are read; each value is the name of its reader in Pillow."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    BMP = "BMP"
    TIFF = "TIFF"
    GIF = "GIF"
    AVIF = "AVIF"
    PNM = "PPM"
    ICO = "ICO"


READ_FORMATS: Final = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, binary PNM or ICO"
_READ: Final[tuple[tuple[bytes, Format], ...]] = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"BM", Format.BMP),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
    (b"P4", Format.PNM),
    (b"P5", Format.PNM),
    (b"P6", Format.PNM),
    (b"\0\0\1\0", Format.ICO),
)
_NOT_READ: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"<", "a text in HTML, SVG or XML"),
)
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def sniff(data: bytes) -> Format:
    """Return the format that the first bytes of `data` name.

    Raises:
        UnsupportedPicture: they name none that is read here.

    """
    for magic, found in _READ:
        if data.startswith(magic):
            return found
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Format.WEBP
    name = next((name for magic, name in _NOT_READ if data.startswith(magic)), "")
    if data[4:8] == b"ftyp":
        # The first brand is the file's own, the others those it is compatible with: an AVIF may call itself mif1.
        brands = data[8 : min(128, max(16, int.from_bytes(data[:4], "big")))]
        if b"avif" in brands or b"avis" in brands:
            return Format.AVIF
        name = "a HEIC picture" if brands[:4] in _HEIF_BRANDS else "a video"
    if name:
        raise UnsupportedPicture(f"{name} is not read here: send {READ_FORMATS}")
    raise UnsupportedPicture(f"the bytes are no picture that is read here: send {READ_FORMATS}")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """A JPEG's size in pixels as stored, its EXIF orientation (1 to 8), and whether its first scan is the only one."""

    height: int
    width: int
    orientation: int
    single_scan: bool


def jpeg_header(data: bytes) -> JpegHeader:
    """Return what stands before the pixels of a JPEG.

    Raises:
        InvalidRequest: there is no frame header, or one that says nothing usable.
        UnsupportedPicture: the picture is lossless or has other than 8 bits a sample.

    """
    frame, frame_marker, orientation = b"", 0, UPRIGHT
    for marker, start, end in _segments(data):
        if marker in _FRAME_HEADERS and not frame_marker:
            frame, frame_marker = data[start + 4 : end], marker
        elif marker == 0xE1 and orientation == UPRIGHT and data.startswith(b"Exif\0", start + 4):
            orientation = exif_orientation(data[start + 4 : end])
        elif marker == _START_OF_SCAN and len(frame) >= 6:
            # Only a sequential picture whose first scan holds every component is over with that scan.
            single = frame_marker not in _PROGRESSIVE_FRAMES and data[start + 4 : start + 5] == frame[5:6]
            return _checked_header(frame, frame_marker, orientation, single)
    if not frame_marker:
        raise InvalidRequest("the JPEG is damaged or cut short: it ends before its picture begins")
    return _checked_header(frame, frame_marker, orientation, single_scan=False)


def bare_jpeg(data: bytes) -> bytes:
    """Return the JPEG without its profiles, comments and thumbnails, and without junk between its first segments."""
    parts, rest = [b"\xff\xd8"], len(data)
    for marker, start, end in _segments(data):
        if marker == _START_OF_SCAN:
            rest = start
        elif marker not in _ABOUT:
            parts.append(data[start:end])
    return b"".join([*parts, data[rest:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's marker, start and end, up to and with the start of the first scan."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        while data[position + 1 : position + 2] == b"\xff":
            position += 1
        if position < 0 or position + 4 > len(data):
            return
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0 or marker in _STANDALONE:
            position += 2
            continue
        if marker == _END_OF_IMAGE or length < 2:
            return
        yield marker, position, position + 2 + length
        if marker == _START_OF_SCAN:
            return
        position += 2 + length


def _checked_header(frame: bytes, marker: int, orientation: int, single_scan: bool) -> JpegHeader:
    if len(frame) < 6:
        raise InvalidRequest("the JPEG is cut short in its header")
    precision, height, width = struct.unpack_from(">BHH", frame)
    if marker not in _LOSSY_FRAMES:
        raise UnsupportedPicture("a lossless or hierarchical JPEG is not read here: save it as a baseline one")
    if precision != 8:
        raise UnsupportedPicture(f"a JPEG of {precision} bits a sample is not read here: save it with 8")
    return JpegHeader(height, width, orientation, single_scan)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block gives; 1 where it gives none or is damaged."""
    block = exif[6:] if exif.startswith(b"Exif\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, entry)
            if tag == _ORIENTATION_TAG:
                # SHORT by the standard; some writers use LONG.
                (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", block, entry + 8)
                return int(value) if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT
