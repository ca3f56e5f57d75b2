"""Detections drawn into a picture."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from yolo_transformer.masks import Mask

Colour: TypeAlias = tuple[int, int, int]
Image: TypeAlias = npt.NDArray[np.uint8]
Rectangle: TypeAlias = tuple[int, int, int, int]

_GOLDEN_ANGLE: Final = 137.508
_LIGHTNESSES: Final = (0.74, 0.58, 0.82, 0.66)
_FIRST_HUE: Final = 250
_CHROMA: Final = 0.19
_MASK_OPACITY: Final = 0.4
_WHITE: Final = (255, 255, 255)
_BLACK: Final = (16, 16, 16)
_TEXT_WEIGHT: Final = 500
_LUMA: Final = (0.299, 0.587, 0.114)
_LONGEST_LABEL: Final = 48
_fonts = threading.local()


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes in pixels that suit a picture: of lines, of letters, and of the space beside these."""

    line: int
    letter: int
    margin: int


def annotate(
    image: Image,
    boxes: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    labels: Sequence[str],
    masks: Sequence[Mask],
) -> Image:
    """Return a copy of `image` (H, W, 3) uint8, RGB, with the detections drawn, the best ones on top.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels. `labels` goes with them; `masks` does too, or is empty.
    """
    drawn = image.copy()
    pen = pen_for(*image.shape[:2])
    colours = [colour_of(class_id) for class_id in class_ids.tolist()]
    worst_first = range(len(boxes) - 1, -1, -1)
    for index in worst_first if masks else ():
        _tint(drawn, masks[index], colours[index], pen)
    corners = np.rint(boxes).astype(int).tolist()
    for index in worst_first:
        _outline(drawn, corners[index], colours[index], pen)
    texts = [f"{_shortened(label)} {score:.2f}" for label, score in zip(labels, scores.tolist(), strict=True)]
    plates = _places(texts, corners, image.shape[:2], pen)
    for index in sorted(plates, reverse=True):
        _plate(drawn, plates[index], texts[index], colours[index], pen)
    return drawn


def encode_jpeg(image: Image, quality: int = 90) -> bytes:
    """Return `image` (H, W, 3) uint8, RGB, as a JPEG whose thin lines keep their colours; `quality` is 1 to 100."""
    pixels = np.ascontiguousarray(image)
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="422")
    return encoded


@cache
def colour_of(class_id: int) -> Colour:
    """Return a class's colour, RGB, always the same: hues a golden angle apart, so that neighbours differ."""
    hue = np.deg2rad(_FIRST_HUE + class_id * _GOLDEN_ANGLE)
    lightness = _LIGHTNESSES[class_id % len(_LIGHTNESSES)]
    # In Oklab equal numbers look equally light and strong; colours that no screen has are paled until one has them.
    for strength in np.linspace(_CHROMA, 0, 20):
        linear = _linear_rgb(lightness, strength * np.cos(hue), strength * np.sin(hue))
        if (linear >= 0).all() and (linear <= 1).all():
            break
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(encoded * 255).astype(int).tolist()
    return red, green, blue


def _linear_rgb(lightness: float, a: float, b: float) -> npt.NDArray[np.float64]:
    cones = np.array([
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ])  # fmt: skip
    to_rgb = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ])  # fmt: skip
    rgb: npt.NDArray[np.float64] = to_rgb @ cones**3
    return rgb


def pen_for(height: int, width: int) -> Pen:
    """Return the sizes that suit a picture of `height` x `width` pixels."""
    side = (height * width) ** 0.5
    letter = int(np.clip(round(side / 48), 11, 96))
    return Pen(line=max(1, round(side / 380)), letter=letter, margin=max(2, round(letter * 0.3)))


def _tint(drawn: Image, mask: Mask, colour: Colour, pen: Pen) -> None:
    height, width = mask.bits.shape
    if 0 in mask.bits.shape:
        return
    region = drawn[mask.top : mask.top + height, mask.left : mask.left + width]
    # Of the 256 values of each channel, what they are under the tint: (1, 256, 3).
    values = np.arange(256)[None, :, None] * (1 - _MASK_OPACITY) + np.multiply(colour, _MASK_OPACITY)
    cv2.copyTo(cv2.LUT(region, np.rint(values).astype(np.uint8)), mask.bits, region)
    contours, _ = cv2.findContours(mask.bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, pen.line // 2)
    cv2.drawContours(drawn, contours, -1, colour, thickness, cv2.LINE_AA, offset=(mask.left, mask.top))


def _outline(drawn: Image, corners: Sequence[int], colour: Colour, pen: Pen) -> None:
    """Draw a box's lines, as wide as they are, inside the picture."""
    height, width = drawn.shape[:2]
    inset = pen.line // 2
    x1, y1 = (min(max(at, inset), side - 1 - inset) for at, side in zip(corners[:2], (width, height), strict=True))
    x2, y2 = (min(max(at, inset), side - 1 - inset) for at, side in zip(corners[2:], (width, height), strict=True))
    cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, pen.line, cv2.LINE_8)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _places(
    texts: Sequence[str], corners: Sequence[Sequence[int]], picture: tuple[int, ...], pen: Pen
) -> dict[int, Rectangle]:
    """Return where in a picture (rows, columns) each text's plate goes; none for one that is too large for it.

    The best choose first: above its box, else inside at the top, below, inside at the bottom; on the left, else on the
    right; the first place that is free.
    """
    rows, columns = picture
    height = round(pen.letter * 1.2) + pen.margin
    places: dict[int, Rectangle] = {}
    taken = np.empty((len(texts), 4), int)
    for index, (text, (x1, y1, x2, y2)) in enumerate(zip(texts, corners, strict=True)):
        _, _, text_width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), pen.letter, _TEXT_WEIGHT)
        width = text_width + 2 * pen.margin
        if width > columns or height > rows:
            continue
        half = pen.line // 2
        lefts = [min(max(at, 0), columns - width) for at in (x1 - half, x2 + half + 1 - width)]
        tops = [y1 - half - height, max(y1 - half, 0), y2 + half + 1, y2 + half + 1 - height]
        choices = [
            (left, top, left + width, top + height) for left in lefts for top in tops if 0 <= top <= rows - height
        ]
        free = (choice for choice in choices if not _overlaps(choice, taken[: len(places)]))
        place = next(free, choices[0] if choices else (lefts[0], rows - height, lefts[0] + width, rows))
        taken[len(places)] = place
        places[index] = place
    return places


def _overlaps(place: Rectangle, taken: npt.NDArray[np.int_]) -> bool:
    left, top, right, bottom = place
    x1, y1, x2, y2 = taken.T
    return bool(((x1 < right) & (left < x2) & (y1 < bottom) & (top < y2)).any())


def _plate(drawn: Image, place: Rectangle, text: str, colour: Colour, pen: Pen) -> None:
    left, top, right, bottom = place
    cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
    ink = _BLACK if np.dot(colour, _LUMA) > 120 else _WHITE
    baseline = (top + bottom + round(pen.letter * 0.72)) // 2
    cv2.putText(drawn, text, (left + pen.margin, baseline), ink, _font(), pen.letter, _TEXT_WEIGHT)


def _font() -> Any:
    """Return OpenCV's own typeface, Unicode, one for each thread: it keeps what it last drew."""
    if not hasattr(_fonts, "sans"):
        _fonts.sans = cv2.FontFace("sans")
    return _fonts.sans
