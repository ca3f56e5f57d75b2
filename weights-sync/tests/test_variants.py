"""Families that differ from YOLOv5, v8 and X in a detail: recognised, and decoded as plain numpy does."""

import numpy as np
import pytest
from test_prepare import SIZE, agree, best, original, pictures, run
from tiny_networks import STRIDES, yolox
from tiny_networks import yolov5 as plain_yolov5
from tiny_networks import yolov8 as plain_yolov8
from tiny_variants import NANODET_STRIDES, nanodet, raw_yolov7, yolov3_tiny, yolov6, yolov8, yolox_of_any_size

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare import prepare_model, read_card
from weights_sync.prepare.graph import rename

THREE = "['a', 'b', 'c']"


@pytest.mark.parametrize(
    ("name", "family"), [("detect.reg_preds.0.weight", "yolov6"), ("head.reg_preds.0.weight", "yolox")]
)
def test_the_first_yolov6_is_told_from_yolox_by_the_names_of_its_weights(name, family):
    model = yolox(decoded=True)
    rename(model.graph, model.graph.initializer[0].name, name)
    assert name in {tensor.name for tensor in model.graph.initializer}
    card = read_card(prepare_model(model))
    assert (card.family, card.placement) == (family, "center" if family == "yolov6" else "top-left")


def test_yolov6_is_told_from_yolox_and_decoded():
    model, images = yolov6(), pictures()
    table = original(model, images)["outputs"][0]
    prepared = prepare_model(model)
    assert (read_card(prepared).family, read_card(prepared).placement) == ("yolov6", "center")
    agree(run(prepared, images=images), best(table[:, :4], table[:, 5:]))


def test_yolov3_tiny_has_two_grids():
    model, images = yolov3_tiny(), pictures()
    table = original(model, images)["output"][0]
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:5] * table[:, 5:]))


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("fractions", [True, False])
def test_yolov8_of_tensorflow_gives_boxes_in_pixels(rows, fractions):
    model = yolov8(rows=rows, channels_last=True, fractions=fractions, names=THREE)
    images = pictures()
    table = original(model, images, channels_last=True)["output0"][0]
    table = table if rows else table.T
    prepared = prepare_model(model)
    assert read_card(prepared).family == "yolov8"
    agree(run(prepared, images=images), best(table[:, :4] * (SIZE if fractions else 1), table[:, 4:]))


def test_yolov8_in_rows_is_told_by_its_classes():
    model, images = yolov8(rows=True, names=THREE), pictures()
    table = original(model, images)["output0"][0]
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:]))
    coco = prepare_model(yolov8(rows=True, classes=80))
    assert (read_card(coco).family, len(read_card(coco).labels)) == ("yolov8", 80)
    # One class less and an objectness: which of the two nothing tells but the user.
    assert read_card(prepare_model(yolov8(rows=True))).family == "yolov6"
    assert len(read_card(prepare_model(yolov8(rows=True), family="yolov9")).labels) == 3


def test_of_several_heads_alike_the_last_is_the_main_one():
    model, images = yolov8(spare=1), pictures()
    table = original(model, images)["output1"][0].T
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:]))


