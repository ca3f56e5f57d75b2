"""Which candidates stay."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yolo_transformer.nms import select


def naive(boxes, scores, class_ids, confidence, iou, agnostic) -> list[int]:
    """Greedy suppression as the textbook has it, one pair at a time, in doubles."""
    order = sorted(
        (i for i in range(len(scores)) if scores[i] >= confidence and scores[i] > 0), key=lambda i: -scores[i]
    )
    kept: list[int] = []
    for i in order:
        if all((not agnostic and class_ids[i] != class_ids[j]) or overlap(boxes[i], boxes[j]) <= iou for j in kept):
            kept.append(i)
    return kept


def overlap(a, b) -> float:
    a, b = a.astype(float), b.astype(float)
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


@st.composite
def candidates(draw):
    count = draw(st.integers(0, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    corners = random.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 200, (count, 2))], 1).astype(np.float32)
    return boxes, random.random(count, np.float32), random.integers(0, 4, count).astype(np.int32)


@given(candidates(), st.floats(0, 0.9), st.sampled_from([0.3, 0.45, 0.65, 0.9]), st.booleans())
def test_the_same_candidates_stay_as_in_the_textbook(some, confidence, iou, agnostic) -> None:
    kept = select(*some, confidence=confidence, iou=iou, max_detections=1000, agnostic=agnostic)
    assert kept.tolist() == naive(*some, confidence, iou, agnostic)


@given(candidates(), st.integers(1, 5))
def test_the_best_ones_stay_when_there_are_too_many(some, most) -> None:
    everything = select(*some, confidence=0.1, iou=0.5, max_detections=1000)
    assert select(*some, confidence=0.1, iou=0.5, max_detections=most).tolist() == everything.tolist()[:most]


@given(candidates(), st.sets(st.integers(0, 3)))
def test_only_wanted_classes_stay(some, classes) -> None:
    kept = select(*some, confidence=0.0, iou=0.5, max_detections=1000, classes=classes)
    assert set(some[2][kept].tolist()) <= classes


def test_candidates_that_are_no_numbers_go() -> None:
    boxes = np.array([[0, 0, 10, 10], [np.nan, 0, 10, 10], [0, 0, np.inf, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, np.nan], np.float32)
    kept = select(boxes, scores, np.zeros(4, np.int32), confidence=0.25, iou=0.5, max_detections=10)
    assert kept.tolist() == [0]


def test_boxes_without_area_or_inside_out_go() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 40, 60], [50, 50, 60, 40], [20, 20, 20, 30]], np.float32)
    kept = select(
        boxes, np.full(4, 0.9, np.float32), np.arange(4, dtype=np.int32), confidence=0.25, iou=0.5, max_detections=10
    )
    assert kept.tolist() == [0]


def test_padding_with_score_zero_never_stays() -> None:
    boxes = np.zeros((5, 4), np.float32)
    kept = select(boxes, np.zeros(5, np.float32), np.zeros(5, np.int32), confidence=0, iou=0.5, max_detections=10)
    assert kept.size == 0


def test_nothing_is_suppressed_when_the_graph_did_it_already() -> None:
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (3, 1))
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    kept = select(boxes, scores, np.zeros(3, np.int32), confidence=0.25, iou=1.0, max_detections=10)
    assert kept.tolist() == [0, 1, 2]


def test_of_equal_scores_the_first_candidate_stays() -> None:
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (3, 1))
    kept = select(boxes, np.full(3, 0.5, np.float32), np.zeros(3, np.int32), confidence=0.25, iou=0.5, max_detections=9)
    assert kept.tolist() == [0]
