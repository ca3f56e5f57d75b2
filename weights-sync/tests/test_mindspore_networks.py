"""Networks built from MindYOLO's checkpoints and YAML against the same networks' exports by others."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore_writer import checkpoint
from onnx import numpy_helper
from plain_postprocess import detections, iou, letterbox

from weights_sync import __main__ as command
from weights_sync.mindspore import read_network
from weights_sync.prepare import is_prepared, read_card

CONFIGS = Path(__file__).parent / "data" / "mindyolo"
PICTURES = ("images/bus.jpg", "images/zidane.jpg", "coco/images/000000000139.jpg", "coco/images/000000000785.jpg")
EPSILON = 1e-3


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def as_mindyolo(file, *, seed=5):
    """Return the parameters of another's export under MindYOLO's names, with batch norms unfolded at random."""
    random, tensors = np.random.default_rng(seed), {}
    for tensor in onnx.load(file).graph.initializer:
        array = numpy_helper.to_array(tensor)
        name = re.sub(r"(\.m\.\d+|model\.9)\.cv(\d)", r"\1.conv\2", f"model.{tensor.name}")
        if not name.startswith("model.model."):
            continue
        if not name.endswith((".conv.weight", ".conv.bias")) or ".dfl." in name:
            tensors[name] = array
            continue
        place = name.rsplit(".", 2)[0]
        bn = tensors.setdefault(f"{place}.bn.moving_variance", None)
        if bn is None:
            count = len(array)
            tensors[f"{place}.bn.moving_variance"] = random.uniform(0.2, 3, count).astype(np.float32)
            tensors[f"{place}.bn.moving_mean"] = random.normal(0, 0.3, count).astype(np.float32)
            tensors[f"{place}.bn.gamma"] = random.uniform(0.3, 2, count).astype(np.float32)
        scale = tensors[f"{place}.bn.gamma"] / np.sqrt(tensors[f"{place}.bn.moving_variance"] + EPSILON)
        if name.endswith("weight"):
            tensors[name] = (array / scale[:, None, None, None]).astype(np.float32)
        else:
            tensors[f"{place}.bn.beta"] = (array + tensors[f"{place}.bn.moving_mean"] * scale).astype(np.float32)
    return tensors


def written(folder, tensors, **options):
    file = folder / "network.ckpt"
    file.write_bytes(checkpoint(tensors, **options))
    return file


def agree(built, original, shapes):
    ours, theirs = session(built), session(original)
    for shape in shapes:
        pixels = np.random.default_rng(2).random(shape, dtype=np.float32)
        results = zip(ours.run(None, {"images": pixels}), theirs.run(None, {"images": pixels}), strict=True)
        for mine, right in results:
            assert mine.shape == right.shape
            np.testing.assert_allclose(mine, right, atol=1e-3, rtol=1e-5)


def test_yolov5_is_the_network_that_was_exported(assets):
    built, _ = read_network(assets / "mindspore" / "yolov5s_mindyolo.ckpt", CONFIGS / "yolov5s.yaml")
    agree(built, assets / "weights" / "yolov5s-dynamic.onnx", [(1, 3, 640, 640), (2, 3, 320, 416)])


def test_yolov8_is_the_network_that_was_exported(assets, tmp_path):
    original = assets / "weights" / "yolov8n-dynamic.onnx"
    built, _ = read_network(written(tmp_path, as_mindyolo(original)), CONFIGS / "yolov8n.yaml")
    agree(built, original, [(1, 3, 640, 640), (2, 3, 320, 416)])


def test_yolo11_is_the_network_that_was_exported_masks_included(assets, tmp_path):
    original = assets / "weights" / "yolo11n-seg.onnx"
    file = written(tmp_path, as_mindyolo(original), slice_bytes=100_000, crc=True)
    built, _ = read_network(file, CONFIGS / "yolov11n-seg.yaml")
    agree(built, original, [(1, 3, 640, 640)])


def prepared(name, assets, tmp_path):
    if name == "yolov5s-dynamic":
        source, config = assets / "mindspore" / "yolov5s_mindyolo.ckpt", CONFIGS / "yolov5s.yaml"
    else:
        source = written(tmp_path, as_mindyolo(assets / "weights" / f"{name}.onnx"))
        config = CONFIGS / ("yolov8n.yaml" if "v8" in name else "yolov11n-seg.yaml")
    assert command.main(["prepare", str(source), str(tmp_path / "out"), "--config", str(config)]) == 0
    return onnx.load(tmp_path / "out" / "model.onnx")


@pytest.mark.parametrize(
    ("name", "family", "task"),
    [
        ("yolov5s-dynamic", "yolov5", "detect"),
        ("yolov8n-dynamic", "yolov8", "detect"),
        ("yolo11n-seg", "yolov8", "segment"),
    ],
)
def test_a_prepared_checkpoint_finds_the_reference(name, family, task, assets, tmp_path, capsys):
    model = prepared(name, assets, tmp_path)
    assert is_prepared(model)
    card = read_card(model)
    assert (card.family, card.task, card.size, card.dynamic) == (family, task, (640, 640), True)
    assert (len(card.labels), card.labels[0]) == (80, "person")
    reference = json.loads((assets.parent / "reference" / f"{name}.json").read_text())
    runs = session(model)
    for picture in PICTURES:
        boxed, *back = letterbox(assets / picture, card.size, card.placement)
        boxes, scores, classes, _ = detections(runs.run(None, {"images": boxed}), *back, confidence=0.2)
        wanted = [found for found in reference["images"][picture]["detections"] if found["score"] >= 0.2]
        used = set()
        for one in wanted:
            overlaps = np.where(classes == one["class_id"], iou(np.array(one["box"]), boxes), 0)
            overlaps[list(used)] = 0
            at = int(overlaps.argmax())
            used.add(at)
            if one["score"] >= 0.3:
                assert overlaps[at] >= 0.98, (picture, one)
                assert abs(scores[at] - one["score"]) <= 0.01, (picture, one)
        assert not [at for at in range(len(scores)) if scores[at] >= 0.3 and at not in used]