def test_yolox_of_any_size_is_put_on_the_grid_of_the_picture():
    model = yolox_of_any_size()
    prepared = prepare_model(model)
    assert (read_card(prepared).dynamic, read_card(prepared).size) == (True, (640, 640))
    images = np.random.default_rng(3).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    table = original(model, images, scale=1, bgr=True)["output"][0]
    grid = np.array([(x, y) for stride in STRIDES for y in range(64 // stride) for x in range(96 // stride)])
    strides = np.concatenate([np.full((64 * 96 // stride**2, 1), stride) for stride in STRIDES])
    boxes = np.concatenate([(table[:, :2] + grid) * strides, np.exp(table[:, 2:4]) * strides], 1)
    agree(run(prepared, images=images), best(boxes, table[:, 4:5] * table[:, 5:]))


def distances(table, classes, size):
    """Decode NanoDet's rows (N, classes + 32): centres and sizes (N, 4), one cell after the other."""
    cells = [(x, y, s) for s in NANODET_STRIDES for y in range(size // s) for x in range(size // s)]
    boxes = []
    for row, (x, y, stride) in zip(table, cells, strict=True):
        bins = np.exp(row[classes:].astype(np.float64)).reshape(4, 8)
        left, top, right, bottom = (bins * np.arange(8)).sum(1) / bins.sum(1)
        boxes.append((x + (right - left) / 2, y + (bottom - top) / 2, left + right, top + bottom))
        boxes[-1] = [number * stride for number in boxes[-1]]
    return np.array(boxes)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(("classes", "size"), [(3, 64), (80, 128), (52, 64), (107, 64)])
def test_nanodet_gives_boxes_by_their_distances(classes, size, opset):
    model, images = nanodet(classes=classes, size=size, opset=opset), pictures(size=size)
    mean, deviation = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
    table = original(model, images, scale=deviation, mean=mean, bgr=True)["output"][0]
    prepared = prepare_model(model)
    card = read_card(prepared)
    assert (card.family, card.placement, card.nms, len(card.labels)) == ("nanodet", "stretch", True, classes)
    agree(run(prepared, images=images), best(distances(table, classes, size), table[:, :classes]))


def test_nanodet_takes_pictures_of_any_size_when_asked():
    dynamic, images = prepare_model(nanodet(), dynamic=True), pictures(size=128)
    expected = run(prepare_model(nanodet(size=128)), images=images)
    agree(run(dynamic, images=images), [expected[name][0] for name in ("boxes", "scores", "class_ids")])


@pytest.mark.parametrize(
    ("build", "description", "family"),
    [
        (plain_yolov8, "Ultralytics YOLOv9t model trained on coco.yaml", "yolov9"),
        (plain_yolov8, "Ultralytics YOLO12n model", "yolo12"),
        (plain_yolov8, "Ultralytics YOLOv5n model", "yolov5u"),
        (plain_yolov8, "Ultralytics YOLO26n model", "yolo26"),
        (plain_yolov8, "Ultralytics best model", "yolov8"),
        (plain_yolov8, "", "yolov8"),
        (plain_yolov5, "YOLOv3", "yolov3"),
        (plain_yolov5, "Ultralytics YOLO11n model", "yolov5"),
    ],
)
def test_a_model_is_called_what_its_metadata_says_of_those_that_share_its_head(build, description, family):
    assert read_card(prepare_model(build(description=description))).family == family


def test_a_model_is_called_what_the_user_says():
    assert read_card(prepare_model(plain_yolov5(), family="yolov7")).family == "yolov7"
    with pytest.raises(UnsupportedModelError, match=r"family known here \(yolov7\)"):
        prepare_model(plain_yolov8(), family="yolov7")


def decoded(grids, anchors):
    """Decode raw grids, (1, 3, h, w, columns) each, the way YOLOv5 and YOLOv7 do: one anchor after the other."""
    rows = []
    for grid, stride, shapes in zip(grids, STRIDES, anchors, strict=True):
        _, _, high, wide, _ = grid.shape
        for kind, y, x in np.ndindex(3, high, wide):
            row = 1 / (1 + np.exp(-grid[0, kind, y, x].astype(np.float64)))
            row[:2] = (row[:2] * 2 - 0.5 + (x, y)) * stride
            row[2:4] = (row[2:4] * 2) ** 2 * shapes[kind]
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("family", "anchors"),
    [
        ("yolov7", [[12, 16], [19, 36], [40, 28], [36, 75], [76, 55], [72, 146], [142, 110], [192, 243], [459, 401]]),
        ("yolov5", [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]]),
    ],
)
def test_raw_grids_are_decoded_with_the_anchors_of_the_family_that_the_user_names(family, anchors):
    model, images = raw_yolov7(), pictures()
    outputs = original(model, images)
    table = decoded([outputs[f"level{number}"] for number in range(3)], np.array(anchors).reshape(3, 3, 2))
    prepared = prepare_model(model, family=family)
    assert read_card(prepared).family == family
    agree(run(prepared, images=images), best(table[:, :4], table[:, 4:5] * table[:, 5:]))
    assert run(prepared, images=pictures(2))["boxes"].shape == (2, 3 * (64 + 16 + 4), 4)


def test_raw_grids_are_refused_where_nobody_says_whose_anchors_they_want():
    with pytest.raises(
        UnsupportedModelError, match=r"level0 \[1, 3, 8, 8, 8\].*say whose .* yolov5, yolov7 or yolov7-tiny"
    ):
        prepare_model(raw_yolov7())
