"""Prepared real models against the reference detections: made with the original graphs and plain Python."""

import json
from functools import cache

import numpy as np
import onnxruntime
import pytest
from plain_postprocess import detections, iou, letterbox, mask, unpack

from weights_sync.prepare import prepare_model, read_card

PICTURES = (
    "images/bus.jpg",
    "images/zidane.jpg",
    "coco/images/000000000139.jpg",
    "coco/images/000000000785.jpg",
    # Where quantised models have boxes of the same score.
    "coco/images/000000001000.jpg",
)
MODELS = {
    "yolox_nano": ("yolox", "detect", 0.01),
    "yolox_nano-fp16": ("yolox", "detect", 0.02),
    "yolov5s-dynamic": ("yolov5", "detect", 0.01),
    "yolov5n-tf-nhwc-320": ("yolov5", "detect", 0.01),
    "yolov8n-dynamic": ("yolov8", "detect", 0.01),
    "yolov8n-fp16": ("yolov8", "detect", 0.02),
    "yolo11n-seg": ("yolo11", "segment", 0.01),
    "yolo26n": ("yolo26", "detect", 0.01),
    "yolox_nano-int8-qdq": ("yolox", "detect", 0.02),
}


@cache
def prepared(file):
    return prepare_model(file.read_bytes())


def matched(wanted, boxes, classes, used):
    """Return the position of the best unused box of the same class, and its overlap."""
    overlaps = np.where(classes == wanted["class_id"], iou(np.array(wanted["box"]), boxes), 0)
    overlaps[list(used)] = 0
    return int(overlaps.argmax()), float(overlaps.max())


@pytest.mark.parametrize("name", MODELS)
def test_a_prepared_model_finds_what_the_original_finds(name, assets):
    family, task, tolerance = MODELS[name]
    model = prepared(assets / "weights" / f"{name}.onnx")
    card = read_card(model)
    reference = json.loads((assets.parent / "reference" / f"{name}.json").read_text())
    assert (card.family, card.task) == (family, task)
    assert card.digest == f"sha256:{reference['sha256']}"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for picture in PICTURES:
        boxed, *back = letterbox(assets / picture, card.size, card.placement)
        outputs = session.run(None, {"images": boxed})
        boxes, scores, classes, places = detections(outputs, *back, 0.2, 0.65 if card.nms else 1.0)
        used = set()
        for wanted in reference["images"][picture]["detections"]:
            at, overlap = matched(wanted, boxes, classes, used)
            used.add(at)
            if wanted["score"] >= 0.30:
                assert overlap >= 0.98, (picture, wanted)
                assert abs(scores[at] - wanted["score"]) <= tolerance, (picture, wanted)
                if task == "segment":
                    bits = mask(outputs[3][0, places[at]], outputs[4][0], boxes[at], back, card.size[0])
                    right = unpack(wanted["mask_rle"])
                    assert (bits & right).sum() >= 0.95 * (bits | right).sum(), (picture, wanted["label"])
        extra = [at for at in range(len(scores)) if scores[at] >= 0.30 and at not in used]
        assert not extra, (picture, [(classes[at], scores[at]) for at in extra])


@pytest.mark.parametrize("name", ["yolox_nano", "yolov5n-tf-nhwc-320", "yolov8n-fp16", "yolo11n-seg", "yolo26n"])
def test_an_export_for_one_picture_takes_two_at_once(name, assets):
    model = prepared(assets / "weights" / f"{name}.onnx")
    card = read_card(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    two = [letterbox(assets / picture, card.size, card.placement)[0] for picture in PICTURES[:2]]
    together = session.run(None, {"images": np.concatenate(two)})
    for at, one in enumerate(two):
        for batch, alone in zip(together, session.run(None, {"images": one}), strict=True):
            np.testing.assert_allclose(batch[at].astype(float), alone[0].astype(float), rtol=1e-3, atol=1e-3)


def test_a_dynamic_model_gives_the_scores_of_the_original_for_a_picture_that_is_not_square(assets):
    file = assets / "weights" / "yolov8n-dynamic.onnx"
    boxed, *_ = letterbox(assets / "images" / "zidane.jpg", (384, 640), "center")
    original = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (table,) = original.run(None, {"images": boxed.transpose(0, 3, 1, 2).astype(np.float32) / 255})
    session = onnxruntime.InferenceSession(prepared(file).SerializeToString(), providers=["CPUExecutionProvider"])
    _, scores, _ = session.run(None, {"images": boxed})
    best = np.sort(table[0, 4:].max(0))[::-1][:1000]
    assert best[0] > 0.5
    np.testing.assert_allclose(scores[0], best, atol=1e-3)
