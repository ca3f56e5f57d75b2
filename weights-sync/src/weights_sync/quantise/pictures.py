"""The pictures that a model is calibrated and measured with: read from a folder, fitted into the network's canvas."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from weights_sync.errors import SourceError
from weights_sync.prepare.card import Card

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MOST = 512
"""Pictures of a folder that are read; more tell nothing new, and cost time."""
PAD = 114

Canvas = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB: a picture as the network gets it."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one folder, and how many files there are none."""

    canvases: tuple[Canvas, ...]
    damaged: int


def read_pictures(folder: Path, card: Card) -> Pictures:
    """Return the pictures of a folder, by their names; `MOST` of them, evenly spread, where there are more."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        files = [files[number * len(files) // MOST] for number in range(MOST)] if len(files) > MOST else files
        read = [_read(file) for file in files]
    except OSError as error:
        raise SourceError(f"can not read the calibration pictures in {folder}: {error.strerror}") from error
    canvases = tuple(fit(picture, card) for picture in read if picture.size)
    if not canvases:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        damaged = f"; {len(read)} are damaged" if read else ""
        raise SourceError(f"there is no picture in {folder} to calibrate with ({kinds}){damaged}")
    return Pictures(canvases, len(read) - len(canvases))


def _read(file: Path) -> Canvas:
    """Return a picture (h, w, 3) uint8, RGB, upright as its EXIF says; (0, 0, 3) where it is none."""
    nothing = np.empty((0, 0, 3), np.uint8)
    data = np.frombuffer(file.read_bytes(), np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except cv2.error:
        return nothing
    return nothing if picture is None else np.asarray(picture, np.uint8)


def fit(picture: Canvas, card: Card) -> Canvas:
    """Return a picture (h, w, 3) in the canvas of a model's preferred size, where its placement has it."""
    height, width = card.size
    if card.placement == "stretch":
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = [max(1, round(side * scale)) for side in picture.shape[:2]]
    # Of an odd rest the larger half goes below and to the right, as the networks' own training code has it.
    top, left = (0, 0) if card.placement == "top-left" else ((height - inner[0]) // 2, (width - inner[1]) // 2)
    canvas = np.full((height, width, 3), PAD, np.uint8)
    resized = cv2.resize(picture, (inner[1], inner[0]), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas
