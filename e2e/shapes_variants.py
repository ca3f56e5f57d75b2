"""Versions of the embedded `shapes` model that a rollout must not let through: wrong in one way each."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

_SHAPES = Path(__file__).resolve().parents[1] / "weights-sync/src/weights_sync/models/shapes.onnx"
_CHANNELS = 64


def same(description: str = "the same once more") -> bytes:
    """Return the model, in a file that differs: what a retraining that changed nothing would give."""
    model = onnx.load(_SHAPES)
    helper.set_model_props(model, _properties(model) | {"description": description})
    return model.SerializeToString()


def shuffled() -> bytes:
    """Return the model with every label moved on by one: it finds all shapes, and calls them something else."""
    model = onnx.load(_SHAPES)
    properties = _properties(model)
    names = ast.literal_eval(properties["names"])
    properties["names"] = repr({number: names[(number + 1) % len(names)] for number in names})
    helper.set_model_props(model, properties)
    return model.SerializeToString()


def slow(layers: int = 6) -> bytes:
    """Return the model behind convolutions that change nothing: the same answers, several times as late."""
    model = onnx.load(_SHAPES)
    graph = model.graph
    name = _instead_of_the_input(graph, "late")
    widths = [(3, _CHANNELS), *[(_CHANNELS, _CHANNELS)] * layers, (_CHANNELS, 3)]
    before = name
    for number, (entering, leaving) in enumerate(widths):
        weights = np.zeros((leaving, entering, 3, 3), np.float32)
        for channel in range(3):
            weights[channel, channel, 1, 1] = 1
        graph.initializer.append(numpy_helper.from_array(weights, f"identity{number}"))
        after = "late" if number == len(widths) - 1 else f"late{number}"
        node = helper.make_node("Conv", [before, f"identity{number}"], [after], pads=[1, 1, 1, 1])
        graph.node.insert(number, node)
        before = after
    return model.SerializeToString()


def brittle() -> bytes:
    """Return the model that fails for a picture without a dark pixel, and for no other."""
    model = onnx.load(_SHAPES)
    graph = model.graph
    name = _instead_of_the_input(graph, "checked")
    # Grey, which letterboxes are padded with, is 0.447.
    for constant, value in {"grey": np.float32(0.4), "nothing": np.zeros(1, np.float32)}.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
    checks = [
        helper.make_node("ReduceMin", [name], ["darkest"], keepdims=0),
        helper.make_node("Greater", ["darkest", "grey"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["place"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["nothing", "place"], ["found"]),  # there is nothing at place 1
        helper.make_node("Add", [name, "found"], ["checked"]),
    ]
    for number, node in enumerate(checks):
        graph.node.insert(number, node)
    return model.SerializeToString()


def _instead_of_the_input(graph: onnx.GraphProto, name: str) -> str:
    """Have the nodes of a graph read `name` in place of its input; return the input's name."""
    (entrance,) = (each.name for each in graph.input)
    for node in graph.node:
        node.input[:] = [name if each == entrance else each for each in node.input]
    return entrance


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {each.key: each.value for each in model.metadata_props}
