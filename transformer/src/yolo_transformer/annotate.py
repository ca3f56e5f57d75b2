"""Detections drawn into a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from yolo_transformer.masks import Mask

Colour: TypeAlias = tuple[int, int, int]
Image: TypeAlias = npt.NDArray[np.uint8]

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_RATIO: Final = 0.618034
_MASK_OPACITY: Final = 0.45
_WHITE: Final = (255, 255, 255)
_BLACK: Final = (16, 16, 16)


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes in pixels that suit a picture: of lines, of letters, and of the space around these."""

    line: int
    font_scale: float
    font_weight: int
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
    pen = pen_for(image.shape[0], image.shape[1])
    worst_first = range(len(boxes) - 1, -1, -1)
    for index in worst_first:
        if index < len(masks):
            _fill(drawn, masks[index], colour_of(int(class_ids[index])), pen)
    for index in worst_first:
        corners = np.round(boxes[index]).astype(int).tolist()
        cv2.rectangle(drawn, corners[:2], corners[2:], colour_of(int(class_ids[index])), pen.line, cv2.LINE_AA)
    for index in worst_first:
        text = f"{labels[index]} {scores[index]:.2f}"
        _plate(drawn, boxes[index], text, colour_of(int(class_ids[index])), pen)
    return drawn


def encode_jpeg(image: Image, quality: int = 90) -> bytes:
    """Return `image` (H, W, 3) uint8, RGB, as a JPEG; `quality` is 1 to 100."""
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorspace="RGB")
    return encoded


@cache
def colour_of(class_id: int) -> Colour:
    """Return a class's colour, RGB, always the same: hues a golden angle apart, so that neighbours differ."""
    hue = (0.58 + class_id * _GOLDEN_RATIO) % 1.0
    lightness = (0.5, 0.42, 0.6)[class_id // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def pen_for(height: int, width: int) -> Pen:
    """Return the sizes that suit a picture of `height` x `width` pixels."""
    side = (height * width) ** 0.5
    font_scale = float(np.clip(side / 1300, 0.35, 3.0))
    return Pen(
        line=max(1, round(side / 380)),
        font_scale=font_scale,
        font_weight=max(1, round(font_scale * 1.6)),
        margin=max(2, round(font_scale * 7)),
    )


def _fill(drawn: Image, mask: Mask, colour: Colour, pen: Pen) -> None:
    height, width = mask.bits.shape
    region = drawn[mask.top : mask.top + height, mask.left : mask.left + width]
    bits = mask.bits.astype(bool)
    tinted = region[bits] * (1 - _MASK_OPACITY) + np.array(colour, np.float32) * _MASK_OPACITY
    region[bits] = tinted.astype(np.uint8)
    outline, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    offset = (mask.left, mask.top)
    cv2.drawContours(drawn, outline, -1, colour, max(1, pen.line // 2), cv2.LINE_AA, offset=offset)


def _plate(drawn: Image, box: npt.NDArray[np.float32], text: str, colour: Colour, pen: Pen) -> None:
    # The drawn font has ASCII alone.
    text = text.encode("ascii", "replace").decode()
    (width, height), baseline = cv2.getTextSize(text, _FONT, pen.font_scale, pen.font_weight)
    width, full = width + 2 * pen.margin, height + baseline + pen.margin
    rows, columns = drawn.shape[:2]
    left = int(np.clip(round(float(box[0])) - pen.line // 2, 0, max(0, columns - width)))
    above = round(float(box[1])) - full
    # Above the box, or inside at its top where the picture ends.
    top = int(np.clip(above if above >= 0 else round(float(box[1])), 0, max(0, rows - full)))
    cv2.rectangle(drawn, (left, top), (left + width, top + full), colour, cv2.FILLED)
    ink = _BLACK if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else _WHITE
    origin = (left + pen.margin, top + height + pen.margin // 2 + 1)
    cv2.putText(drawn, text, origin, _FONT, pen.font_scale, ink, pen.font_weight, cv2.LINE_AA)
