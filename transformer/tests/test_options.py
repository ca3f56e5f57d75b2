"""What a request may ask for, and what it is told when it asks wrongly."""

from __future__ import annotations

import math

import pytest

from servekit.errors import InvalidRequest
from yolo_transformer.options import DetectionOptions, parse_options

LABELS = ("person", "car", "traffic light")


def test_a_request_that_asks_for_nothing_gets_the_defaults() -> None:
    assert parse_options({}, LABELS) == DetectionOptions(0.25, 0.65, 300, None, False, False, "polygon")


def test_names_of_other_things_are_left_alone() -> None:
    assert parse_options({"sequence_id": 7, "binary_data_output": True, "timeout": 5}, LABELS) == DetectionOptions()


@pytest.mark.parametrize("value", [0.5, "0.5", "5e-1", " 0.5"])
def test_numbers_may_come_as_texts(value) -> None:
    assert parse_options({"confidence_threshold": value}, LABELS).confidence_threshold == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "nan", "much", "", True])
@pytest.mark.parametrize("name", ["confidence_threshold", "iou_threshold"])
def test_thresholds_are_from_0_to_1(name, value) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}' must be a number from 0 to 1"):
        parse_options({name: value}, LABELS)


@pytest.mark.parametrize("value", [0, -1, 1001, 1.5, "many", math.nan, math.inf, True, 10**400, "9" * 400])
def test_max_detections_is_a_whole_number_within_bounds(value) -> None:
    with pytest.raises(InvalidRequest, match="'max_detections' must be a whole number"):
        parse_options({"max_detections": value}, LABELS)


@pytest.mark.parametrize(("value", "truth"), [(True, True), ("true", True), ("FALSE", False), (1, True), ("0", False)])
def test_truth_values_may_come_as_texts(value, truth) -> None:
    assert parse_options({"agnostic_nms": value, "return_image": value}, LABELS).agnostic_nms is truth


@pytest.mark.parametrize("value", ["yes please", 2, 0.5, ""])
def test_other_truth_values_are_refused(value) -> None:
    with pytest.raises(InvalidRequest, match="'return_image' must be true or false"):
        parse_options({"return_image": value}, LABELS)


@pytest.mark.parametrize(
    ("value", "ids"),
    [("car", {1}), ("0,2", {0, 2}), ("traffic light, person", {0, 2}), (1, {1})],
)
def test_classes_are_names_or_ids(value, ids) -> None:
    assert parse_options({"classes": value}, LABELS).classes == ids


@pytest.mark.parametrize("value", ["dog", "3", "-1", "car,,person", "", "9" * 50, "x" * 10_000])
def test_unknown_classes_are_named(value) -> None:
    with pytest.raises(InvalidRequest, match="the model knows no class") as refusal:
        parse_options({"classes": value}, LABELS)
    assert len(refusal.value.message) < 150


def test_mask_formats_are_listed_when_another_is_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="one of polygon, rle, none, not 'bitmap'"):
        parse_options({"mask_format": "bitmap"}, LABELS)
