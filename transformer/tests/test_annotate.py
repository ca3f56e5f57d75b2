"""What is drawn, where, and in which colours."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_transformer.annotate import annotate, colour_of, encode_jpeg, pen_for
from yolo_transformer.images import PictureLimits, decode
from yolo_transformer.masks import Mask


def grey(height=480, width=640):
    return np.full((height, width, 3), 120, np.uint8)


def drawn_on(image, boxes, *, labels=None, masks=(), class_ids=None):
    count = len(boxes)
    return annotate(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(class_ids if class_ids is not None else range(count), np.int32),
        np.linspace(0.9, 0.3, count, dtype=np.float32),
        labels or [f"thing {number}" for number in range(count)],
        masks,
    )


def changed(before, after):
    return (before != after).any(axis=2)


def test_a_picture_without_detections_is_copied_and_the_original_stays_as_it_is() -> None:
    image = grey()
    drawn = drawn_on(image, [])
    assert drawn is not image
    np.testing.assert_array_equal(drawn, image)


def test_drawing_leaves_the_original_alone() -> None:
    image = grey()
    drawn_on(image, [[100, 100, 300, 300]], masks=(Mask(120, 120, np.ones((50, 50), np.uint8)),))
    assert (image == 120).all()


def test_a_box_is_lined_in_the_colour_of_its_class_and_empty_inside() -> None:
    drawn = drawn_on(grey(), [[100, 100, 300, 300]], class_ids=[7])
    for point in ((200, 100), (200, 300), (300, 200)):
        assert tuple(drawn[point].tolist()) == colour_of(7)
    assert not changed(grey(), drawn)[110:290, 110:290].any()


def test_a_plate_stands_on_its_box_with_a_text_of_high_contrast() -> None:
    drawn = drawn_on(grey(), [[100, 100, 300, 300]], labels=["person"], class_ids=[0])
    plate = drawn[pen_for(480, 640).letter * -2 + 100 : 99, 100:300]
    ground = (plate == colour_of(0)).all(axis=2)
    assert ground.sum() > 800
    luma = plate[..., 0] * 0.299 + plate[..., 1] * 0.587 + plate[..., 2] * 0.114
    assert np.abs(luma[ground].mean() - luma[luma < 60].mean()) > 80


def test_a_text_of_any_script_is_drawn_not_replaced_by_marks() -> None:
    texts = ["???", "Größe", "人行横道", "кошка"]
    images = [drawn_on(grey(), [[50, 100, 600, 300]], labels=[text]) for text in texts]
    for number, one in enumerate(images):
        for other in images[number + 1 :]:
            assert changed(one, other).any()


def test_plates_of_neighbours_do_not_cover_each_other_where_there_is_room() -> None:
    box = [200, 200, 400, 400]
    drawn = drawn_on(grey(), [box, box, box], labels=["one", "two", "three"], class_ids=[0, 1, 2])
    for class_id in range(3):
        assert (drawn == colour_of(class_id)).all(axis=2).sum() > 500


def test_a_mask_tints_its_pixels_and_no_others() -> None:
    bits = np.zeros((60, 80), np.uint8)
    bits[10:50, 10:70] = 1
    before = drawn_on(grey(), [[100, 100, 300, 300]])
    after = drawn_on(grey(), [[100, 100, 300, 300]], masks=(Mask(150, 150, bits),))
    inside = np.zeros((480, 640), bool)
    inside[160:200, 160:220] = True
    touched = changed(before, after)
    assert touched[inside].all()
    # The mask's contour is drawn smooth, so it may touch the pixels beside.
    assert not touched[~cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)].any()
    # What was there shows through.
    assert tuple(after[180, 190].tolist()) != colour_of(0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(st.tuples(*[st.floats(-50, 350, width=32)] * 4), max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)
def test_any_box_and_any_label_can_be_drawn_into_any_picture(height, width, boxes, label) -> None:
    image = grey(height, width)
    drawn = drawn_on(image, boxes, labels=[label] * len(boxes))
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_classes_have_colours_of_their_own_and_always_the_same() -> None:
    colours = [colour_of(class_id) for class_id in range(80)]
    assert len(set(colours)) == 80
    assert colour_of(3) == colours[3]
    for one, other in pairwise(colours):
        assert np.abs(np.subtract(one, other)).sum() > 100


@pytest.mark.parametrize("class_id", [0, 79, 364, 10_000, -1])
def test_a_colour_is_one_that_screens_have(class_id) -> None:
    assert all(0 <= channel <= 255 for channel in colour_of(class_id))


@given(st.integers(1, 16_384), st.integers(1, 16_384))
def test_lines_and_letters_grow_with_the_picture_and_never_vanish(height, width) -> None:
    pen = pen_for(height, width)
    assert pen.line >= 1
    assert 11 <= pen.letter <= 96
    larger = pen_for(2 * height, 2 * width)
    assert larger.line >= pen.line
    assert larger.letter >= pen.letter


def test_the_drawn_picture_survives_as_a_jpeg() -> None:
    drawn = drawn_on(grey(), [[100, 100, 300, 300]])
    encoded = encode_jpeg(drawn)
    again = decode(encoded, PictureLimits())
    assert again.shape == drawn.shape
    assert np.abs(again.astype(int) - drawn).mean() < 2
    assert len(encode_jpeg(drawn, quality=30)) < len(encoded)
