"""Writes a trained network as ONNX in the layout that YOLOv8 segmentation exports have."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import torch
from network import COEFFICIENTS, STRIDES, ShapeNet, anchor_grid, decode_sides
from onnx import TensorProto, helper, numpy_helper
from scenes import SIZE
from shapes import LABELS
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 17
MAX_BYTES = 2_000_000
TOLERANCE = 1e-3
_SMALLEST_HALVED = 256


class ExportLayout(nn.Module):
    """The network as the file holds it.

    images (B, 3, H, W) float32 RGB 0..1 to output0 (B, 4 + C + M, A): cx cy w h in pixels, class probabilities, mask
    coefficients; and output1 (B, M, H / 4, W / 4), the prototypes. A mask is sigmoid(coefficients @ prototypes) > 0.5.
    """

    def __init__(self, network: ShapeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return output0 and output1."""
        raw = self.network(images)
        centres, strides = anchor_grid(images.shape[2], images.shape[3])
        distances = decode_sides(raw.sides) * strides
        near, far = distances[..., :2], distances[..., 2:]
        boxes = torch.cat([centres + (far - near) / 2, near + far], dim=-1)
        rows = torch.cat([boxes, raw.classes.sigmoid(), raw.coefficients], dim=-1)
        return rows.transpose(1, 2), raw.prototypes


def export(network: ShapeNet, path: Path) -> int:
    """Write the network to `path`, checked against torch, and return its size in bytes."""
    layout = ExportLayout(copy.deepcopy(network).float().fuse()).eval()
    _round_weights(layout)
    temporary = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {
        "images": {0: "batch", 2: "height", 3: "width"},
        "output0": {0: "batch", 2: "anchors"},
        "output1": {0: "batch", 2: "mask_height", 3: "mask_width"},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            layout,
            (torch.rand(2, 3, SIZE, SIZE - 64),),
            str(temporary),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0", "output1"],
            dynamic_axes=axes,
            dynamo=False,
        )
    model = onnx.load(temporary)
    temporary.unlink()
    _halve_weights(model)
    _describe(model)
    onnx.checker.check_model(model, full_check=True)
    _compare(layout, model)
    content = model.SerializeToString()
    if len(content) > MAX_BYTES:
        message = f"{len(content)} bytes, {MAX_BYTES} allowed"
        raise ValueError(message)
    temporary.write_bytes(content)
    temporary.replace(path)
    return len(content)


def _round_weights(module: nn.Module) -> None:
    """Round the large weights to what float16 can hold, so that torch computes with what the file will hold."""
    for parameter in module.parameters():
        if parameter.numel() >= _SMALLEST_HALVED:
            parameter.data = parameter.data.half().float()


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store the large float32 weights as float16 with a cast back; the graph still computes in float32."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type == TensorProto.FLOAT and values.size >= _SMALLEST_HALVED:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)


def _describe(model: onnx.ModelProto) -> None:
    """Set the shapes and the metadata by which `weights-sync prepare` and people recognise the model."""
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4 + len(LABELS) + COEFFICIENTS
    entries = {
        "author": "yolo-kserve",
        "batch": "1",
        "description": "Detects and segments drawn shapes; trained from nothing by training/train.py",
        "imgsz": str([SIZE, SIZE]),
        "license": "Apache-2.0",
        "names": str(dict(enumerate(LABELS))),
        "stride": str(max(STRIDES)),
        "task": "segment",
    }
    helper.set_model_props(model, entries)


def _compare(layout: ExportLayout, model: onnx.ModelProto) -> None:
    """Raise ValueError where ONNX Runtime and torch differ by more than `TOLERANCE`, at several sizes."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, SIZE, SIZE), (2, 3, 192, 256), (1, 3, 640, 480)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in layout(images)]
        given = session.run(["output0", "output1"], {"images": images.numpy()})
        for ours, theirs in zip(expected, given, strict=True):
            apart = float((np.abs(ours - np.asarray(theirs)) / np.maximum(1, np.abs(ours))).max())
            if ours.shape != np.asarray(theirs).shape or apart > TOLERANCE:
                message = f"the exported graph differs from torch by {apart} at {shape}"
                raise ValueError(message)
