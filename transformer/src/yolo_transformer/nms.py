"""Greedy non-maximum suppression over a graph's best candidates."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


def select(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    classes: AbstractSet[int] | None = None,
    agnostic: bool = False,
) -> npt.NDArray[np.intp]:
    """Return the indices of the candidates that stay, best first, at most `max_detections`.

    boxes: (K, 4) float32, x1 y1 x2 y2. scores: (K,) float32. class_ids: (K,) int32. A candidate goes when its score is
    below `confidence` or 0, when its class is not among `classes`, when a number of it is not finite, when its box has
    no area, or when its intersection over union with a better one that stays is above `iou`; only one of its own
    class, unless `agnostic`.
    """
    # Most candidates go by their score, so that little is left to look at closely.
    kept = np.flatnonzero((scores >= confidence) & (scores > 0))
    near = boxes[kept]
    fit = np.isfinite(near).all(axis=1) & (near[:, 2:] > near[:, :2]).all(axis=1) & np.isfinite(scores[kept])
    if classes is not None:
        fit &= np.isin(class_ids[kept], list(classes))
    kept = kept[fit]
    # Stable: the graph has put candidates of equal scores into the order that the usual post-processing gives them.
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    if iou < 1 and len(kept) > 1:
        kept = kept[_greedy(boxes[kept], scores[kept], None if agnostic else class_ids[kept], iou)]
    return kept[:max_detections]


def _greedy(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32] | None,
    iou: float,
) -> npt.NDArray[np.intp]:
    # OpenCV wants x y width height, in doubles: its float path compares rounded overlaps.
    rectangles = boxes.astype(np.float64)
    rectangles[:, 2:] -= rectangles[:, :2]
    # Its stubs ask for lists; arrays are read without copying them element by element.
    dnn: Any = cv2.dnn
    if class_ids is None:
        kept = dnn.NMSBoxes(rectangles, scores, 0.0, iou)
    else:
        kept = dnn.NMSBoxesBatched(rectangles, scores, class_ids, 0.0, iou)
    return np.sort(np.asarray(kept, np.intp).reshape(-1))
