"""How far the detections of one model are from those of another: agreement, and the mAP with the other's as truth.

The mean average precision is COCO's (`COCOeval` of cocodataset/cocoapi): for every class and each overlap 0.50, 0.55 …
0.95, detections of all pictures, best first, take the truth they overlap most; the precision, made to fall, is read at
the recalls 0, 0.01 … 1 and averaged. At most `MOST` detections of a picture count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
CONFIDENT = 0.25
"""Score from which a detection is one that a user sees."""
SAME = 0.5
"""Overlap from which two boxes of a class are taken for the same object."""
SUPPRESSED = 0.65

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model finds in a picture, best first."""

    boxes: Floats
    """(N, 4) float64: x1 y1 x2 y2 in pixels."""
    scores: Floats
    """(N,) float64, 0..1."""
    classes: npt.NDArray[np.int64]
    """(N,) int64."""
    rows: npt.NDArray[np.intp]
    """(N,) positions among the graph's candidates."""

    def where(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Detections":
        """Return the detections of a mask, or at the given positions."""
        return Detections(self.boxes[kept], self.scores[kept], self.classes[kept], self.rows[kept])

    def confident(self) -> "Detections":
        """Return the ones that a user sees."""
        return self.where(self.scores >= CONFIDENT)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two models' confident detections agree; averages over the pairs are 1, 0 and 1 where there are none."""

    wanted: int
    """Detections of the reference."""
    found: int
    """Those of them that have a partner: of the same class, with the overlap `SAME`."""
    extra: int
    """Detections without a partner in the reference."""
    overlap: float
    """Mean intersection over union of the pairs."""
    score_change: float
    """Mean absolute difference of the pairs' scores."""
    mean_ap: float
    """mAP50-95 with the reference's confident detections as truth, of all that the other finds."""


def overlaps(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union of boxes (N, 4) with boxes (M, 4): (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - inner
    shared: Floats = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return shared


def suppress(found: Detections) -> Detections:
    """Drop what overlaps a better one of its class by more than `SUPPRESSED`: greedily, best first."""
    left = np.argsort(-found.scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        near = overlaps(found.boxes[best][None], found.boxes[left])[0] > SUPPRESSED
        left = left[~(near & (found.classes[left] == found.classes[best]))]
    return found.where(np.asarray(kept, np.intp))


def compare(reference: Sequence[Detections], other: Sequence[Detections]) -> Agreement:
    """Compare what two models find in the same pictures."""
    truths = [found.confident() for found in reference]
    pairs = [
        (truth, seen, partners(truth, seen))
        for truth, seen in zip(truths, (found.confident() for found in other), strict=True)
    ]
    matched = [(truth.where(mine), seen.where(theirs)) for truth, seen, (mine, theirs) in pairs]
    boxes = [np.diag(overlaps(truth.boxes, seen.boxes)) for truth, seen in matched]
    changes = [np.abs(truth.scores - seen.scores) for truth, seen in matched]
    found = sum(len(truth.scores) for truth, _ in matched)
    return Agreement(
        wanted=sum(len(truth.scores) for truth in truths),
        found=found,
        extra=sum(len(seen.scores) for _, seen, _ in pairs) - found,
        overlap=float(np.concatenate(boxes).mean()) if found else 1.0,
        score_change=float(np.concatenate(changes).mean()) if found else 0.0,
        mean_ap=mean_average_precision(truths, other),
    )


def partners(truth: Detections, seen: Detections) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of the pairs, in both; the best detections choose first."""
    table = overlaps(seen.boxes, truth.boxes) * (seen.classes[:, None] == truth.classes[None])
    taken = _take(table, SAME)
    return taken[taken >= 0].astype(np.intp), np.flatnonzero(taken >= 0)


def _take(table: Floats, least: float) -> npt.NDArray[np.int64]:
    """Return which column each row gets, -1 for none: its largest that is free, `least` or more; rows go in turn."""
    free = np.ones(table.shape[1], bool)
    taken = np.full(table.shape[0], -1, np.int64)
    for row, values in enumerate(table):
        open_ = np.where(free, values, -1.0)
        # Of equal ones the last, as COCO's evaluation has it.
        best = table.shape[1] - 1 - int(open_[::-1].argmax()) if table.shape[1] else -1
        if best >= 0 and open_[best] >= min(least, 1 - 1e-10):
            taken[row], free[best] = best, False
    return taken


def mean_average_precision(truths: Sequence[Detections], found: Sequence[Detections]) -> float:
    """Return COCO's mAP50-95 over the classes of the truths; 1 where there are none and nothing is found."""
    classes = sorted({int(number) for truth in truths for number in truth.classes})
    if not classes:
        return 0.0 if any(seen.confident().scores.size for seen in found) else 1.0
    best = [seen.where(np.argsort(-seen.scores, kind="stable")) for seen in found]
    return float(np.mean([_average_precision(truths, best, number) for number in classes]))


def _average_precision(truths: Sequence[Detections], found: Sequence[Detections], number: int) -> float:
    scores, hits, count = [], [], 0
    for truth, seen in zip(truths, found, strict=True):
        mine, theirs = truth.where(truth.classes == number), seen.where(seen.classes == number)
        theirs = theirs.where(np.arange(len(theirs.scores)) < MOST)
        count += len(mine.scores)
        table = overlaps(theirs.boxes, mine.boxes)
        hits.append(np.stack([_take(table, least) >= 0 for least in OVERLAPS]))
        scores.append(theirs.scores)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.cumsum(np.concatenate(hits, axis=1)[:, order], axis=1)
    recall, precision = right / count, right / np.arange(1, len(order) + 1)
    return float(np.mean([_area(*curve) for curve in zip(recall, precision, strict=True)]))


def _area(recall: Floats, precision: Floats) -> float:
    """Return the mean precision at `RECALLS`; both (N,), the recall rising."""
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return float(np.where(at < len(falling), np.append(falling, 0)[at], 0).mean())
