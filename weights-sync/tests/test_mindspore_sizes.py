"""Every family and size, segmenting, against the same network in plain numpy with the same parameters.

Segmentation heads hold the detecting ones; what MindYOLO says of those is in test_mindspore_truth.py.
"""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import plain_networks
import pytest
import yaml
from mindspore_writer import checkpoint

from weights_sync.mindspore import read_network
from weights_sync.prepare import prepare_model, read_card

CONFIGS = Path(__file__).parent / "data" / "mindyolo"
SIZES = {"n": (0.25, {"v5": 0.33, "v8": 0.33, "v11": 0.5}), "s": (0.5, {"v5": 0.33, "v8": 0.33, "v11": 0.5})}
ANCHORS = [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]], [[116, 90], [156, 198], [373, 326]]]
CLASSES, MASKS = 7, 32


def described(folder, family, size):
    """Write the YAML of a family in a size, with a segmentation head."""
    base = {"v5": "yolov5s.yaml", "v8": "yolov8n.yaml", "v11": "yolov11-base.yaml"}[family]
    network = yaml.safe_load((CONFIGS / base).read_text())["network"]
    width, depths = SIZES[size]
    first = "anchors" if family == "v5" else "reg_max"
    head = [f"YOLO{family}SegHead", ["nc", first, MASKS, 256, "stride"]]
    network["head"][-1] = [*network["head"][-1][:2], *head]
    network |= {"width_multiple": width, "depth_multiple": depths[family], "max_channels": 1024, "scale": size}
    names = {number: f"thing {number}" for number in range(CLASSES)}
    file = folder / "network.yaml"
    file.write_text(yaml.safe_dump({"data": {"nc": CLASSES, "names": names}, "img_size": 64, "network": network}))
    return file


def plain(family, size, pixels):
    """Return predictions and prototypes of the numpy network, and its parameters."""
    net, (width, depths) = plain_networks.Network(), SIZES[size]
    wide = lambda channels: math.ceil(channels * width / 8) * 8  # noqa: E731 - one formula
    deep = lambda count: max(round(count * depths[family]), 1)  # noqa: E731 - the same

    def head(name, levels):
        if family == "v5":
            found = net.anchor_head(name, levels, CLASSES, np.array(ANCHORS), MASKS)
        else:
            found = net.free_head(name, levels, CLASSES, MASKS, thin=family == "v11")
        return [found, net.prototypes(f"{name}.proto", levels[0], wide(256), MASKS, learned=family != "v5")]

    return getattr(plain_networks, f"yolo{family}")(net, pixels.astype(np.float64), wide, deep, head), net.w.tensors


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["v5", "v8", "v11"])
def test_a_network_gives_what_the_same_layers_give_in_numpy(family, size, tmp_path):
    pixels = np.random.default_rng(4).random((2, 3, 32, 64), dtype=np.float32)
    wanted, tensors = plain(family, size, pixels)
    file = tmp_path / "network.ckpt"
    file.write_bytes(checkpoint(tensors))
    built, _ = read_network(file, described(tmp_path, family, size))
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    for mine, right in zip(session.run(None, {"images": pixels}), wanted, strict=True):
        assert right.std() > 0.05
        # Boxes of random weights reach a thousand pixels, of which float32 keeps six digits.
        np.testing.assert_allclose(mine, right, atol=1e-3, rtol=2e-5)
    card = read_card(prepare_model(built))
    assert (card.task, card.labels[6], len(card.labels), card.size) == ("segment", "thing 6", CLASSES, (64, 64))


def test_the_blocks_of_yolov3_and_yolov7_give_what_they_give_in_numpy(tmp_path):
    rows = [
        [-1, 1, "ConvNormAct", [16, 3, 1, None, 1, 1, "nn.LeakyReLU(0.1)"]],
        [-1, 1, "MP", []],
        [-1, 1, "ConvNormAct", [16]],
        [-1, 2, "Bottleneck", [16]],
        [-1, 1, "Focus", [24, 3]],
        [-1, 1, "MP", [2]],
        [-1, 1, "RepConv", [24]],
        [-1, 1, "RepConv", [16, 3, 1]],
        [-1, 1, "DownC", [32]],
        [-1, 1, "SPPCSPC", [16]],
        [-1, 1, "MP", []],
        [-1, 1, "SP", [5]],
        [-2, 1, "SP", [3]],
        [[-2, -1], 1, "Concat", [1]],
    ]
    head = [[[7, 9, 13], 1, "YOLOv7Head", ["nc", "anchors", "stride"]]]
    anchors = np.array(ANCHORS).reshape(3, 6).tolist()
    network = {"nc": 2, "stride": [8, 16, 32], "anchors": anchors, "backbone": rows, "head": head}
    (tmp_path / "network.yaml").write_text(yaml.safe_dump({"network": network}))
    pixels = np.random.default_rng(4).random((2, 3, 64, 96), dtype=np.float32)
    net = plain_networks.Network()
    wanted = plain_networks.yolov7_parts(
        net, pixels.astype(np.float64), lambda name, x: net.anchor_head(name, x, 2, np.array(ANCHORS), implicit=True)
    )
    (tmp_path / "network.ckpt").write_bytes(checkpoint(net.w.tensors))
    built, _ = read_network(tmp_path / "network.ckpt")
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], wanted, atol=1e-3, rtol=2e-5)
    assert read_card(prepare_model(built)).family == "yolov5"
