"""Where a picture lies in the network's canvas, and putting it there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

PAD_VALUE: Final = 114


class Placement(StrEnum):
    """How a picture of another aspect ratio is fitted in."""

    CENTER = "center"
    TOP_LEFT = "top-left"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class LetterboxPlan:
    """A picture of `height` x `width` pixels, resized to `new_height` x `new_width` at (`top`, `left`) of the canvas.

    A point x of the picture lies at x * scale_x + left in the canvas, and y likewise.
    """

    height: int
    width: int
    new_height: int
    new_width: int
    top: int
    left: int
    scale_y: float
    scale_x: float


def plan(height: int, width: int, canvas_height: int, canvas_width: int, placement: Placement) -> LetterboxPlan:
    """Return where a picture lies in a canvas; every size is in pixels, at least 1."""
    if placement is Placement.STRETCH:
        scale_y, scale_x = canvas_height / height, canvas_width / width
        return LetterboxPlan(height, width, canvas_height, canvas_width, 0, 0, scale_y, scale_x)
    scale = min(canvas_height / height, canvas_width / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if placement is Placement.TOP_LEFT:
        return LetterboxPlan(height, width, new_height, new_width, 0, 0, scale, scale)
    # Of an odd rest the larger half goes below and to the right, as the networks' own training code has it.
    top, left = (canvas_height - new_height) // 2, (canvas_width - new_width) // 2
    return LetterboxPlan(height, width, new_height, new_width, top, left, scale, scale)


def letterbox_into(image: npt.NDArray[np.uint8], canvas: npt.NDArray[np.uint8], placed: LetterboxPlan) -> None:
    """Have `canvas` (CH, CW, 3) uint8 hold `image` (H, W, 3) uint8 where the plan says, and `PAD_VALUE` around it."""
    top, left = placed.top, placed.left
    bottom, right = top + placed.new_height, left + placed.new_width
    inside = canvas[top:bottom, left:right]
    if image.shape == inside.shape:
        inside[:] = image
    else:
        cv2.resize(image, (placed.new_width, placed.new_height), dst=inside, interpolation=cv2.INTER_LINEAR)
    canvas[:top] = PAD_VALUE
    canvas[bottom:] = PAD_VALUE
    canvas[top:bottom, :left] = PAD_VALUE
    canvas[top:bottom, right:] = PAD_VALUE
