"""What shapes a graph's values have, and whether its batch may vary."""

import math

import numpy as np
from onnx import ModelProto, TensorProto, helper, shape_inference

from weights_sync.prepare.graph import Dim, Editor, constants, shape_of
from weights_sync.prepare.notes import array_of

BATCH = "batch"
_SMALL = 64
_PROBE_BATCH = 7
"""A number, for inference loses names in Resize and Slice; a prime that no layer has channels of."""


def infer(model: ModelProto, input_shape: tuple[Dim, ...], *, strict: bool = True) -> dict[str, tuple[Dim, ...]]:
    """Shape of every value when the (only) graph input has `input_shape`; the model is left as it was.

    Raises `onnx.shape_inference.InferenceError` where the graph contradicts itself at that shape; unless `strict`, the
    values behind that are left out.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    for tensor in graph.initializer:
        # Shapes follow from small tensors' numbers alone, and megabytes of others take time to pass on.
        if math.prod(tensor.dims) > _SMALL:
            bare = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            tensor.CopyFrom(bare)
    entry = graph.input[0]
    entry.CopyFrom(helper.make_tensor_value_info(entry.name, entry.type.tensor_type.elem_type, list(input_shape)))
    # What the file claims about later values may hold for another input shape.
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    # check_type=False: it is the checker that judges the types, of the finished graph.
    inferred = shape_inference.infer_shapes(probe, check_type=False, strict_mode=strict, data_prop=True).graph
    return {value.name: shape_of(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}


def pin_batch(model: ModelProto, input_shape: tuple[Dim, ...]) -> ModelProto:
    """Return the model with the batch that it does, where its input promises any and its outputs do not follow.

    An NMS is unrolled over the pictures of the export, and targets of Reshape nodes may hold their number.
    """
    if isinstance(input_shape[0], int):
        return model
    try:
        shapes = infer(model, (_PROBE_BATCH, *input_shape[1:]))
        follow = [shapes.get(output.name, ())[:1] for output in model.graph.output]
    except shape_inference.InferenceError:
        follow = [(1,)]
    stuck = {first[0] for first in follow if first and isinstance(first[0], int)} - {_PROBE_BATCH}
    if len(stuck) != 1:
        return model
    pinned = ModelProto()
    pinned.CopyFrom(model)
    pinned.graph.input[0].type.tensor_type.shape.dim[0].dim_value = stuck.pop()
    return pinned


def free_batch(model: ModelProto, input_shape: tuple[Dim, ...]) -> ModelProto:
    """Return the model with a batch that may vary, where it was exported with a batch of one and allows more.

    Exports with a fixed batch hold it in the targets of their Reshape nodes. Those become "as the input has it",
    which changes nothing at batch one. Only if shape inference then carries another batch through to every output
    is the freed model returned; otherwise the given one.
    """
    if input_shape[0] != 1:
        return model
    freed = ModelProto()
    freed.CopyFrom(model)
    _loosen_reshapes(freed, infer(model, input_shape))
    try:
        after = infer(freed, (_PROBE_BATCH, *input_shape[1:]))
    except shape_inference.InferenceError:
        return model
    if any(after.get(output.name, ("?",))[:1] != (_PROBE_BATCH,) for output in freed.graph.output):
        return model
    freed.graph.input[0].type.tensor_type.shape.dim[0].dim_param = BATCH
    return freed


def _loosen_reshapes(model: ModelProto, shapes: dict[str, tuple[Dim, ...]]) -> None:
    """Let the Reshape nodes that keep a leading one copy it from their input."""
    known = constants(model.graph)
    edit = Editor(model)
    for node in model.graph.node:
        # With allowzero a zero means none, not "as the input has it".
        if node.op_type != "Reshape" or any(attribute.i for attribute in node.attribute):
            continue
        before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        if before[:1] == after[:1] == (1,) and node.input[1] in known:
            target = array_of(known[node.input[1]]).reshape(-1)
            node.input[1] = edit.constant([0, *target[1:]], np.int64)
