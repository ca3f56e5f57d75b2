"""From an encoded picture to its pixels as a person sees them, at bounded memory and time.

Formats other than JPEG reach Pillow stripped to one picture (see `containers`), with a size that has been checked.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from servekit.errors import InvalidRequest, ServingError, TooLarge, UnsupportedPicture
from yolo_transformer.containers import (
    Bare,
    bare_avif,
    bare_bmp,
    bare_gif,
    bare_ico,
    bare_png,
    bare_pnm,
    bare_webp,
)
from yolo_transformer.formats import UPRIGHT, Format, JpegHeader, bare_jpeg, exif_orientation, jpeg_header, sniff
from yolo_transformer.tiff import bare_tiff

Pixels = npt.NDArray[np.uint8]

# Sizes are checked here, by the caller's limits; a second limit, of the process and half a warning, would contradict.
Image.MAX_IMAGE_PIXELS = None
# What Pillow finds odd in a client's picture is no news for the server's log.
warnings.filterwarnings("ignore", module=r"PIL\.")

_STRIPPED: Final[Mapping[Format, Callable[[bytes], Bare]]] = {
    Format.PNG: bare_png,
    Format.GIF: bare_gif,
    Format.WEBP: bare_webp,
    Format.AVIF: bare_avif,
    Format.BMP: bare_bmp,
    Format.PNM: bare_pnm,
    Format.ICO: bare_ico,
    Format.TIFF: bare_tiff,
}
# libjpeg's words where pixels are missing or wrong; its other complaints are about headers, and every viewer's silence.
_LOST_PIXELS: Final = re.compile(
    "Premature end|premature end|bad Huffman code|bad arithmetic code|instead of RST|before marker 0xd[0-7]"
)
# Ten scans are usual; each costs a pass over the whole picture, so a file of thousands is made to cost minutes.
_MAX_SCANS: Final = 100
_BAND_PIXELS: Final = 1 << 20
_WITH_ALPHA: Final = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
# Pillow turns negatives over, but not those of 16 bits.
_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0
_TURNS: Final = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS: Final = {2: 1, 4: 0}


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The most that one picture may be: its file in bytes, its area and its longer side in pixels."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_side: int = 16_384


def decode(data: bytes, limits: PictureLimits) -> Pixels:
    """Return the picture in `data` as a person sees it: (H, W, 3) uint8, RGB, C-contiguous, writable.

    It is turned as its EXIF orientation says; grey has three equal channels; 16 bits are scaled to 8; what is
    transparent shows white, as on a page; of an animation or several pages it is the first; a colour profile changes
    nothing. Sizes are read from the header and checked before a pixel is decoded.

    Raises:
        UnsupportedPicture: the bytes are no picture, or one of a kind that is not read here.
        TooLarge: the file, the area or a side is over its limit.
        InvalidRequest: the picture is empty, cut short or damaged so that pixels are lost.

    """
    if not data:
        raise InvalidRequest("the picture is empty: it has 0 bytes")
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the picture's {len(data)} bytes are more than the {limits.max_bytes} allowed")
    found = sniff(data)
    if found is Format.JPEG:
        header = jpeg_header(data)
        check_size(header.height, header.width, limits)
        return _upright(_jpeg(data, header, limits), header.orientation)
    bare = _STRIPPED[found](data)
    check_size(bare.height, bare.width, limits)
    return _by_pillow(bare, limits)


def check_size(height: int, width: int, limits: PictureLimits) -> None:
    """Hold a picture's size in pixels against the limits.

    Raises:
        InvalidRequest: it has none.
        TooLarge: its area or a side is over its limit.

    """
    if not height or not width:
        raise InvalidRequest(f"the picture is damaged: its header gives it {width}x{height} pixels")
    if height * width > limits.max_pixels:
        raise TooLarge(f"the picture's {width}x{height} pixels are more than the {limits.max_pixels} allowed")
    if max(height, width) > limits.max_side:
        raise TooLarge(f"the picture's {width}x{height} pixels have a side longer than the {limits.max_side} allowed")


def _jpeg(data: bytes, header: JpegHeader, limits: PictureLimits) -> Pixels:
    """Return the pixels as stored, (H, W, 3) uint8, RGB: those that OpenCV gives, bit for bit."""
    if not header.single_scan and data.count(b"\xff\xda") > _MAX_SCANS:
        raise InvalidRequest(f"the JPEG has more than {_MAX_SCANS} scans")
    try:
        return _strictly(data)
    except ValueError as error:
        complaint = str(error)
    if "Premature end" in complaint and header.single_scan:
        # With all pixels there, only the end mark is missing; then its presence leaves nothing to complain about.
        mended = data + b"\xff\xd9"
    elif _LOST_PIXELS.search(complaint):
        raise InvalidRequest("the JPEG is cut short or damaged: pixels are missing")
    else:
        mended = bare_jpeg(data)
    try:
        return _strictly(mended)
    except ValueError as error:
        if _LOST_PIXELS.search(str(error)):
            raise InvalidRequest("the JPEG is cut short or damaged: pixels are missing") from None
    # Rare samplings, which TurboJPEG's interface does not offer, and harmless oddities.
    return _by_pillow(Bare(mended, Format.JPEG, header.height, header.width), limits)


def _strictly(data: bytes) -> Pixels:
    """Return a JPEG's pixels; ValueError, in libjpeg's words, where a more lenient reader would have warned."""
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    return pixels


def _by_pillow(bare: Bare, limits: PictureLimits) -> Pixels:
    try:
        with Image.open(io.BytesIO(bare.data), formats=[bare.format.value]) as image:
            check_size(image.height, image.width, limits)
            exif = image.info.get("exif", b"") if bare.format in {Format.WEBP, Format.AVIF} else b""
            image.load()
            return _upright(_rgb(image), exif_orientation(exif) if exif else bare.orientation)
    except ServingError:
        raise
    except UnidentifiedImageError:
        raise InvalidRequest(f"the {bare.format.name} is damaged, or of a variety that is not read here") from None
    except Exception:  # noqa: BLE001 -- Pillow's readers let out whatever a damaged file provokes in them
        raise InvalidRequest(f"the {bare.format.name} is cut short or damaged: pixels are missing") from None


def _rgb(image: Image.Image) -> Pixels:
    """Return the pixels of a loaded image, converted in bands so that one band, not the picture, is held twice."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM") or image.mode == "LAB":
        raise UnsupportedPicture("a picture of measurements or in Lab is not read here: save it as 8-bit RGB")
    to_rgb = _deep_band if image.mode.startswith("I") else _band
    if image.mode in _WITH_ALPHA and not image.getchannel("A").getextrema()[1]:
        # Wholly transparent: some bitmaps have an alpha channel that its writer never filled.
        image = image.convert("L" if image.mode in {"LA", "La"} else "RGB")
    tags = getattr(image, "tag_v2", {})
    is_negative = image.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = to_rgb(image if rows >= height else image.crop((0, top, width, bottom)))
    if is_negative:
        np.subtract(255, pixels, out=pixels)
    return pixels


