"""Networks against what MindYOLO gave for the same parameters, under MindSpore, when it was asked."""

import json

import mindyolo_truth
import numpy as np
import onnxruntime
import pytest
import yaml
from mindspore_writer import checkpoint

from weights_sync.mindspore import read_network


@pytest.mark.parametrize("name", mindyolo_truth.networks())
def test_a_network_gives_what_mindyolo_gave(name, tmp_path):
    truth = np.load(mindyolo_truth.TRUTH)
    shapes = json.loads(truth[f"{name}/names"].tobytes())
    tensors = {tag: mindyolo_truth.parameter(tag, tuple(shape)) for tag, shape in shapes.items()}
    (tmp_path / "net.ckpt").write_bytes(checkpoint(tensors))
    network = mindyolo_truth.networks()[name] | {"nc": mindyolo_truth.CLASSES}
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({"network": network}))
    built, _ = read_network(tmp_path / "net.ckpt")
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    predictions, *prototypes = session.run(None, {"images": mindyolo_truth.picture()})
    wanted = truth[f"{name}/predictions"]
    mine = predictions if "v5" in name else predictions.transpose(0, 2, 1)
    np.testing.assert_allclose(mine, wanted, atol=1e-3, rtol=1e-5)
    assert len(prototypes) == ("seg" in name)
    if prototypes:
        np.testing.assert_allclose(prototypes[0][:, :, ::4, ::4], truth[f"{name}/prototypes"], atol=1e-3)
