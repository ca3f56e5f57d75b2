"""The scene generator keeps its promises: the same scene for the same seed, and truth that agrees with itself."""

import math

import numpy as np
import pytest

from yolo_client import shapes
from yolo_client.shapes import LABELS, MIN_VISIBLE, Scene, draw_scene

SEEDS = range(60)
SIZES = [(320, 320), (480, 640), (200, 352)]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in SEEDS]


def test_the_same_seed_draws_the_same_scene() -> None:
    first, second = draw_scene(7, 240, 320), draw_scene(7, 240, 320)
    for name in ("image", "boxes", "class_ids", "masks", "visible"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_another_seed_draws_another_scene() -> None:
    assert not np.array_equal(draw_scene(1).image, draw_scene(2).image)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    np.random.seed(3)  # noqa: NPY002  # the legacy state is what must stay untouched
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    draw_scene(5)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_arrays_have_the_promised_shapes_and_types(height: int, width: int) -> None:
    scene = draw_scene(11, height, width)
    count = len(scene.class_ids)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert (scene.boxes.shape, scene.boxes.dtype) == ((count, 4), np.float32)
    assert scene.class_ids.dtype == np.int64
    assert (scene.masks.shape, scene.masks.dtype) == ((count, height, width), np.bool_)
    assert (scene.visible.shape, scene.visible.dtype) == ((count,), np.float32)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_each_box_is_the_tight_box_of_its_mask(height: int, width: int) -> None:
    for seed in range(10):
        scene = draw_scene(seed, height, width)
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_no_pixel_belongs_to_two_shapes(scenes: list[Scene]) -> None:
    assert max(scene.masks.sum(axis=0).max() for scene in scenes) == 1


def test_every_class_appears(scenes: list[Scene]) -> None:
    seen = np.concatenate([scene.class_ids for scene in scenes])
    assert set(seen.tolist()) == set(range(len(LABELS)))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_there_is_a_shape_and_never_more_than_asked_for(most: int) -> None:
    counts = [len(draw_scene(seed, 128, 128, max_shapes=most).class_ids) for seed in range(40)]
    assert min(counts) >= 1
    assert max(counts) == most


def test_no_shape_is_hidden_beyond_the_promise(scenes: list[Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    shares = np.concatenate([scene.visible for scene in scenes])
    assert shares.min() >= MIN_VISIBLE
    assert shares.max() <= 1
    assert (shares < 1).any(), "no scene overlaps anything: the promise was not put to the test"
    monkeypatch.setattr(shapes, "MIN_VISIBLE", 0.0)
    careless = np.concatenate([draw_scene(seed).visible for seed in SEEDS])
    assert careless.min() < MIN_VISIBLE


def test_no_shape_is_tiny(scenes: list[Scene]) -> None:
    for scene in scenes:
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert sides.min() >= 0.05 * 320
        assert sides.max(axis=1).min() >= 0.08 * 320


def test_a_whole_shape_covers_its_box_as_geometry_says() -> None:
    fills: dict[str, list[float]] = {label: [] for label in LABELS}
    for seed in range(150):
        scene = draw_scene(seed, 256, 256, max_shapes=2)
        for box, class_id, mask, share in zip(scene.boxes, scene.class_ids, scene.masks, scene.visible, strict=True):
            if share == 1:
                fills[LABELS[class_id]].append(float(mask.sum() / np.prod(box[2:] - box[:2])))
    assert all(fills.values())
    assert np.mean(fills["circle"]) == pytest.approx(math.pi / 4, abs=0.03)
    assert max(fills["ring"]) < min(fills["circle"])
    assert max(fills["star"]) < min(fills["hexagon"])
    assert min(fills["square"]) > 0.48


def test_a_shape_stands_out_from_what_surrounds_it() -> None:
    for seed in range(20):
        scene = draw_scene(seed, max_shapes=1)
        mask = scene.masks[0]
        x1, y1, x2, y2 = scene.boxes[0].astype(int)
        around = ~mask[y1:y2, x1:x2]
        window = scene.image[y1:y2, x1:x2].astype(float)
        apart = np.linalg.norm(window[~around].mean(axis=0) - window[around].mean(axis=0))
        assert apart > 10, seed
