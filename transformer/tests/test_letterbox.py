"""Putting a picture into the network's canvas, and its boxes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_transformer.boxes import to_picture
from yolo_transformer.letterbox import PAD_VALUE, Placement, letterbox_into, plan

sides = st.integers(1, 5000)
canvases = st.sampled_from([32, 320, 416, 640, 1280])
placements = st.sampled_from(list(Placement))


@given(sides, sides, canvases, canvases, placements)
def test_the_picture_lies_within_the_canvas_and_touches_two_borders(
    height, width, canvas_h, canvas_w, placement
) -> None:
    placed = plan(height, width, canvas_h, canvas_w, placement)
    assert placed.top >= 0
    assert placed.left >= 0
    assert placed.top + placed.new_height <= canvas_h
    assert placed.left + placed.new_width <= canvas_w
    assert placed.new_height == canvas_h or placed.new_width == canvas_w


@given(st.integers(2, 3000), st.integers(2, 3000), canvases, placements, st.data())
def test_a_box_that_went_into_the_canvas_comes_back(height, width, side, placement, data) -> None:
    placed = plan(height, width, side, side, placement)
    x1, x2 = sorted(data.draw(st.floats(0, width, width=32)) for _ in range(2))
    y1, y2 = sorted(data.draw(st.floats(0, height, width=32)) for _ in range(2))
    box = np.array([[x1, y1, x2, y2]], np.float32)
    scale = np.array([placed.scale_x, placed.scale_y] * 2, np.float32)
    offset = np.array([placed.left, placed.top] * 2, np.float32)
    np.testing.assert_allclose(to_picture(box * scale + offset, placed), box, atol=max(height, width) * 1e-4)


@given(sides, sides, st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_boxes_end_at_the_borders_of_the_picture(height, width, corners) -> None:
    box = to_picture(np.array([corners], np.float32), plan(height, width, 640, 640, Placement.CENTER))[0]
    assert 0 <= box[0] <= width
    assert 0 <= box[1] <= height
    assert 0 <= box[2] <= width
    assert 0 <= box[3] <= height


@pytest.mark.parametrize(
    ("height", "width", "placement", "expected"),
    [
        (1080, 810, Placement.CENTER, (640, 480, 0, 80)),
        (720, 1280, Placement.CENTER, (360, 640, 140, 0)),
        (427, 640, Placement.CENTER, (427, 640, 106, 0)),  # of 213 rows the larger half goes below
        (720, 1280, Placement.TOP_LEFT, (360, 640, 0, 0)),
        (333, 500, Placement.STRETCH, (640, 640, 0, 0)),
    ],
)
def test_known_pictures_lie_where_the_networks_saw_them(height, width, placement, expected) -> None:
    placed = plan(height, width, 640, 640, placement)
    assert (placed.new_height, placed.new_width, placed.top, placed.left) == expected


@given(st.integers(1, 200), st.integers(1, 200), placements)
def test_a_reused_canvas_holds_the_picture_and_nothing_of_the_last_one(height, width, placement) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    canvas = np.full((64, 96, 3), 7, np.uint8)
    placed = plan(height, width, 64, 96, placement)
    letterbox_into(image, canvas, placed)
    inside = np.zeros((64, 96), bool)
    inside[placed.top : placed.top + placed.new_height, placed.left : placed.left + placed.new_width] = True
    assert (canvas[inside] == 200).all()
    assert (canvas[~inside] == PAD_VALUE).all()


def test_a_picture_of_the_right_size_is_copied_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    canvas = np.empty((64, 64, 3), np.uint8)
    letterbox_into(image, canvas, plan(64, 64, 64, 64, Placement.CENTER))
    np.testing.assert_array_equal(canvas, image)