def _band(band: Image.Image) -> Pixels:
    if band.mode not in _WITH_ALPHA and "transparency" not in band.info:
        return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    seen = band.convert("RGBA")
    page = Image.new("RGB", seen.size, "white")
    page.paste(seen, mask=seen)
    return np.asarray(page)


def _deep_band(band: Image.Image) -> Pixels:
    """Return grey of 16 bits as (h, w, 1) uint8: the high byte, as Pillow has it for colours of 16 bits."""
    values = np.asarray(band)
    grey: Pixels = (values >> 8).astype(np.uint8)
    if isinstance(transparent := band.info.get("transparency"), int):
        grey[values == transparent] = 255
    return grey[..., np.newaxis]


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels (H, W, 3) uint8 turned and mirrored from how an EXIF orientation, 1 to 8, says they are stored."""
    if orientation in _TURNS:
        return np.asarray(cv2.rotate(pixels, _TURNS[orientation]), np.uint8)
    if orientation in _FLIPS:
        return np.asarray(cv2.flip(pixels, _FLIPS[orientation]), np.uint8)
    if orientation == UPRIGHT:
        return pixels
    mirrored = cv2.transpose(pixels)
    return np.asarray(mirrored if orientation == 5 else cv2.rotate(mirrored, cv2.ROTATE_180), np.uint8)
