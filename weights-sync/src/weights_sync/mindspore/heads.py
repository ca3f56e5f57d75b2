"""Detection and segmentation heads, their predictions decoded to pixels as other frameworks' exports have them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from weights_sync.mindspore.blocks import depthwise
from weights_sync.mindspore.cells import Cell, Kernel, Signal, conv, convolve, enlarge, plain_conv
from weights_sync.mindspore.parameters import Floats
from weights_sync.prepare.graph import Editor

_ONE = numpy_helper.from_array(np.ones(1, np.float32))


@dataclass(frozen=True, slots=True)
class Found:
    """What a head gives."""

    predictions: str
    """Anchor heads: (B, N, 5 + classes + masks); others: (B, 4 + classes + masks, N). Boxes x y w h in pixels."""
    columns: tuple[int | str, ...]
    """The predictions' shape behind the batch."""
    prototypes: str = ""
    """(B, masks, h, w) of segmentation heads."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What a segmentation head has more."""

    count: int = 0
    width: int = 0
    """Channels that the prototypes are drawn from."""


def anchor_head(
    cell: Cell, inputs: list[Signal], classes: int, anchors: Any, stride: Any, *, masks: Masks = Masks()
) -> Found:
    """YOLOv3's and v5's: rows of x y w h, objectness, classes, mask coefficients, three or so a grid cell."""
    edit, strides = cell.edit, _strides(cell, stride, len(inputs))
    sizes = _anchors(cell, anchors, len(inputs))
    per_cell, width = sizes.shape[1], 5 + classes + masks.count
    levels = []
    for level, x in enumerate(inputs):
        raw = _raw(cell, level, x, per_cell * width)
        split = edit.op("Reshape", raw, edit.constant([0, per_cell, width, -1], np.int64))
        rows = edit.op("Transpose", split, perm=[0, 1, 3, 2])
        centres, sides, scores, *coefficients = _columns(
            edit, rows, [2, 2, 1 + classes] + [masks.count] * bool(masks.count)
        )
        centres, sides, scores = (edit.op("Sigmoid", value) for value in (centres, sides, scores))
        pitch = edit.constant(strides[level], np.float32)
        # A cell's centre, plus or minus one cell; an anchor's size, four times at most.
        centres = edit.op("Mul", edit.op("Mul", centres, edit.constant(2, np.float32)), pitch)
        corners = edit.op("Mul", _cells(edit, raw, -0.5), pitch)
        sides = edit.op("Mul", sides, edit.constant(2, np.float32))
        sides = edit.op("Mul", edit.op("Mul", sides, sides), edit.constant(sizes[level][:, None], np.float32))
        decoded = edit.op("Concat", edit.op("Add", centres, corners), sides, scores, *coefficients, axis=3)
        levels.append(edit.op("Reshape", decoded, edit.constant([0, -1, width], np.int64)))
    return Found(
        edit.op("Concat", *levels, axis=1), ("anchors", width), _prototypes(cell.at("proto"), inputs[0], masks)
    )


def _raw(cell: Cell, level: int, x: Signal, out: int) -> str:
    """Append a level's last convolution; YOLOv7's learns what to add before it and to multiply with behind it."""
    place = cell.at("m").at(level)
    if not cell.parameters.has(f"{cell.path}.ia"):
        return plain_conv(place, x, out).name
    before = cell.at("ia").at(level).take("implicit", 1, x.channels, 1, 1)
    behind = cell.at("im").at(level).take("implicit", 1, out, 1, 1)
    weights, bias = place.take("weight", out, x.channels, 1, 1), place.take("bias", out)
    if weights is None or bias is None or before is None or behind is None:
        return x.name
    bias = bias + weights[:, :, 0, 0] @ before.reshape(-1)
    factors = behind.reshape(-1)
    return convolve(cell.edit, x, weights * factors[:, None, None, None], bias * factors, Kernel()).name


