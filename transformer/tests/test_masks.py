"""Masks lie where the network saw the object, and their forms on the wire mean the same pixels."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from yolo_transformer.images import PictureLimits, decode
from yolo_transformer.letterbox import Placement, letterbox_into, plan
from yolo_transformer.masks import Mask, encode, instance_masks, to_polygons, to_rle

ASSETS = Path(os.environ.get("YOLO_ASSETS", Path(__file__).resolve().parents[2] / "../shared/assets"))
REFERENCE = ASSETS.parent / "reference/yolo11n-seg.json"
# Two scenes, and those whose small objects show a displacement of half a cell.
PICTURES = [
    "images/bus.jpg",
    "images/zidane.jpg",
    "coco/images/000000000139.jpg",
    "coco/images/000000001761.jpg",
    "coco/images/000000002473.jpg",
]

sides = st.integers(1, 24)


@st.composite
def placed_masks(draw):
    """A mask in a picture, with that picture's height and width; the mask may touch each border, or be of no pixels."""
    height, width = draw(sides), draw(sides)
    top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
    shape = draw(st.integers(0, height - top)), draw(st.integers(0, width - left))
    bits = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.nothing()))
    return Mask(top, left, bits), height, width


def in_picture(mask, height, width):
    full = np.zeros((height, width), np.uint8)
    rows, columns = mask.bits.shape
    full[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.bits
    return full


def overlap(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


@given(placed_masks())
def test_run_lengths_are_those_that_coco_writes(some) -> None:
    full = in_picture(*some)
    written = to_rle(*some)
    expected = coco.encode(np.asfortranarray(full))
    counts = expected["counts"]
    assert written == {
        "size": list(full.shape),
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


@pytest.mark.parametrize(("height", "width"), [(1080, 810), (3, 5000), (4000, 4000)])
def test_run_lengths_of_large_pictures_decode_to_the_same_pixels(height, width) -> None:
    bits = (np.random.default_rng(height).random((min(300, height), 400)) > 0.98).astype(np.uint8)
    mask = Mask(height - bits.shape[0], width - 400, bits)
    np.testing.assert_array_equal(coco.decode(to_rle(mask, height, width)), in_picture(mask, height, width))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 900), st.integers(0, 900))
def test_a_rectangle_has_a_polygon_of_its_four_corners(height, width, top, left) -> None:
    rings = to_polygons(Mask(top, left, np.ones((height, width), np.uint8)))
    assert len(rings) == 1
    corners = {tuple(point) for point in np.reshape(rings[0], (-1, 2)).tolist()}
    assert corners == {(x, y) for x in (left, left + width) for y in (top, top + height)}


@given(placed_masks())
def test_polygons_reach_as_far_as_the_pixels_do(some) -> None:
    mask, height, width = some
    rings = to_polygons(mask)
    assert bool(rings) == bool(mask.bits.any())
    if rings:
        assert all(len(ring) >= 6 for ring in rings)
        rows, columns = np.nonzero(in_picture(mask, height, width))
        points = np.concatenate(rings).reshape(-1, 2)
        # A corner may be cut off where it saves a point, by a pixel at most.
        assert (points.min(axis=0) >= [columns.min(), rows.min()]).all()
        assert (points.max(axis=0) <= [columns.max() + 1, rows.max() + 1]).all()
        assert (points.min(axis=0) <= [columns.min() + 1, rows.min() + 1]).all()
        assert (points.max(axis=0) >= [columns.max(), rows.max()]).all()


def test_parts_that_lie_apart_have_rings_of_their_own() -> None:
    bits = np.zeros((20, 20), np.uint8)
    bits[2:8, 2:8] = bits[12:18, 12:18] = 1
    assert len(to_polygons(Mask(0, 0, bits))) == 2


def test_a_ring_runs_around_every_hole_and_encloses_what_is_between() -> None:
    bits = np.ones((90, 120), np.uint8)
    bits[10:30, 10:50] = bits[10:30, 60:110] = bits[40:80, 20:100] = 0
    (ring,) = to_polygons(Mask(5, 7, bits))
    x, y = np.reshape(ring, (-1, 2)).T
    enclosed = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    # Along the holes' 500 pixels of edges the ring may be a quarter of one off, where that saves points.
    assert enclosed == pytest.approx(bits.sum(), abs=500 / 4)


def test_the_polygons_of_pure_noise_take_no_time_to_speak_of() -> None:
    cells = np.random.default_rng(0).normal(size=(160, 160)).astype(np.float32)
    bits = (cv2.resize(cells, (1280, 720)) > 0).astype(np.uint8)
    began = time.process_time()
    rings = to_polygons(Mask(0, 0, bits))
    assert sum(len(ring) for ring in rings) > 10_000
    assert time.process_time() - began < 1.5


def test_the_polygons_of_a_smooth_shape_cover_its_pixels() -> None:
    bits = np.zeros((200, 300), np.uint8)
    cv2.ellipse(bits, (150, 100), (130, 80), 20, 0, 360, 1, cv2.FILLED)
    cv2.ellipse(bits, (150, 100), (50, 30), 20, 0, 360, 0, cv2.FILLED)
    mask = Mask(40, 60, bits)
    rings = to_polygons(mask)
    drawn = coco.decode(coco.merge(coco.frPyObjects(rings, 300, 400)))
    assert overlap(drawn, in_picture(mask, 300, 400)) > 0.98
    assert sum(len(ring) for ring in rings) < 400


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.sampled_from(list(Placement)),
    st.sampled_from([(64, 64), (64, 96), (128, 64)]),
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
)
def test_an_object_that_fills_everything_fills_the_pixels_its_box_touches(
    height, width, placement, canvas, part
) -> None:
    (x1, x2), (y1, y2) = sorted(part[:2]), sorted(part[2:])
    box = np.array([[x1 * width, y1 * height, x2 * width, y2 * height]], np.float32)
    prototypes = np.ones((1, canvas[0] // 4, canvas[1] // 4), np.float16)
    placed = plan(height, width, *canvas, placement)
    (mask,) = instance_masks(np.ones((1, 1), np.float16), prototypes, box, placed, *canvas)
    left, top, right, bottom = box[0].tolist()
    rows, columns = mask.bits.shape
    assert (mask.left, mask.top) == (int(left), int(top))
    assert (mask.left + columns, mask.top + rows) == (int(np.ceil(right)), int(np.ceil(bottom)))
    assert (mask.bits == 1).all()
    (none,) = instance_masks(-np.ones((1, 1), np.float16), prototypes, box, placed, *canvas)
    assert not none.bits.any()


@pytest.mark.parametrize("border", [17, 40, 63])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 128), (256, 256), (32, 64)])
def test_the_border_between_object_and_ground_lies_where_the_prototypes_have_it(height, width, border) -> None:
    # The logit grows evenly from left to right through 0 at `border` of the canvas.
    centres = (np.arange(32) + 0.5) * 4
    prototypes = np.tile(centres - border, (1, 32, 1)).astype(np.float16)
    placed = plan(height, width, 128, 128, Placement.CENTER)
    box = np.array([[0, 0, width, height]], np.float32)
    (mask,) = instance_masks(np.ones((1, 1), np.float16), prototypes, box, placed, 128, 128)
    expected = (np.arange(width) + 0.5) * placed.scale_x + placed.left > border
    assert (mask.bits == expected).all()


