"""Boxes from the canvas back into the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_transformer.letterbox import LetterboxPlan


def to_picture(boxes: npt.NDArray[np.float32], placed: LetterboxPlan) -> npt.NDArray[np.float32]:
    """Return boxes (N, 4) float32, x1 y1 x2 y2 in canvas pixels, in pixels of the picture, within its borders."""
    offset = np.array([placed.left, placed.top] * 2, np.float32)
    scale = np.array([placed.scale_x, placed.scale_y] * 2, np.float32)
    limit = np.array([placed.width, placed.height] * 2, np.float32)
    inside: npt.NDArray[np.float32] = np.clip((boxes - offset) / scale, 0, limit)
    return inside
