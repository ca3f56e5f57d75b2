"""How far two versions see the same: the measure itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.client import Detection
from yolo_client.rollout.agreement import Agreement, compare, total

LABELS = ("circle", "square", "star")
edges = st.integers(0, 60).map(float)


@st.composite
def detections(draw) -> Detection:
    x, y = draw(edges), draw(edges)
    label = draw(st.sampled_from(LABELS))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return Detection((x, y, x + width, y + height), draw(st.floats(0, 1)), LABELS.index(label), label)


pictures = st.lists(detections(), max_size=8)


def box(x: float, label: str = "circle", score: float = 0.5) -> Detection:
    return Detection((x, 0.0, x + 10, 10.0), score, LABELS.index(label), label)


@given(pictures)
def test_a_version_agrees_with_itself(found) -> None:
    agreement = compare(found, found)
    assert agreement.ratio == 1
    assert agreement.matched == len(found)
    assert not agreement.unmatched


@given(pictures, pictures)
def test_the_order_of_the_versions_changes_nothing_but_the_sign_of_the_score(first, second) -> None:
    there, back = compare(first, second), compare(second, first)
    assert there.matched == back.matched
    assert there.ratio == back.ratio
    assert there.unmatched == back.unmatched
    assert there.mean_iou == pytest.approx(back.mean_iou)


@given(pictures, pictures)
def test_the_ratio_is_a_share_and_every_detection_is_matched_once_or_unmatched(first, second) -> None:
    agreement = compare(first, second)
    assert 0 <= agreement.ratio <= 1
    assert agreement.stable + agreement.canary == 2 * agreement.matched + sum(agreement.unmatched.values())
    assert agreement.matched == 0 or 0.5 <= agreement.mean_iou <= 1


@given(st.lists(st.tuples(pictures, pictures), max_size=5), st.integers(0, 5))
def test_agreements_add_up_in_any_grouping(pairs, cut) -> None:
    each = [compare(first, second) for first, second in pairs]
    whole, parts = total(each), total([total(each[:cut]), total(each[cut:])])
    assert (whole.stable, whole.canary, whole.matched, whole.pictures) == (
        parts.stable,
        parts.canary,
        parts.matched,
        parts.pictures,
    )
    assert whole.unmatched == parts.unmatched
    assert whole.iou_sum == pytest.approx(parts.iou_sum)


def test_two_empty_lists_agree() -> None:
    assert compare([], []).ratio == 1
    assert compare([], []).pictures == 1


def test_one_empty_list_does_not_agree_with_another_that_is_not() -> None:
    assert compare([box(0)], []).ratio == 0
    assert compare([], [box(0)]).ratio == 0


def test_the_ratio_is_twice_the_pairs_over_all_detections() -> None:
    # Pairs: 0 and 20; only the stable version has 40: 2 * 2 / (3 + 2).
    assert compare([box(0), box(20), box(40)], [box(0), box(20)]).ratio == pytest.approx(0.8)


def test_the_same_box_with_another_label_is_no_pair() -> None:
    agreement = compare([box(0, "circle")], [box(0, "star")])
    assert agreement.ratio == 0
    assert agreement.unmatched == {"circle": 1, "star": 1}


@pytest.mark.parametrize(("shift", "matched"), [(3.3, 1), (3.4, 0)])
def test_a_pair_overlaps_by_half(shift, matched) -> None:
    # Two boxes 10 wide, one shifted by s: IoU (10 - s) / (10 + s), 0.5 at s = 10 / 3.
    assert compare([box(0)], [box(shift)]).matched == matched


def test_the_most_overlapping_pairs_are_made_first() -> None:
    agreement = compare([box(0)], [box(3), box(1)])
    assert agreement.matched == 1
    assert agreement.mean_iou == pytest.approx(9 / 11)


def test_one_detection_can_not_stand_for_two() -> None:
    assert compare([box(0), box(1)], [box(0)]).matched == 1


def test_the_score_shift_tells_who_is_surer() -> None:
    assert compare([box(0, score=0.5)], [box(0, score=0.8)]).score_shift == pytest.approx(0.3)
    assert compare([box(0, score=0.8)], [box(0, score=0.5)]).score_shift == pytest.approx(-0.3)


def test_the_labels_that_differ_most_come_first_and_ties_by_name() -> None:
    agreement = Agreement(unmatched={"star": 1, "circle": 3, "heart": 1})
    assert agreement.worst_labels(2) == (("circle", 3), ("heart", 1))


def test_nothing_matched_has_no_overlap_and_no_shift() -> None:
    assert (Agreement().mean_iou, Agreement().score_shift) == (0, 0)
    assert not math.isnan(Agreement().ratio)