def free_head(
    cell: Cell,
    inputs: list[Signal],
    classes: int,
    bins: int,
    stride: Any,
    *,
    thin: bool = False,
    masks: Masks = Masks(),
) -> Found:
    """YOLOv8's and 11's: columns of x y w h, classes, mask coefficients, one a grid cell; sides by distribution.

    `thin` class branches, YOLO11's, convolve depth and place apart.
    """
    edit, strides = cell.edit, _strides(cell, stride, len(inputs))
    first = inputs[0].channels
    boxes, scores, grids, pitches = [], [], [], []
    for level, x in enumerate(inputs):
        box = _branch(cell.at("cv2").at(level), x, max(16, first // 4, 4 * bins), 4 * bins)
        score = _branch(cell.at("cv3").at(level), x, max(first, classes), classes, thin=thin)
        boxes.append(_flat(edit, box))
        scores.append(_flat(edit, score))
        grid = edit.op("Transpose", _cells(edit, box.name, 0.5), perm=[1, 0])
        grids.append(grid)
        ones = edit.op("Slice", grid, *(edit.constant([number], np.int64) for number in (0, 1, 0)))
        zeros = edit.op("Mul", ones, edit.constant(0, np.float32))
        pitches.append(edit.op("Add", zeros, edit.constant(strides[level], np.float32)))
    grid, pitch = (edit.op("Concat", *values, axis=1) for values in (grids, pitches))
    distances = _distances(cell.at("dfl"), edit.op("Concat", *boxes, axis=2), bins)
    before, behind = edit.slice(distances, 0, 2, 1), edit.slice(distances, 2, 4, 1)
    half = edit.op("Mul", edit.op("Sub", behind, before), edit.constant(0.5, np.float32))
    whole = edit.op("Concat", edit.op("Add", grid, half), edit.op("Add", before, behind), axis=1)
    parts = [edit.op("Mul", whole, pitch), edit.op("Sigmoid", edit.op("Concat", *scores, axis=2))]
    if masks.count:
        narrow = max(first // 4, masks.count)
        branches = [_branch(cell.at("cv4").at(level), x, narrow, masks.count) for level, x in enumerate(inputs)]
        parts.append(edit.op("Concat", *(_flat(edit, branch) for branch in branches), axis=2))
    rows = 4 + classes + masks.count
    return Found(edit.op("Concat", *parts, axis=1), (rows, "anchors"), _prototypes(cell.at("proto"), inputs[0], masks))


def _branch(cell: Cell, x: Signal, width: int, out: int, *, thin: bool = False) -> Signal:
    """Two convolutions and a plain one."""
    for number in (0, 1):
        if thin:
            x = depthwise(cell.at(number).at(0), x, x.channels, 3)
            x = conv(cell.at(number).at(1), x, width)
        else:
            x = conv(cell.at(number), x, width, Kernel(k=3))
    return plain_conv(cell.at(2), x, out)


def _prototypes(cell: Cell, x: Signal, masks: Masks) -> str:
    """Return (B, masks, 2 H, 2 W): by a transposed convolution, where there is one, else by repeated pixels."""
    if not masks.count:
        return ""
    edit, width = cell.edit, masks.width
    x = conv(cell.at("cv1"), x, width, Kernel(k=3))
    if cell.parameters.has(f"{cell.path}.upsample"):
        up = cell.at("upsample")
        weights, bias = up.take("weight", width, width, 2, 2), up.take("bias", width)
        if weights is not None and bias is not None:
            stored = [edit.constant(array, np.float32) for array in (weights, bias)]
            x = Signal(edit.op("ConvTranspose", x.name, *stored, kernel_shape=[2, 2], strides=[2, 2]), width)
    else:
        x = enlarge(edit, x, 2)
    return conv(cell.at("cv3"), conv(cell.at("cv2"), x, width, Kernel(k=3)), masks.count).name


def _distances(cell: Cell, boxes: str, bins: int) -> str:
    """Return (B, 4, N) sides, in cells: the means of (B, 4 bins, N) distributions."""
    edit = cell.edit
    if bins == 1:
        return boxes
    weights = cell.at("conv").take("weight", 1, bins, 1, 1)
    if weights is None:
        return edit.slice(boxes, 0, 4, 1)
    parted = edit.op("Reshape", boxes, edit.constant([0, 4, bins, -1], np.int64))
    chances = edit.op("Softmax", edit.op("Transpose", parted, perm=[0, 1, 3, 2]), axis=3)
    means = edit.op("MatMul", chances, edit.constant(weights.reshape(bins, 1), np.float32))
    return edit.op("Reshape", means, edit.constant([0, 4, -1], np.int64))


def _flat(edit: Editor, x: Signal) -> str:
    return edit.op("Reshape", x.name, edit.constant([0, x.channels, -1], np.int64))


def _columns(edit: Editor, rows: str, widths: list[int]) -> list[str]:
    return edit.ops("Split", [rows, edit.constant(widths, np.int64)], len(widths), axis=3)


def _cells(edit: Editor, value: str, offset: float) -> str:
    """Return the x and y of each grid cell of (B, C, H, W), plus an offset: (H W, 2) float32, row by row."""
    ones = edit.op("ConstantOfShape", edit.op("Shape", value, start=2, end=4), value=_ONE)
    counts = (edit.op("CumSum", ones, edit.constant(axis, np.int64)) for axis in (1, 0))
    column = edit.constant([-1, 1], np.int64)
    pairs = [edit.op("Reshape", count, column) for count in counts]
    return edit.op("Add", edit.op("Concat", *pairs, axis=1), edit.constant(offset - 1, np.float32))


def _strides(cell: Cell, stride: Any, levels: int) -> list[int]:
    """Return the strides that were trained with, where the checkpoint keeps them; else the YAML's."""
    kept = cell.parameters.get(f"{cell.path}.stride")
    strides = [int(value) for value in (stride if kept is None else kept.reshape(-1).tolist())]
    if len(strides) != levels or min(strides) < 1:
        raise ValueError(f"it has {levels} inputs and {len(strides)} strides")
    return strides


def _anchors(cell: Cell, anchors: Any, levels: int) -> Floats:
    """Return (levels, per cell, 2) widths and heights in pixels: the trained ones, else the YAML's."""
    kept = cell.parameters.get(f"{cell.path}.anchor_grid")
    sizes = np.asarray(anchors if kept is None else kept, np.float32)
    if not sizes.size or sizes.size % (2 * levels):
        raise ValueError(f"it has {levels} inputs and {sizes.size} anchor sides")
    return sizes.reshape(levels, -1, 2)
