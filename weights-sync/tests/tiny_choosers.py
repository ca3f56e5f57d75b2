"""Tiny networks that choose their boxes themselves, with the outputs that real exports have."""

import numpy as np
from onnx import TensorProto, helper
from tiny_networks import STRIDES, Sketch

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Chooser(Sketch):
    """A network whose boxes and scores are known, before the choice."""

    def __init__(self, classes, size, masks=0, *, dynamic=False):
        super().__init__(FLOAT)
        self.classes, self.size, self.masks, self.batch = classes, size, masks, "batch" if dynamic else 1
        channels = 4 + classes + masks
        shape = self.numbers(0 if dynamic else 1, channels, -1)
        grids = [self.op("Reshape", self.conv("images", stride, channels), shape) for stride in STRIDES]
        table = self.op("Transpose", self.op("Concat", *grids, axis=2), perm=[0, 2, 1])
        box = self.op("Sigmoid", self.cut(table, 0, 4))
        centre = self.op("Mul", self.cut(box, 0, 2), self.tensor(size))
        half = self.op("Mul", self.cut(box, 2, 4), self.tensor(size / 4))
        self.boxes = self.op("Concat", self.op("Sub", centre, half), self.op("Add", centre, half), axis=2)
        self.scores = self.op("Sigmoid", self.cut(table, 4, 4 + classes))
        self.rest = [self.cut(table, 4 + classes, channels)] if masks else []

    def cut(self, value, start, stop, axis=2):
        return self.op("Slice", value, *(self.numbers(number) for number in (start, stop, axis)))

    def cast(self, value, dtype):
        return self.op("Cast", value, to_type=dtype)

    def op(self, kind, *inputs, to=None, to_type=None, **attributes):
        name = super().op(kind, *inputs, to=to, **attributes)
        if to_type:
            self.nodes[-1].attribute.append(helper.make_attribute("to", to_type))
        return name

    def finish(self, *outputs, metadata, opset=17):
        """Return the model; outputs are (value, name, shape, type)."""
        for value, name, _, _ in outputs:
            self.op("Identity", value, to=name)
        entry = helper.make_tensor_value_info("images", FLOAT, [self.batch, 3, self.size, self.size])
        values = [helper.make_tensor_value_info(name, dtype, shape) for _, name, shape, dtype in outputs]
        graph = helper.make_graph(self.nodes, "tiny", [entry], values, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, metadata)
        return model


def one_to_one(*, classes=3, size=64, kept=20, masks=0, dynamic=False, opset=17, **metadata):
    """[B, kept, 6 + masks], as YOLOv10 and 26 have it: the best anchors, one class each."""
    net = Chooser(classes, size, masks, dynamic=dynamic)
    best = net.op("ReduceMax", net.scores, axes=[2], keepdims=0)
    values, index = f"v{len(net.nodes)}", f"v{len(net.nodes)}i"
    net.nodes.append(helper.make_node("TopK", [best, net.numbers(kept)], [values, index], axis=1))
    classed = net.cast(net.op("ArgMax", net.scores, axis=2, keepdims=1), FLOAT)
    whole = net.op("Concat", net.boxes, net.op("Reshape", best, net.numbers(0, -1, 1)), classed, *net.rest, axis=2)
    spread = net.op("Expand", net.op("Reshape", index, net.numbers(0, -1, 1)), net.numbers(1, 1, 6 + masks))
    rows = net.op("GatherElements", whole, spread, axis=1)
    outputs = [(rows, "output0", [net.batch, kept, 6 + masks], FLOAT)]
    if masks:
        outputs.append((net.conv("images", 4, masks), "output1", [net.batch, masks, size // 4, size // 4], FLOAT))
    return net.finish(*outputs, metadata=metadata, opset=opset)


def suppressed(net):
    """Append the NMS; return the (n, 3) choice of picture, class and anchor, the (n, 4) boxes and the (n) scores."""
    limits = net.numbers(30), net.tensor(0.5, np.float32), net.tensor(0.6, np.float32)
    turned = net.op("Transpose", net.scores, perm=[0, 2, 1])
    chosen = net.op("NonMaxSuppression", net.boxes, turned, *limits)
    anchor = net.op("Gather", chosen, net.numbers(0, 2), axis=1)
    return chosen, net.op("GatherND", net.boxes, anchor), net.op("GatherND", turned, chosen)


def listed(*, classes=3, size=64, dynamic=False, opset=17, **metadata):
    """[n, 7], as YOLOv7 has it for ONNX Runtime: picture, x1 y1 x2 y2, class, score."""
    net = Chooser(classes, size, dynamic=dynamic)
    chosen, boxes, scores = suppressed(net)
    picture, kind = (net.cast(net.op("Gather", chosen, net.numbers(at), axis=1), FLOAT) for at in (0, 1))
    rows = net.op("Concat", picture, boxes, kind, net.op("Reshape", scores, net.numbers(-1, 1)), axis=1)
    return net.finish((rows, "output", ["found", 7], FLOAT), metadata=metadata, opset=opset)


def padded(layout, *, classes=3, size=64, kept=100, filler=0.0, opset=17, **metadata):
    """For one picture, filled up: a `table` [1, kept, 6], `four` tensors with their number, or `dets` and labels."""
    net = Chooser(classes, size)
    chosen, boxes, scores = suppressed(net)
    kind = net.cast(net.op("Gather", chosen, net.numbers(1), axis=1), FLOAT)
    rows = net.op("Concat", boxes, net.op("Reshape", scores, net.numbers(-1, 1)), kind, axis=1)
    rows = net.op("Concat", rows, net.tensor(np.full((kept, 6), filler)), axis=0)
    rows = net.op("Reshape", net.cut(rows, 0, kept, axis=0), net.numbers(1, kept, 6))
    if layout == "table":
        return net.finish((rows, "output0", [1, kept, 6], FLOAT), metadata=metadata, opset=opset)
    labels = net.cast(net.op("Gather", rows, net.tensor(5, np.int64), axis=2), INT64)
    if layout == "dets":
        dets = (net.cut(rows, 0, 5), "dets", [1, kept, 5], FLOAT)
        return net.finish(dets, (labels, "labels", [1, kept], INT64), metadata=metadata, opset=opset)
    number = net.op("Reshape", net.cut(net.op("Shape", scores), 0, 1, axis=0), net.numbers(1, 1))
    return net.finish(
        (number, "num_dets", [1, 1], INT64),
        (net.cut(rows, 0, 4), "det_boxes", [1, kept, 4], FLOAT),
        (net.op("Gather", rows, net.tensor(4, np.int64), axis=2), "det_scores", [1, kept], FLOAT),
        (net.cast(labels, FLOAT), "det_classes", [1, kept], FLOAT),
        metadata=metadata,
        opset=opset,
    )
