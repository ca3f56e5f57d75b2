"""Networks that choose their boxes themselves, prepared: the same boxes, best first, and no NMS owed."""

from functools import partial

import numpy as np
import onnx
import onnx.version_converter
import pytest
from test_prepare import original, pictures, run
from tiny_choosers import listed, one_to_one, padded

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare import prepare_model, read_card


def in_order(boxes, scores, classes):
    """Sort found boxes (n, 4), scores (n) and classes (n), best first."""
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], classes[order]


def agree(prepared, expected, picture=0):
    """Compare what was found, and that nothing else has a score."""
    boxes, scores, classes = expected
    found = len(scores)
    np.testing.assert_allclose(prepared["boxes"][picture][:found], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(prepared["scores"][picture][:found], scores, atol=1e-5)
    np.testing.assert_array_equal(prepared["class_ids"][picture][:found], classes)
    assert not prepared["scores"][picture][found:].any()
    assert prepared["class_ids"].min() >= 0


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_one_to_one_head_is_left_to_choose(dynamic):
    model, images = one_to_one(dynamic=dynamic), pictures(3)
    table = original(model, images)["output0"]
    prepared = prepare_model(model)
    assert read_card(prepared).nms is False
    found = run(prepared, images=images)
    assert found["boxes"].shape == (3, 20, 4)
    for picture in range(3):
        agree(found, in_order(table[picture, :, :4], table[picture, :, 4], table[picture, :, 5]), picture)


def test_a_one_to_one_head_of_a_segmentation_model_gives_its_coefficients():
    model, images = one_to_one(masks=5, task="segment"), pictures()
    outputs = original(model, images)
    prepared = prepare_model(model)
    found = run(prepared, images=images)
    assert (read_card(prepared).task, read_card(prepared).nms) == ("segment", False)
    rows = outputs["output0"][0]
    agree(found, in_order(rows[:, :4], rows[:, 4], rows[:, 5]))
    np.testing.assert_allclose(found["mask_coefficients"][0], rows[:, 6:], rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found["prototypes"], outputs["output1"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("candidates", [1000, 5])
def test_a_table_that_is_filled_up_gives_what_was_found(candidates):
    model, images = padded("table"), pictures()
    rows = original(model, images)["output0"][0]
    assert 10 < (rows[:, 4] > 0).sum() < 100
    rows = rows[rows[:, 4] > 0]
    boxes, scores, classes = in_order(rows[:, :4], rows[:, 4], rows[:, 5])
    found = run(prepare_model(model, candidates=candidates), images=images)
    agree(found, (boxes[:candidates], scores[:candidates], classes[:candidates]))


@pytest.mark.parametrize("filler", [0.0, -1.0])
def test_outputs_apart_are_joined(filler):
    model, images = padded("four", filler=filler), pictures()
    outputs = original(model, images)
    number = int(outputs["num_dets"][0, 0])
    boxes, scores, classes = (outputs[f"det_{name}"][0][:number] for name in ("boxes", "scores", "classes"))
    prepared = prepare_model(model)
    assert read_card(prepared).family == "end2end"
    agree(run(prepared, images=images), in_order(boxes, scores, classes))


def test_what_lies_beyond_the_number_of_detections_is_not_found():
    model, images = padded("four", filler=0.9), pictures()
    outputs = original(model, images)
    number = int(outputs["num_dets"][0, 0])
    assert number < 100
    assert (run(prepare_model(model), images=images)["scores"] > 0).sum() == number


@pytest.mark.parametrize("filler", [0.0, -1.0])
def test_scores_beside_the_boxes_are_found(filler):
    model, images = padded("dets", filler=filler), pictures()
    outputs = original(model, images)
    dets, labels = outputs["dets"][0], outputs["labels"][0]
    found = dets[:, 4] > 0
    agree(run(prepare_model(model), images=images), in_order(dets[found, :4], dets[found, 4], labels[found]))


def test_a_list_for_all_pictures_is_dealt_out():
    model, images = listed(dynamic=True), pictures(3)
    prepared = run(prepare_model(model, candidates=90), images=images)
    for picture in range(3):
        rows = original(model, images[picture : picture + 1])["output"]
        assert 10 < len(rows) < 90
        agree(prepared, in_order(rows[:, 1:5], rows[:, 6], rows[:, 5]), picture)


def test_a_list_in_which_nothing_was_found_gives_no_scores():
    model, images = listed(), pictures()
    threshold = next(node for node in model.graph.node if node.op_type == "NonMaxSuppression").input[4]
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == threshold)
    stored.raw_data = np.float32(2).tobytes()
    prepared = run(prepare_model(model, candidates=7), images=images)
    assert prepared["boxes"].shape == (1, 7, 4)
    assert not prepared["scores"].any()


@pytest.mark.parametrize("build", [one_to_one, listed, partial(padded, "four")])
def test_the_number_of_classes_is_what_the_head_chooses_among(build):
    assert read_card(prepare_model(build(classes=4))).labels == ("class0", "class1", "class2", "class3")
    assert read_card(prepare_model(build(names="['a', 'b', 'c']"))).labels == ("a", "b", "c")


def test_a_head_that_does_not_tell_its_classes_is_refused_unless_the_metadata_names_them():
    nameless, named = one_to_one(), one_to_one(names="['a', 'b', 'c']")
    for model in (nameless, named):
        for node in model.graph.node:
            node.op_type = {"ReduceMax": "ReduceL2", "ArgMax": "ArgMin"}.get(node.op_type, node.op_type)
    assert len(read_card(prepare_model(named)).labels) == 3
    with pytest.raises(UnsupportedModelError, match="can not tell the classes of this end2end model"):
        prepare_model(nameless)


@pytest.mark.parametrize(
    ("description", "family", "name"),
    [
        ("Ultralytics YOLOv10n model trained on coco.yaml", None, "yolov10"),
        ("Ultralytics YOLO26n model", None, "yolo26"),
        ("Ultralytics best model trained on yolo/data", None, "end2end"),
        ("Ultralytics YOLO26n model", "yolov10", "yolov10"),
    ],
)
def test_a_chooser_is_called_what_its_metadata_or_the_user_says(description, family, name):
    card = read_card(prepare_model(one_to_one(description=description), family=family))
    assert (card.family, card.nms) == (name, False)


def test_six_columns_that_nothing_was_chosen_for_are_no_detections():
    """RT-DETR of two classes: boxes and scores of 20 queries that its decoder's layers worked on after the choice."""
    model = one_to_one()
    square = onnx.numpy_helper.from_array(np.eye(6, dtype=np.float32), "square")
    model.graph.initializer.append(square)
    model.graph.node[-1].input[0] = "mixed"
    rows = model.graph.node[-2].output[0]
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("MatMul", [rows, "square"], ["mixed"]))
    with pytest.raises(
        UnsupportedModelError, match=r"no YOLO of a family known here .*: its outputs are output0 \[1, 20, 6\]"
    ):
        prepare_model(model)


def test_an_nms_that_is_unrolled_for_one_picture_is_not_given_more():
    model, images = padded("table"), pictures()
    right = run(prepare_model(model), images=images)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    prepared = prepare_model(model)
    assert prepared.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    np.testing.assert_array_equal(run(prepared, images=images)["boxes"], right["boxes"])


@pytest.mark.parametrize("opset", [11, 17, 18, 24])
@pytest.mark.parametrize(
    "build", [one_to_one, listed, *(partial(padded, layout) for layout in ("table", "four", "dets"))]
)
def test_choosers_of_old_and_new_operator_sets_find_the_same(build, opset):
    model = build(opset=min(opset, 17))
    model = onnx.version_converter.convert_version(model, opset) if opset > 17 else model
    right, found = (run(prepare_model(source), images=pictures()) for source in (build(), model))
    assert right["scores"].any()
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
