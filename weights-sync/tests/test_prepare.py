"""The prepared graph against the original one and a plain numpy decode, on tiny networks of each family."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from tiny_networks import cells, grids, yolov5, yolov8, yolox

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare import Card, is_prepared, prepare_model, read_card

SIZE = 64
HALF = TensorProto.FLOAT16
OPSETS = range(11, 29)
"""From the first operator set that is taken to the latest that onnx and ONNX Runtime know."""


def run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip((value.name for value in session.get_outputs()), session.run(None, inputs), strict=True))


def pictures(count=1, size=SIZE, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def original(model, images, *, scale=255.0, mean=0.0, bgr=False, channels_last=False):
    """Run the unprepared network the way its authors do, a picture at a time."""
    entry = model.graph.input[0]
    value = ((images[..., ::-1] if bgr else images) - np.float64(mean)) / scale
    value = value if channels_last else value.transpose(0, 3, 1, 2)
    dtype = np.float16 if entry.type.tensor_type.elem_type == HALF else np.float32
    outputs = [run(model, **{entry.name: value[at : at + 1].astype(dtype)}) for at in range(len(value))]
    return {name: np.concatenate([output[name] for output in outputs]).astype(np.float32) for name in outputs[0]}


def best(boxes, scores, count=1000):
    """Return corners, scores and classes of the best rows: (N, 4) x y w h and (N, classes) in."""
    order = np.argsort(-scores.max(1), kind="stable")[:count]
    centres, half = boxes[order, :2], boxes[order, 2:4] / 2
    return np.concatenate([centres - half, centres + half], 1), scores.max(1)[order], scores.argmax(1)[order]


def agree(prepared, expected, tolerance=1e-4):
    boxes, scores, classes = expected
    np.testing.assert_allclose(prepared["scores"][0], scores, atol=tolerance)
    if tolerance < 1e-3:
        np.testing.assert_array_equal(prepared["class_ids"][0], classes)
        np.testing.assert_allclose(prepared["boxes"][0], boxes, rtol=tolerance, atol=tolerance * SIZE)
        return
    # Half precision may swap neighbours of equal score: look the best ten up by their boxes.
    for at in range(10):
        distance = np.abs(prepared["boxes"][0] - boxes[at]).max(1)
        found = distance.argmin()
        assert distance[found] < 0.01 * np.abs(boxes[at]).max() + 0.2
        assert prepared["class_ids"][0][found] == classes[at]


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("opset", OPSETS)
def test_yolov8_gives_the_boxes_of_the_original(dynamic, joined, opset):
    model, images = yolov8(dynamic=dynamic, joined=joined, opset=opset), pictures()
    table = original(model, images)["output0"][0].T
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:]))


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("opset", OPSETS)
def test_yolov5_gives_the_boxes_of_the_original(dynamic, opset):
    model, images = yolov5(dynamic=dynamic, opset=opset), pictures()
    table = original(model, images)["output"][0]
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:5] * table[:, 5:]))


def test_yolov5_of_tensorflow_gives_boxes_in_pixels():
    model, images = yolov5(channels_last=True), pictures()
    table = original(model, images, channels_last=True)["output"][0]
    prepared = run(prepare_model(model), images=images)
    agree(prepared, best(table[:, :4] * SIZE, table[:, 4:5] * table[:, 5:]))
    assert prepared["boxes"].max() > 2


@pytest.mark.parametrize("opset", OPSETS)
def test_raw_yolox_is_put_on_its_grid(opset):
    model, images = yolox(opset=opset), pictures()
    table = original(model, images, scale=1, bgr=True)["output"][0]
    grid, strides = grids(SIZE)
    boxes = np.concatenate([(table[:, :2] + grid) * strides, np.exp(table[:, 2:4]) * strides], 1)
    agree(run(prepare_model(model), images=images), best(boxes, table[:, 4:5] * table[:, 5:]))


def test_decoded_yolox_is_not_put_on_its_grid_again():
    model, images = yolox(decoded=True), pictures()
    table = original(model, images, scale=1, bgr=True)["output"][0]
    agree(run(prepare_model(model), images=images), best(table[:, :4], table[:, 4:5] * table[:, 5:]))


@pytest.mark.parametrize(("build", "rows"), [(yolov8, False), (yolov5, True)])
def test_half_precision_stays_close(build, rows):
    model, images = build(dtype=HALF), pictures()
    table = next(iter(original(model, images).values()))[0]
    table = table if rows else table.T
    scores = table[:, 4:5] * table[:, 5:] if rows else table[:, 4:]
    prepared = run(prepare_model(model), images=images)
    assert prepared["boxes"].dtype == prepared["scores"].dtype == np.float32
    agree(prepared, best(table[:, :4], scores), tolerance=4e-3)


def test_half_precision_yolox_is_decoded_in_single_precision():
    model, images = yolox(dtype=HALF, size=416), pictures(size=416)
    table = original(model, images, scale=1, bgr=True)["output"][0]
    grid, strides = grids(416)
    boxes = np.concatenate([(table[:, :2] + grid) * strides, np.exp(table[:, 2:4]) * strides], 1)
    corners, _, _ = best(boxes, table[:, 4:5] * table[:, 5:])
    found = run(prepare_model(model), images=images)["boxes"][0]
    distances = np.abs(found[:, None] - corners[None, :10]).max(2).min(0)
    # Numbers of half precision lie 0.25 apart at 400.
    assert distances.max() < 0.05


def test_segmentation_gives_the_coefficients_of_each_box_and_the_prototypes():
    model, images = yolov8(masks=5), pictures()
    outputs = original(model, images)
    table = outputs["output0"][0].T
    prepared = run(prepare_model(model), images=images)
    agree(prepared, best(table[:, :4], table[:, 4:7]))
    order = np.argsort(-table[:, 4:7].max(1), kind="stable")
    assert prepared["mask_coefficients"].dtype == prepared["prototypes"].dtype == np.float16
    np.testing.assert_allclose(prepared["mask_coefficients"][0], table[order, 7:], rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(prepared["prototypes"], outputs["output1"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "model", [yolov8(), yolov8(dynamic=True), yolov8(masks=5), yolov5(), yolov5(channels_last=True), yolox()]
)
def test_a_batch_gives_each_picture_what_it_gets_alone(model):
    prepared, images = prepare_model(model), pictures(3)
    together = run(prepared, images=images)
    for at in range(3):
        for name, value in run(prepared, images=images[at : at + 1]).items():
            np.testing.assert_allclose(together[name][at], value[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "folded"), [(TensorProto.FLOAT, True), (HALF, False)])
def test_the_scale_of_the_pixels_goes_into_the_first_convolution_where_that_is_exact(dtype, folded):
    model, images = yolov8(stem=True, dtype=dtype), pictures()
    prepared = prepare_model(model)
    stem = next(node for node in prepared.graph.node if node.op_type == "Conv")
    before = {name: node.op_type for node in prepared.graph.node for name in node.output}[stem.input[0]]
    in_front = [node.op_type for node in prepared.graph.node[: list(prepared.graph.node).index(stem)]]
    assert before == "Cast"
    assert ("Div" not in in_front) == folded
    table = original(model, images)["output0"][0].T
    agree(run(prepared, images=images), best(table[:, :4], table[:, 4:]), tolerance=1e-4 if folded else 4e-3)


def test_a_batch_that_is_baked_in_stays():
    model = yolov8()
    # A Tile to a full constant shape is nothing that copies its batch from the input.
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 7, cells(SIZE)]), "whole"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "flat"], ["line"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "flat"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["line", "whole"], ["output0"]))
    prepared = prepare_model(model)
    assert prepared.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert run(prepared, images=pictures())["boxes"].shape == (1, cells(SIZE), 4)


def test_of_equal_scores_the_last_anchor_comes_first():
    model, images = yolov8(), pictures()
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).copy()
        if array.shape[:1] == (7,):
            array[4:] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    boxes = original(model, images)["output0"][0, :4].T[::-1]
    prepared = run(prepare_model(model), images=images)
    np.testing.assert_array_equal(prepared["scores"], 0.5)
    np.testing.assert_allclose(prepared["boxes"][0, :, 2:] - prepared["boxes"][0, :, :2], boxes[:, 2:], atol=1e-3)


def test_only_the_asked_number_of_candidates_is_kept():
    model, images = yolov8(), pictures()
    everything, few = (run(prepare_model(model, candidates=count), images=images) for count in (1000, 7))
    assert everything["boxes"].shape == (1, cells(SIZE), 4)
    assert few["boxes"].shape == (1, 7, 4)
    np.testing.assert_allclose(few["scores"], everything["scores"][:, :7], atol=1e-6)


def test_a_dynamic_graph_takes_sizes_with_fewer_anchors_than_candidates():
    prepared = prepare_model(yolov8(dynamic=True, opset=11), candidates=100)
    assert run(prepared, images=pictures(size=32))["boxes"].shape == (1, cells(32), 4)
    assert run(prepared, images=pictures(size=128))["boxes"].shape == (1, 100, 4)


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_senseless_number_of_candidates_is_refused(count):
    with pytest.raises(UnsupportedModelError, match="candidates must be 1 to"):
        prepare_model(yolov8(), candidates=count)


@pytest.mark.parametrize(
    ("model", "family", "placement", "dynamic"),
    [
        (yolov8(), "yolov8", "center", False),
        (yolov8(dynamic=True, imgsz="[96, 64]"), "yolov8", "center", True),
        (yolov5(), "yolov5", "center", False),
        (yolox(), "yolox", "top-left", False),
        (yolox(decoded=True), "yolox", "top-left", False),
    ],
)
def test_the_card_says_what_the_transformer_has_to_know(model, family, placement, dynamic):
    data = model.SerializeToString()
    prepared = prepare_model(data)
    size = (96, 64) if dynamic else (64, 64)
    expected = Card(
        task="detect",
        family=family,
        labels=("class0", "class1", "class2"),
        nms=True,
        size=size,
        stride=32,
        dynamic=dynamic,
        placement=placement,
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
    )
    assert read_card(prepared) == expected
    pairs = {pair.key: pair.value for pair in prepared.metadata_props}
    assert pairs["yolo.nms"] == "true"
    assert json.loads(pairs["yolo.labels"]) == ["class0", "class1", "class2"]
    assert json.loads(pairs["yolo.input"]) == {
        "size": list(size),
        "stride": 32,
        "dynamic": dynamic,
        "placement": placement,
    }


def test_what_the_authors_wrote_beside_the_graph_stays():
    pairs = {pair.key: pair.value for pair in prepare_model(yolov8(license="AGPL-3.0")).metadata_props}
    assert pairs["license"] == "AGPL-3.0"


def test_a_prepared_model_is_left_alone():
    prepared = prepare_model(yolov8())
    assert is_prepared(prepared)
    assert prepare_model(prepared.SerializeToString()).SerializeToString() == prepared.SerializeToString()


def test_a_prepared_model_may_be_asked_for_as_it_is():
    prepared = prepare_model(yolov8(dynamic=True))
    assert prepare_model(prepared, family="yolov8", candidates=1000, dynamic=True) == prepared


def test_the_original_is_not_changed():
    model = yolov8()
    before = model.SerializeToString()
    prepare_model(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("build", [yolov8, yolov5, yolox])
def test_the_prepared_graph_passes_the_checker_and_has_the_fixed_interface(build):
    prepared = prepare_model(build())
    onnx.checker.check_model(prepared, full_check=True)
    types = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*prepared.graph.input, *prepared.graph.output)
    }
    count = cells(SIZE, 3 if build is yolov5 else 1)
    assert types == {
        "images": (TensorProto.UINT8, ["batch", 64, 64, 3]),
        "boxes": (TensorProto.FLOAT, ["batch", count, 4]),
        "scores": (TensorProto.FLOAT, ["batch", count]),
        "class_ids": (TensorProto.INT32, ["batch", count]),
    }


def test_nodes_in_any_order_are_sorted():
    model = yolov8()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert is_prepared(prepare_model(model))


def test_values_that_bear_our_names_do_not_clash():
    model = yolov8()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = {"v3": "boxes", "v1": "scores"}.get(name, name)
    images = pictures()
    np.testing.assert_array_equal(
        run(prepare_model(model), images=images)["boxes"], run(prepare_model(yolov8()), images=images)["boxes"]
    )


def test_labels_come_from_the_metadata():
    assert read_card(prepare_model(yolov8(names="{0: 'cat', 1: 'dog', 2: 'cow'}"))).labels == ("cat", "dog", "cow")


def test_eighty_classes_without_names_are_those_of_coco():
    labels = read_card(prepare_model(yolox(classes=80))).labels
    assert (len(set(labels)), labels[0], labels[79]) == (80, "person", "toothbrush")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("{0: 'cat'}", "names 1 classes, but its head has 3"),
        ("__import__('os')", "no Python or JSON list or dict"),
        ("{1: 'a', 2: 'b', 3: 'c'}", "not numbered 0, 1, 2"),
        ("[1.5, [], {}]", "no list of texts"),
        ("7", "no list of texts"),
        ("[" * 5000, "no Python or JSON list or dict"),
        ("-" * 100_000 + "1", "no Python or JSON list or dict"),
        (" " * (1 << 20) + "[]", "characters"),
    ],
)
def test_senseless_names_are_refused(names, reason):
    with pytest.raises(UnsupportedModelError, match=reason):
        prepare_model(yolov8(names=names))
