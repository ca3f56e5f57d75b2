"""Instance masks: from prototypes to pixels of the picture, and their forms on the wire."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from yolo_transformer.letterbox import LetterboxPlan

_MIN_HOLE_AREA: Final = 4.0
_TOLERANCE: Final = 0.7
_FINE_PIXELS: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Mask:
    """An object's pixels, inside its box only.

    bits: (h, w) uint8, 1 where the object is; its first element is the picture's pixel (`top`, `left`). Either side
    may be 0: an object of no pixels.
    """

    top: int
    left: int
    bits: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Cover:
    """The cells `near` to `far` of one axis of the prototypes that a picture of `length` pixels covers.

    As in the reference they are whole cells, those nearest to the picture's borders, stretched over it.
    """

    length: int
    near: int
    far: int


@dataclass(frozen=True, slots=True)
class _Axis:
    """Pixels `start` to `stop` of one axis of a picture, and the `low` to `high` cells of the prototypes they need.

    Pixel start + i has its centre at cell low + i * step + offset, where whole numbers are the centres of cells.
    """

    start: int
    stop: int
    low: int
    high: int
    step: float
    offset: float


def instance_masks(
    coefficients: npt.NDArray[np.float16],
    prototypes: npt.NDArray[np.floating[Any]],
    boxes: npt.NDArray[np.float32],
    plan: LetterboxPlan,
    canvas_height: int,
    canvas_width: int,
) -> tuple[Mask, ...]:
    """Return the mask of each box, cut to the pixels that the box touches.

    coefficients: (N, C) float16. prototypes: (C, h, w) float16 over the whole canvas of the plan. boxes: (N, 4)
    float32, x1 y1 x2 y2 in pixels of the picture, inside it. The work and the memory of a mask grow with its box.
    """
    channels, cells_high, cells_wide = prototypes.shape
    weights = coefficients.astype(np.float32)
    rows = _cover(plan.height, plan.top, plan.new_height, canvas_height, cells_high)
    columns = _cover(plan.width, plan.left, plan.new_width, canvas_width, cells_wide)
    spans = [(_axis(y1, y2, rows), _axis(x1, x2, columns)) for x1, y1, x2, y2 in boxes.tolist()]
    if sum((y.high - y.low) * (x.high - x.low) for y, x in spans) > cells_high * cells_wide:
        # Boxes that share their cells would have them converted again and again.
        prototypes = _as_float32(prototypes)
    masks = []
    for row, (y, x) in zip(weights, spans, strict=True):
        size = (x.stop - x.start, y.stop - y.start)
        if 0 in size:
            masks.append(Mask(y.start, x.start, np.zeros(size[::-1], np.uint8)))
            continue
        crop = _as_float32(prototypes[:, y.low : y.high, x.low : x.high])
        logits = (row @ crop.reshape(channels, -1)).reshape(crop.shape[1:])
        pixel_to_cell = np.array([[x.step, 0, x.offset], [0, y.step, y.offset]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        full = cv2.warpAffine(logits, pixel_to_cell, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        masks.append(Mask(y.start, x.start, (full > 0).view(np.uint8)))
    return tuple(masks)


def _as_float32(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    # OpenCV's conversion from float16 is several times as fast as numpy's.
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    converted: npt.NDArray[np.float32] = cv2.add(flat, 0, dtype=cv2.CV_32F)
    return converted.reshape(values.shape)


def _cover(length: int, offset: int, extent: int, canvas: int, cells: int) -> _Cover:
    near = min(round(offset * cells / canvas), cells - 1)
    return _Cover(length, near, min(max(round((offset + extent) * cells / canvas), near + 1), cells))


def _axis(first: float, last: float, cover: _Cover) -> _Axis:
    start = min(max(math.floor(first), 0), cover.length)
    stop = min(max(math.ceil(last), start), cover.length)
    step = (cover.far - cover.near) / cover.length
    begin = cover.near + (start + 0.5) * step - 0.5
    low = min(max(math.floor(begin), cover.near), cover.far - 1)
    high = min(max(math.floor(begin + (stop - start - 1) * step) + 2, low + 1), cover.far)
    return _Axis(start, stop, low, high, step, begin - low)


def encode(mask: Mask, mask_format: str, height: int, width: int) -> Any:
    """Return the mask, in a picture of `height` x `width` pixels, as JSON takes it: `polygon`, `rle`, null for none."""
    if mask_format == "polygon":
        return to_polygons(mask)
    return to_rle(mask, height, width) if mask_format == "rle" else None


def to_rle(mask: Mask, height: int, width: int) -> dict[str, Any]:
    """Return COCO's compressed run lengths, {"size": [height, width], "counts": text}, of the mask in its picture."""
    rows, columns = mask.bits.shape
    # Down one column after the other, each with a background pixel behind it, so that every run ends in its own.
    line = np.zeros(1 + columns * (rows + 1), np.uint8)
    if mask.bits.size:
        line[1:].reshape(columns, rows + 1)[:, :rows] = cv2.transpose(mask.bits)
    edges = np.flatnonzero(line[1:] != line[:-1])
    column, row = np.divmod(edges, rows + 1)
    edges = (column + mask.left) * height + row + mask.top
    # In the picture a run at the foot of a column and one at the head of the next are one.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate((joined, joined + 1)))
    total = height * width
    ends = edges if edges.size and edges[-1] == total else np.append(edges, total)
    return {"size": [height, width], "counts": _compress(np.diff(ends, prepend=0))}