def test_no_objects_have_no_masks() -> None:
    placed = plan(64, 64, 64, 64, Placement.CENTER)
    empty = instance_masks(
        np.empty((0, 1), np.float16), np.ones((1, 16, 16), np.float16), np.empty((0, 4)), placed, 64, 64
    )
    assert empty == ()


def test_an_object_of_no_pixels_has_an_empty_mask_in_every_form() -> None:
    placed = plan(64, 64, 64, 64, Placement.CENTER)
    box = np.array([[10, 10, 10, 20]], np.float32)
    (mask,) = instance_masks(np.ones((1, 1), np.float16), np.ones((1, 16, 16), np.float16), box, placed, 64, 64)
    assert encode(mask, "polygon", 64, 64) == []
    assert not coco.decode(encode(mask, "rle", 64, 64)).any()
    assert encode(mask, "none", 64, 64) is None


def test_memory_grows_with_the_boxes_not_with_the_picture() -> None:
    count = 300
    placed = plan(6000, 8000, 640, 640, Placement.CENTER)
    corners = np.random.default_rng(0).uniform(0, 5900, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 60], axis=1)
    tracemalloc.start()
    masks = instance_masks(
        np.ones((count, 32), np.float16), np.ones((32, 160, 160), np.float16), boxes, placed, 640, 640
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(mask.bits.size for mask in masks) < 2_000_000
    assert peak < 16_000_000


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f"no reference at {REFERENCE}: set YOLO_ASSETS to the assets")
def test_masks_are_those_of_the_reference() -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(ASSETS / "weights/yolo11n-seg.onnx", providers=["CPUExecutionProvider"])
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))["images"]
    overlaps = []
    for name in PICTURES:
        image = decode((ASSETS / name).read_bytes(), PictureLimits())
        height, width = image.shape[:2]
        placed = plan(height, width, 640, 640, Placement.CENTER)
        canvas = np.empty((640, 640, 3), np.uint8)
        letterbox_into(image, canvas, placed)
        (heads,), (prototypes,) = session.run(
            None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32) / 255}
        )
        for expected in reference[name]["detections"]:
            box = np.array([expected["box"]], np.float32)
            scale, offset = [placed.scale_x, placed.scale_y] * 2, [placed.left, placed.top] * 2
            x1, y1, x2, y2 = box[0] * scale + offset
            centred = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
            misses = np.abs(heads[:4].T - centred).max(axis=1)
            misses += 100 * np.abs(heads[4 + expected["class_id"]] - expected["score"])
            coefficients = heads[84:, np.argmin(misses)][None].astype(np.float16)
            (mask,) = instance_masks(coefficients, prototypes.astype(np.float16), box, placed, 640, 640)
            overlaps.append(overlap(in_picture(mask, height, width), coco.decode(expected["mask_rle"])))
    assert len(overlaps) > 20
    assert min(overlaps) > 0.98
    assert np.mean(overlaps) > 0.995
