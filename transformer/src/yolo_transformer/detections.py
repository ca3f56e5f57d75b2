"""What was found in one picture, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Detections:
    """N objects, best first.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the picture. scores: (N,) float32, 0 to 1. class_ids: (N,) int32.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scores)
