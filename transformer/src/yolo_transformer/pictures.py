"""From a request's bytes to the predictor's tensor: every picture decoded and letterboxed into one canvas."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from servekit.errors import InvalidRequest, ServingError, TooLarge, UnsupportedPicture
from servekit.inference import InferenceRequest
from yolo_transformer.card import ModelCard
from yolo_transformer.formats import sniff
from yolo_transformer.images import PictureLimits, check_size, decode
from yolo_transformer.letterbox import LetterboxPlan, letterbox_into, plan

_BASE64_HEAD: Final = re.compile(rb"[A-Za-z0-9+/=\s]{1,32}")
_canvases = threading.local()


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most pictures in one request, and the limits of each."""

    max_batch: int = 16
    picture: PictureLimits = field(default_factory=PictureLimits)


@dataclass(frozen=True, slots=True)
class PlacedPicture:
    """A picture's size in pixels and place in its letterbox; `image` (H, W, 3) uint8, RGB, if kept to draw on."""

    height: int
    width: int
    plan: LetterboxPlan
    image: npt.NDArray[np.uint8] | None = None


def sources_of(request: InferenceRequest, limits: RequestLimits) -> Sequence[bytes] | npt.NDArray[np.uint8]:
    """Return the request's pictures: encoded ones, or an array (B, H, W, 3) uint8, RGB.

    Raises:
        InvalidRequest: it has neither, both, or none of the right type.
        TooLarge: it has too many.

    """
    encoded, pixels = request.input("image"), request.input("pixels")
    if (encoded is None) == (pixels is None) or len(request.inputs) != 1:
        raise InvalidRequest("a request has one input: 'image' (BYTES, encoded pictures) or 'pixels' (UINT8 [B,H,W,3])")
    if pixels is not None:
        _check_pixels(pixels, limits)
        return pixels
    if encoded is None or encoded.dtype != object:
        raise InvalidRequest("input 'image' must be BYTES, one encoded picture an element")
    _check_batch(encoded.size, limits)
    return [as_picture_bytes(element) for element in encoded.flat]


def as_picture_bytes(element: bytes) -> bytes:
    """Return the bytes of a picture that may have come as base64 text."""
    if not _BASE64_HEAD.fullmatch(element[:32]) or _is_picture(element):
        return element
    try:
        return base64.b64decode(element, validate=False)
    except binascii.Error:
        return element


def _is_picture(data: bytes) -> bool:
    # Some formats begin with letters; base64 text that begins with the same ones is of no picture.
    try:
        sniff(data)
    except UnsupportedPicture:
        return False
    return True


def place(
    sources: Sequence[bytes] | npt.NDArray[np.uint8], card: ModelCard, limits: RequestLimits, keep: Sequence[bool]
) -> tuple[npt.NDArray[np.uint8], list[PlacedPicture]]:
    """Return the letterboxed batch (B, H, W, 3) uint8, RGB, and each picture's place; `keep` tells which to keep.

    The batch lies in a canvas of this thread, which its next call overwrites.

    Raises:
        ServingError: a picture is damaged, over a limit or none at all; the message numbers it where there are several.

    """
    canvas = _canvas((len(sources), card.height, card.width, 3))
    placed = []
    for number, source in enumerate(sources):
        try:
            image = source if isinstance(source, np.ndarray) else decode(source, limits.picture)
            height, width = image.shape[:2]
            letterbox = plan(height, width, card.height, card.width, card.placement)
        except ServingError as error:
            if len(sources) == 1:
                raise
            raise type(error)(f"picture {number + 1} of {len(sources)}: {error.message}") from error
        letterbox_into(image, canvas[number], letterbox)
        placed.append(PlacedPicture(height, width, letterbox, image if keep[number] else None))
    return canvas, placed


def _canvas(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    buffer: npt.NDArray[np.uint8] | None = getattr(_canvases, "buffer", None)
    if buffer is None or buffer.size < size:
        buffer = _canvases.buffer = np.empty(size, np.uint8)
    return buffer[:size].reshape(shape)


def _check_pixels(pixels: npt.NDArray[Any], limits: RequestLimits) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
        raise InvalidRequest("input 'pixels' must be UINT8 of shape [B,H,W,3], RGB, with no dimension of 0")
    _check_batch(pixels.shape[0], limits)
    check_size(pixels.shape[1], pixels.shape[2], limits.picture)


def _check_batch(count: int, limits: RequestLimits) -> None:
    if count == 0:
        raise InvalidRequest("the request has no picture")
    if count > limits.max_batch:
        raise TooLarge(f"{count} pictures in one request are more than {limits.max_batch}")
