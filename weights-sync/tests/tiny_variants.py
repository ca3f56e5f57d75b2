"""Tiny networks with the heads of families whose layout differs from YOLOv5, v8 and X in a detail."""

import numpy as np
from onnx import TensorProto
from tiny_networks import STRIDES, Sketch, cells

NANODET_STRIDES = (8, 16, 32, 64)


def cut(sketch, value, start, stop, axis):
    return sketch.op("Slice", value, *(sketch.numbers(number) for number in (start, stop, axis)))


def columns(sketch, source, channels, strides=STRIDES, batch=1):
    """Return the raw table (1, channels, cells), fine grids first."""
    shape = sketch.numbers(batch, channels, -1)
    grids = [sketch.op("Reshape", sketch.conv(source, stride, channels), shape) for stride in strides]
    return sketch.op("Concat", *grids, axis=2)


def yolov6(*, classes=3, size=64, **metadata):
    """Rows x y w h, an objectness of one, classes, one a cell: boxes put together from distances."""
    sketch = Sketch(TensorProto.FLOAT)
    table = sketch.op("Transpose", columns(sketch, "images", 4 + classes), perm=[0, 2, 1])
    near, far = cut(sketch, table, 0, 2, 2), cut(sketch, table, 2, 4, 2)
    middle = sketch.op("Div", sketch.op("Add", near, far), sketch.tensor(2))
    box = sketch.op("Mul", sketch.op("Concat", middle, sketch.op("Sub", far, near), axis=2), sketch.tensor(8))
    rest = sketch.op("Sigmoid", cut(sketch, table, 4, 4 + classes, 2))
    sketch.op("Concat", box, sketch.tensor(np.ones((1, cells(size), 1))), rest, axis=2, to="outputs")
    outputs = [("outputs", [1, cells(size), 5 + classes])]
    return sketch.model([("images", [1, 3, size, size])], outputs, 13, metadata)


def nanodet(*, classes=3, size=64, opset=11, **metadata):
    """Rows of classes and the bins of four distances, one a cell of four grids."""
    sketch, levels, width = Sketch(TensorProto.FLOAT), [], classes + 32
    for stride in NANODET_STRIDES:
        grid = sketch.conv("data", stride, width)
        # Small logits: of a hundred classes many would be certain otherwise, and equal.
        sketch.weaken(10)
        likely = sketch.op("Sigmoid", cut(sketch, grid, 0, classes, 1))
        whole = sketch.op("Concat", likely, cut(sketch, grid, classes, width, 1), axis=1)
        levels.append(sketch.op("Reshape", whole, sketch.numbers(1, width, -1)))
    sketch.op("Transpose", sketch.op("Concat", *levels, axis=2), perm=[0, 2, 1], to="output")
    count = sum((size // stride) ** 2 for stride in NANODET_STRIDES)
    return sketch.model([("data", [1, 3, size, size])], [("output", [1, count, width])], opset, metadata)


def yolov3_tiny(*, classes=3, size=64, **metadata):
    """Rows x y w h, objectness, classes, three a cell of two grids."""
    sketch, width = Sketch(TensorProto.FLOAT), 5 + classes
    levels = []
    for stride in (16, 32):
        grid = sketch.op("Reshape", sketch.conv("images", stride, 3 * width), sketch.numbers(1, 3, width, -1))
        grid = sketch.op("Sigmoid", sketch.op("Transpose", grid, perm=[0, 1, 3, 2]))
        levels.append(sketch.op("Reshape", grid, sketch.numbers(1, 3 * (size // stride) ** 2, width)))
    rows = sketch.op("Concat", *levels, axis=1)
    sketch.op("Mul", rows, sketch.tensor([size] * 4 + [1] * (width - 4)), to="output")
    count = 3 * sum((size // stride) ** 2 for stride in (16, 32))
    return sketch.model([("images", [1, 3, size, size])], [("output", [1, count, width])], 12, metadata)


def yolov8(*, classes=3, size=64, rows=False, channels_last=False, fractions=False, spare=0, **metadata):
    """YOLOv8 as other tools leave it: in rows, for NHWC pictures, in fractions, behind `spare` auxiliary heads."""
    sketch, outputs = Sketch(TensorProto.FLOAT), []
    source = sketch.op("Transpose", "images", perm=[0, 3, 1, 2]) if channels_last else "images"
    for number in range(spare + 1):
        table = columns(sketch, source, 4 + classes)
        box = sketch.op("Sigmoid", cut(sketch, table, 0, 4, 1))
        box = box if fractions else sketch.op("Mul", box, sketch.tensor(size))
        whole = sketch.op("Concat", box, sketch.op("Sigmoid", cut(sketch, table, 4, 4 + classes, 1)), axis=1)
        name = f"output{number}"
        if rows:
            sketch.op("Transpose", whole, perm=[0, 2, 1], to=name)
        else:
            sketch.op("Identity", whole, to=name)
        shape = [1, cells(size), 4 + classes] if rows else [1, 4 + classes, cells(size)]
        outputs.append((name, shape))
    entry = [1, size, size, 3] if channels_last else [1, 3, size, size]
    return sketch.model([("images", entry)], outputs, 17, metadata)


def yolox_of_any_size(*, classes=3, **metadata):
    """Raw rows of box, objectness, classes, for pictures of any size."""
    sketch, width = Sketch(TensorProto.FLOAT), 5 + classes
    small = sketch.op("Div", "images", sketch.tensor(100))
    table = columns(sketch, small, width, batch=0)
    whole = sketch.op(
        "Concat", cut(sketch, table, 0, 4, 1), sketch.op("Sigmoid", cut(sketch, table, 4, width, 1)), axis=1
    )
    sketch.op("Transpose", whole, perm=[0, 2, 1], to="output")
    outputs = [("output", ["batch", "anchors", width])]
    return sketch.model([("images", ["batch", 3, "height", "width"])], outputs, 11, metadata)


def raw_yolov7(*, classes=3, size=64, **metadata):
    """Logits for each of three anchors of each cell, (1, 3, h, w, 5 + classes), a grid an output."""
    sketch, width, outputs = Sketch(TensorProto.FLOAT), 5 + classes, []
    for number, stride in enumerate(STRIDES):
        side = size // stride
        grid = sketch.op("Reshape", sketch.conv("images", stride, 3 * width), sketch.numbers(1, 3, width, side, side))
        sketch.op("Transpose", grid, perm=[0, 1, 3, 4, 2], to=f"level{number}")
        outputs.append((f"level{number}", [1, 3, side, side, width]))
    return sketch.model([("images", [1, 3, size, size])], outputs, 12, metadata)
