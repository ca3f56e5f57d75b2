"""How far two versions of a model see the same things in the same pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from yolo_client.boxes import iou
from yolo_client.client import Detection

MIN_IOU: Final = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts over pictures, that add up.

    stable, canary: detections of each version. matched: pairs of the same label that overlap by `MIN_IOU`. iou_sum:
    over the pairs. score_sum: the canary's score less the stable version's, over the pairs. unmatched: by label, the
    detections of either version that the other lacks. pictures: how many were compared.
    """

    stable: int = 0
    canary: int = 0
    matched: int = 0
    iou_sum: float = 0.0
    score_sum: float = 0.0
    unmatched: Mapping[str, int] = field(default_factory=dict)
    pictures: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        labels = {*self.unmatched, *other.unmatched}
        return Agreement(
            self.stable + other.stable,
            self.canary + other.canary,
            self.matched + other.matched,
            self.iou_sum + other.iou_sum,
            self.score_sum + other.score_sum,
            {label: self.unmatched.get(label, 0) + other.unmatched.get(label, 0) for label in labels},
            self.pictures + other.pictures,
        )

    @property
    def ratio(self) -> float:
        """Twice the pairs over all detections, 0..1; 1 where neither version found anything.

        This is the coefficient of Dice (1945, "Measures of the amount of ecologic association between species"), and
        the F1 score that the canary would have if the stable version were the truth.
        """
        found = self.stable + self.canary
        return 2 * self.matched / found if found else 1.0

    @property
    def mean_iou(self) -> float:
        """The mean overlap of the pairs, 0 where there is none."""
        return self.iou_sum / self.matched if self.matched else 0.0

    @property
    def score_shift(self) -> float:
        """By how much the canary is surer than the stable version of what both found, on average, -1..1."""
        return self.score_sum / self.matched if self.matched else 0.0

    def worst_labels(self, count: int = 3) -> tuple[tuple[str, int], ...]:
        """Return the labels with the most detections that only one version has, and how many those are."""
        return tuple(sorted(self.unmatched.items(), key=lambda item: (-item[1], item[0]))[:count])


def compare(stable: Sequence[Detection], canary: Sequence[Detection]) -> Agreement:
    """Return the agreement of two versions on one picture.

    Pairs are made greedily, the most overlapping first, so that which version comes first changes nothing but the
    score's sign.
    """
    overlaps = sorted(
        (
            (iou(ours.box, theirs.box), first, second)
            for first, ours in enumerate(stable)
            for second, theirs in enumerate(canary)
            if ours.label == theirs.label
        ),
        key=lambda overlap: -overlap[0],
    )
    left, right = set(range(len(stable))), set(range(len(canary)))
    iou_sum = score_sum = 0.0
    for overlap, first, second in overlaps:
        if overlap < MIN_IOU:
            break
        if first in left and second in right:
            left.remove(first)
            right.remove(second)
            iou_sum += overlap
            score_sum += canary[second].score - stable[first].score
    alone = [*(stable[index].label for index in left), *(canary[index].label for index in right)]
    return Agreement(
        len(stable),
        len(canary),
        len(stable) - len(left),
        iou_sum,
        score_sum,
        {label: alone.count(label) for label in alone},
        1,
    )


def total(agreements: Iterable[Agreement]) -> Agreement:
    """Return the agreement over all pictures."""
    return sum(agreements, Agreement())