def _compress(counts: npt.NDArray[np.int64]) -> str:
    """Return run lengths as COCO's text: five bits a character, each count less the one before the last."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters: list[npt.NDArray[np.uint8]] = []
    unfinished = np.ones(len(values), bool)
    while unfinished.any():
        digits = values & 31
        values >>= 5
        # A number ends where only copies of its sign bit are left; a 0 marks the place of a character it has not.
        more = values != -(digits >> 4)
        characters.append(((digits + 32 * more + 48) * unfinished).astype(np.uint8))
        unfinished &= more
    return np.stack(characters, axis=1).tobytes().replace(b"\0", b"").decode("ascii")


def to_polygons(mask: Mask) -> list[list[float]]:
    """Return [[x1, y1, x2, y2, ...], ...] in pixels of the picture, along the outer edges of the mask's pixels.

    One ring of at least 3 points for each connected part. A ring with holes runs to each and back along a line.
    """
    if 0 in mask.bits.shape:
        return []
    # A pixel enlarged and spread to its corners: contours then run along the pixels' edges, not through their centres,
    # and cut no more than half a pixel off where these turn inwards. In large masks that does not show.
    scale = 2 if mask.bits.size <= _FINE_PIXELS else 1
    enlarged = cv2.resize(mask.bits, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    framed = cv2.copyMakeBorder(enlarged, 0, 1, 0, 1, cv2.BORDER_CONSTANT)
    corners = cv2.dilate(framed, np.ones((2, 2), np.uint8), anchor=(1, 1))
    contours, hierarchy = cv2.findContours(corners, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    rings = {}
    holes: dict[int, list[npt.NDArray[Any]]] = {}
    for number, (contour, (_, _, _, parent)) in enumerate(zip(contours, hierarchy[0], strict=True)):
        if parent < 0:
            rings[number] = _simplify(contour, scale)
        elif cv2.contourArea(contour) >= _MIN_HOLE_AREA * scale**2:
            holes.setdefault(parent, []).append(_simplify(contour, scale))
    for outer, inside in holes.items():
        rings[outer] = _with_holes(rings[outer], inside)
    shift = np.array([mask.left, mask.top], np.float64)
    return [(ring + shift).ravel().tolist() for ring in rings.values()]


def _simplify(contour: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Return the contour (K, 1, 2) as (k, 2), k >= 3, in pixels; less than one off, and less still for small ones."""
    tolerance = min(_TOLERANCE * scale, 0.02 * math.sqrt(cv2.contourArea(contour)))
    simple = cv2.approxPolyDP(contour, tolerance, closed=True)
    return (simple if len(simple) >= 3 else contour)[:, 0] / scale


def _with_holes(ring: npt.NDArray[Any], holes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the ring (K, 2) with a way to each hole, from where it comes closest to it, around and back."""
    ways = []
    for hole in holes:
        at = int(np.square(ring - hole[0]).sum(axis=1).argmin())
        ways.append((at, np.concatenate((hole, hole[:1], ring[at : at + 1]))))
    pieces, done = [], 0
    for at, way in sorted(ways, key=itemgetter(0)):
        pieces += [ring[done : at + 1], way]
        done = at + 1
    return np.concatenate((*pieces, ring[done:]))
