"""Networks of one picture size, made to take any: the same boxes as an export that was dynamic from the start."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from plain_postprocess import letterbox
from tiny_networks import cells, yolov5, yolov8, yolox

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare import prepare_model, read_card


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def pictures(*shape):
    return np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)


NETWORKS = {
    "yolov8": yolov8,
    "yolov8-seg": lambda **options: yolov8(masks=5, **options),
    "yolox": yolox,
    "yolox-decoded": lambda **options: yolox(decoded=True, **options),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_gives_what_an_export_for_that_size_gives(name, opset):
    build = NETWORKS[name]
    dynamic = prepare_model(build(opset=opset), dynamic=True)
    assert read_card(dynamic).dynamic
    assert read_card(dynamic).size == (64, 64)
    for size in (64, 96, 160):
        images = pictures(2, size, size)
        for ours, theirs in zip(
            run(dynamic, images), run(prepare_model(build(size=size, opset=opset)), images), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_picture_need_not_be_square(name):
    dynamic = prepare_model(NETWORKS[name](), dynamic=True)
    boxes = run(dynamic, pictures(1, 64, 160))[0]
    assert boxes.shape == (1, (8 * 20 + 4 * 10 + 2 * 5), 4)
    assert np.isfinite(boxes).all()


def test_what_is_dynamic_already_is_left_as_it_is():
    model = yolov8(dynamic=True)
    assert prepare_model(model, dynamic=True) == prepare_model(model)


def test_without_being_asked_a_network_keeps_its_size():
    assert not read_card(prepare_model(yolov8())).dynamic


def test_a_table_that_is_no_grid_is_named():
    model = yolov8()
    noise = np.random.default_rng(1).normal(size=(1, 7, cells(64))).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(noise, "noise"))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Mul", ["before", "noise"], ["output0"], name="weigh"))
    with pytest.raises(UnsupportedModelError, match="can not be made dynamic: Mul 'weigh' holds the size 64x64"):
        prepare_model(model, dynamic=True)


def test_boxes_in_fractions_of_the_exports_size_are_refused():
    with pytest.raises(UnsupportedModelError, match="fractions of one size"):
        prepare_model(yolov5(channels_last=True), dynamic=True)


def test_rows_counted_out_in_the_export_are_left_open():
    dynamic = prepare_model(yolov5(), dynamic=True)
    assert run(dynamic, pictures(1, 96, 64))[0].shape == (1, 3 * (12 * 8 + 6 * 4 + 3 * 2), 4)


@pytest.mark.parametrize("name", ["yolox_nano", "yolov8n-fp16", "yolo11n-seg", "yolo26n"])
def test_a_real_export_gives_the_same_at_its_size_and_takes_others(name, assets):
    data = (assets / "weights" / f"{name}.onnx").read_bytes()
    fixed, dynamic = prepare_model(data), prepare_model(data, dynamic=True)
    height, width = read_card(fixed).size
    boxed, *_ = letterbox(assets / "images" / "bus.jpg", (height, width), read_card(fixed).placement)
    ours, theirs = run(dynamic, boxed), run(fixed, boxed)
    sure = int((theirs[1][0] > 0.25).sum())
    assert sure > 3
    for one, other in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_allclose(one[0, :sure], other[0, :sure], atol=5e-3, rtol=1e-5)
    for shape in ((2, height - 128, width), (1, height + 64, width - 96)):
        boxes, *_ = run(dynamic, pictures(*shape))
        assert len(boxes) == shape[0]
        assert np.isfinite(boxes).all()
