"""What MindYOLO itself gives for networks of made-up parameters; run as a script, it asks MindYOLO again.

`python mindyolo_truth.py` wants mindspore and mindyolo (2.10 and 0.5.0 made the file) in an environment of their own.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import yaml

CONFIGS = Path(__file__).parent / "data" / "mindyolo"
TRUTH = CONFIGS / "truth.npz"
CLASSES = 3
SIZES = {"n": 0.25, "s": 0.5}


def networks():
    """Return the `network` part of each YAML by a name of its own."""
    found = {}
    for size, width in SIZES.items():
        scaled = {"width_multiple": width, "max_channels": 1024, "scale": size}
        five, eight, eleven = (
            yaml.safe_load((CONFIGS / name).read_text())["network"] | scaled
            for name in ("yolov5s.yaml", "yolov8n.yaml", "yolov11-base.yaml")
        )
        found |= {f"yolov5{size}": five | {"depth_multiple": 0.33}, f"yolov8{size}": eight | {"depth_multiple": 0.33}}
        found[f"yolov8{size}-seg"] = with_head(found[f"yolov8{size}"], "YOLOv8SegHead", 32, 256)
        found[f"yolov11{size}"] = with_head(eleven | {"depth_multiple": 0.5}, "YOLOv11Head")
    return found


def with_head(network, name, *masks):
    """Return the network with another head on the same rows."""
    sources = network["head"][-1][0]
    return network | {"head": [*network["head"][:-1], [sources, 1, name, ["nc", "reg_max", *masks, "stride"]]]}


def parameter(name, shape):
    """Return a parameter that its name alone decides, float32."""
    random, kind = np.random.default_rng(zlib.crc32(name.encode())), name.rsplit(".", 1)[-1]
    if ".dfl." in name:
        return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    spread = 1.7 / math.sqrt(math.prod(shape[1:]))
    ranges = {"moving_variance": (0.3, 1.2), "gamma": (0.6, 1.4), "weight": (-spread, spread)}
    return random.uniform(*ranges.get(kind, (-0.5, 0.5)), shape).astype(np.float32)


def picture():
    return np.random.default_rng(9).random((1, 3, 64, 96), dtype=np.float32)


def ask(network):
    """Return MindYOLO's parameters (name to shape), predictions (1, N, columns) and sampled prototypes."""
    import mindspore  # noqa: PLC0415 - never a dependency of the tests
    from mindyolo.models.model_factory import Model  # noqa: PLC0415 - the same
    from mindyolo.utils.config import Config  # noqa: PLC0415 - the same

    class Whole(mindspore.nn.Cell):
        def __init__(self):
            super().__init__()
            self.model = Model(model_cfg=Config(network), in_channels=3, num_classes=CLASSES)

        def construct(self, x):
            return self.model(x)

    whole = Whole()
    whole.set_train(False)
    kept = {"stride", "anchors", "anchor_grid"}
    shapes = {each.name: each.shape for each in whole.get_parameters() if each.name.rsplit(".", 1)[-1] not in kept}
    for each in whole.get_parameters():
        if each.name in shapes:
            each.set_data(mindspore.Tensor(parameter(each.name, each.shape)))
    predictions, rest = whole(mindspore.Tensor(picture()))
    prototypes = rest[2].asnumpy()[:, :, ::4, ::4] if "Seg" in network["head"][-1][2] else np.zeros(0, np.float32)
    return shapes, predictions.asnumpy(), prototypes


if __name__ == "__main__":
    arrays = {}
    for name, network in networks().items():
        shapes, predictions, prototypes = ask(network)
        listing = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        arrays |= {f"{name}/names": listing, f"{name}/predictions": predictions, f"{name}/prototypes": prototypes}
    np.savez_compressed(TRUTH, **arrays)
