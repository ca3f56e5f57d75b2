"""Boxes x1 y1 x2 y2 in pixels."""

from __future__ import annotations

from collections.abc import Sequence


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Return intersection over union of two boxes, 0 where they do not overlap."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (first[2] - first[0]) * (first[3] - first[1]) + (second[2] - second[0]) * (second[3] - second[1])
    return float(width * height / (areas - width * height))
