"""A prepared graph with nothing in it: real sizes at both ends, constant candidates, one pixel read.

The benchmark measures serving with it, and the predictor's tests load it where any graph will do.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

CANDIDATES = 1000
OBJECTS = 50
SIDE = 640


def candidates(count: int, objects: int, side: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return `count` candidates in a letterbox of `side` pixels, the first `objects` with scores from 0.95 to 0.3."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, side * 0.8, (1, count, 2)).astype(np.float32)
    extents = random.uniform(side * 0.05, side * 0.2, (1, count, 2)).astype(np.float32)
    scores = np.zeros((1, count), np.float32)
    scores[0, :objects] = np.linspace(0.95, 0.3, objects)
    return {
        "boxes": np.concatenate([corners, corners + extents], 2),
        "scores": scores,
        "class_ids": random.integers(0, 80, (1, count)).astype(np.int32),
    }


def card(side: int, digest: str) -> dict[str, str]:
    """Return the card of such a graph: a detector of 80 classes named by their numbers."""
    return {
        "yolo.prepared": "1",
        "yolo.task": "detect",
        "yolo.family": "hollow",
        "yolo.labels": json.dumps([str(number) for number in range(80)]),
        "yolo.nms": "true",
        "yolo.input": json.dumps({"size": [side, side], "stride": 32, "dynamic": False, "placement": "center"}),
        "model.digest": digest,
    }


def hollow_graph(count: int, objects: int, side: int, digest: str = "sha256:hollow") -> bytes:
    """Return the graph as ONNX: `images` uint8 [1, side, side, 3] in, `candidates(count, objects, side)` out."""
    outputs = candidates(count, objects, side)
    constants: dict[str, npt.NDArray[np.generic]] = {f"{name}_": array for name, array in outputs.items()}
    constants |= {"zeros": np.zeros(4, np.int64), "ones": np.ones(4, np.int64), "nothing": np.zeros((), np.float32)}
    nodes = [
        helper.make_node("Slice", ["images", "zeros", "ones"], ["pixel"]),
        helper.make_node("Cast", ["pixel"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "nothing"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["zero"], keepdims=0),
        helper.make_node("Add", ["boxes_", "zero"], ["boxes"]),
        helper.make_node("Add", ["scores_", "zero"], ["scores"]),
        helper.make_node("Identity", ["class_ids_"], ["class_ids"]),
    ]
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in outputs.items()}
    graph = helper.make_graph(
        nodes,
        "hollow",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, side, side, 3])],
        [helper.make_tensor_value_info(name, types[name], array.shape) for name, array in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, card(side, digest))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
