"""Tiny networks with the heads of the real ones: a convolution a grid, random weights, the exporters' last nodes."""

from itertools import pairwise

import numpy as np
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
GIVES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


class Sketch:
    """Collects nodes and initializers."""

    def __init__(self, dtype, seed=1):
        self.nodes, self.initializers, self.dtype = [], [], dtype
        self.random = np.random.default_rng(seed)

    def tensor(self, value, dtype=None):
        name = f"w{len(self.initializers)}"
        array = np.asarray(value, dtype or GIVES[self.dtype])
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind, *inputs, to=None, **attributes):
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, source, stride, channels):
        weights = self.tensor(self.random.normal(0, 2 / stride, (channels, 3, stride, stride)))
        bias = self.tensor(self.random.normal(0, 1, channels))
        return self.op("Conv", source, weights, bias, strides=[stride, stride])

    def weaken(self, factor):
        """Divide the weights of the last convolution."""
        weights = self.initializers[-2]
        array = numpy_helper.to_array(weights) / np.array(factor, GIVES[self.dtype])
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))

    def numbers(self, *values):
        return self.tensor(values, np.int64)

    def model(self, inputs, outputs, opset, metadata):
        values = [helper.make_tensor_value_info(name, self.dtype, shape) for name, shape in (*inputs, *outputs)]
        graph = helper.make_graph(self.nodes, "tiny", values[: len(inputs)], values[len(inputs) :], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, metadata)
        return model


def cells(size, per_cell=1):
    return per_cell * sum((size // stride) ** 2 for stride in STRIDES)


def yolov8(
    *,
    classes=3,
    size=64,
    masks=0,
    dtype=TensorProto.FLOAT,
    dynamic=False,
    joined=True,
    opset=17,
    stem=False,
    **metadata,
):
    """Columns x y w h, classes, mask coefficients; with `joined` false the last node is no Concat."""
    sketch, channels = Sketch(dtype), 4 + classes + masks
    source = sketch.conv("images", 1, 3) if stem else "images"
    shape = [0, channels, -1] if dynamic else [1, channels, -1]
    grids = [sketch.op("Reshape", sketch.conv(source, s, channels), sketch.numbers(*shape)) for s in STRIDES]
    table = sketch.op("Concat", *grids, axis=2)
    edges = [0, 4, 4 + classes, channels]
    parts = [
        sketch.op("Slice", table, *(sketch.numbers(number) for number in (start, stop, 1)))
        for start, stop in pairwise(edges)
        if start < stop
    ]
    parts[1] = sketch.op("Sigmoid", parts[1])
    whole = sketch.op("Concat", *parts, axis=1)
    sketch.op("Identity", whole, to="output0") if not joined else sketch.nodes[-1].output.__setitem__(0, "output0")
    batch, side = ("batch", "side") if dynamic else (1, size)
    outputs = [("output0", [batch, channels, "anchors" if dynamic else cells(size)])]
    if masks:
        sketch.conv("images", 4, masks)
        sketch.nodes[-1].output[0] = "output1"
        outputs.append(("output1", [batch, masks, "h" if dynamic else size // 4, "w" if dynamic else size // 4]))
        metadata = {"task": "segment"} | metadata
    return sketch.model([("images", [batch, 3, side, side])], outputs, opset, metadata)


def widened(model, mebibytes):
    """Put layers of so many MiB of weights, four in each, in front of a network; it is changed, and returned."""
    graph = model.graph
    (entry,) = graph.input
    reads = [(node, at) for node in graph.node for at, name in enumerate(node.input) if name == entry.name]
    value, nodes = entry.name, []
    for number, (channels, out) in enumerate(pairwise([3, *[1024] * (-(-mebibytes // 4) + 1), 3])):
        name, before, value = f"wide{number}", value, f"widened{number}"
        weights = np.random.default_rng(number).normal(0, 1 / channels, (out, channels, 1, 1))
        graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), name))
        nodes.append(helper.make_node("Conv", [before, name], [value]))
    for node, at in reads:
        node.input[at] = value
    graph.node.extend(nodes)
    return model


def yolov5(*, classes=3, size=64, dynamic=False, channels_last=False, dtype=TensorProto.FLOAT, opset=17, **metadata):
    """Rows x y w h, objectness, classes, three a cell."""
    sketch, columns = Sketch(dtype), 5 + classes
    source = sketch.op("Transpose", "images", perm=[0, 3, 1, 2]) if channels_last else "images"
    levels = []
    for stride in STRIDES:
        grid = sketch.conv(source, stride, 3 * columns)
        grid = sketch.op("Reshape", grid, sketch.numbers(0 if dynamic else 1, 3, columns, -1))
        grid = sketch.op("Sigmoid", sketch.op("Transpose", grid, perm=[0, 1, 3, 2]))
        levels.append(
            sketch.op(
                "Reshape",
                grid,
                sketch.numbers(0 if dynamic else -1, *((-1,) if dynamic else (3 * (size // stride) ** 2,)), columns),
            )
        )
    rows = sketch.op("Concat", *levels, axis=1)
    scale = [1] * columns if channels_last else [size] * 4 + [1] * (columns - 4)
    sketch.op("Mul", rows, sketch.tensor(scale), to="output")
    batch, side = ("batch", "side") if dynamic else (1, size)
    shape = [batch, side, side, 3] if channels_last else [batch, 3, side, side]
    outputs = [("output", [batch, "anchors" if dynamic else cells(size, 3), columns])]
    return sketch.model([("images", shape)], outputs, opset, metadata)


def yolox(*, classes=3, size=64, decoded=False, dtype=TensorProto.FLOAT, opset=11, **metadata):
    """Rows of box, objectness, classes, one a cell; raw, or on the grid where `decoded`."""
    sketch, columns = Sketch(dtype), 5 + classes
    levels = []
    for stride in STRIDES:
        box = sketch.conv("pixels", stride, 4)
        # Pixels reach 255 here: weights that keep the logarithms and logits small.
        sketch.weaken(100)
        rest = sketch.conv("pixels", stride, 1 + classes)
        sketch.weaken(100)
        level = sketch.op("Concat", box, sketch.op("Sigmoid", rest), axis=1)
        levels.append(sketch.op("Reshape", level, sketch.numbers(1, columns, -1)))
    table = sketch.op("Concat", *levels, axis=2)
    rows = sketch.op("Transpose", table, perm=[0, 2, 1])
    if decoded:
        grid, strides = grids(size)
        xy, wh, rest = (
            sketch.op("Slice", rows, *(sketch.numbers(number) for number in (start, stop, 2)))
            for start, stop in ((0, 2), (2, 4), (4, columns))
        )
        xy = sketch.op("Mul", sketch.op("Add", xy, sketch.tensor(grid)), sketch.tensor(strides))
        wh = sketch.op("Mul", sketch.op("Exp", wh), sketch.tensor(strides))
        sketch.op("Concat", xy, wh, rest, axis=2, to="output")
    else:
        sketch.nodes[-1].output[0] = "output"
    return sketch.model([("pixels", [1, 3, size, size])], [("output", [1, cells(size), columns])], opset, metadata)


def grids(size):
    """Return the cell (N, 2) x y and the stride (N, 1) of each YOLOX anchor."""
    grid = [(x, y) for stride in STRIDES for y in range(size // stride) for x in range(size // stride)]
    strides = [[stride] for stride in STRIDES for _ in range((size // stride) ** 2)]
    return np.array(grid, np.float32), np.array(strides, np.float32)
