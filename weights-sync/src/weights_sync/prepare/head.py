"""What every head ends in: the best class of each anchor, the K best anchors, and their rows.

Shapes: B batch, N anchors, K candidates, C columns (box, classes, mask coefficients).
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Dim, Editor

LARGEST_FRACTION = 2.0
"""Centres may lie a little outside the picture; the rightmost of all anchors' is many pixels off in any."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Names of the values that the prepared graph returns."""

    boxes: str
    """(B, K, 4) float32: x1 y1 x2 y2 in letterbox pixels."""
    scores: str
    """(B, K) float32, 0..1, best first."""
    class_ids: str
    """(B, K) int32."""
    count: Dim
    """K: a number, or the name of a dimension that depends on the picture's size."""
    coefficients: str = ""
    """(B, K, masks) float32, for segmentation."""


@dataclass(frozen=True, slots=True)
class Top:
    """The K best anchors."""

    scores: str
    """(B, K) float32."""
    index: str
    """(B, K) int64: anchor numbers."""
    count: Dim
    """K."""


@dataclass(frozen=True, slots=True)
class Table:
    """A value with a row of columns for each anchor: (B, N, C), or (B, C, N) with `columns_axis` 1."""

    name: str
    columns_axis: int
    width: int
    """Number of columns, C."""

    def columns(self, edit: Editor, start: int, stop: int) -> "Table":
        """Return the columns `start` to `stop`, of all anchors."""
        if (start, stop) == (0, self.width):
            return self
        return Table(edit.slice(self.name, start, stop, self.columns_axis), self.columns_axis, stop - start)

    def column(self, edit: Editor, number: int) -> str:
        """Return one column of all anchors: (B, N)."""
        return edit.op("Gather", self.name, edit.constant(number, np.int64), axis=self.columns_axis)

    def best(self, edit: Editor) -> str:
        """Return the largest column of each anchor: (B, N)."""
        return edit.reduce_max(self.name, self.columns_axis)

    def rows(self, edit: Editor, index: str) -> str:
        """Return the rows of the anchors in `index` (B, K) int64: (B, K, C) float32."""
        rows_axis = 3 - self.columns_axis
        # Gathering a few columns of the table as it lies beats transposing all of it.
        spread = edit.op("Reshape", index, edit.constant([0, -1, 1] if rows_axis == 1 else [0, 1, -1], np.int64))
        full = [1, 1, 1]
        full[self.columns_axis] = self.width
        spread = edit.op("Expand", spread, edit.constant(full, np.int64))
        picked = edit.op("GatherElements", self.name, spread, axis=rows_axis)
        if self.columns_axis == 1:
            picked = edit.op("Transpose", picked, perm=[0, 2, 1])
        return edit.cast(picked, TensorProto.FLOAT)


def top(edit: Editor, scores: str, count: int, anchors: int | None) -> Top:
    """Pick the `count` best of (B, N) scores, or all where there are fewer; `anchors` is N where it is fixed.

    Of equal scores, common in half precision and int8, the last comes first: as a reversed ascending sort has it,
    which is how YOLO's boxes are usually sorted. It decides which of two boxes an NMS keeps.
    """
    scores = edit.cast(scores, TensorProto.FLOAT)
    present = edit.slice(edit.op("Shape", scores), 1, 2, 0) if anchors is None else edit.constant([anchors], np.int64)
    kept: Dim = "candidates" if anchors is None else min(count, anchors)
    limit = edit.constant([count if anchors is None else kept], np.int64)
    if anchors is None:
        # Min knows no integers before operator set 12.
        limit = edit.op("Where", edit.op("Less", present, limit), present, limit)
    backwards = [edit.constant([number], np.int64) for number in (-1, -(2**31), 1, -1)]
    values, index = edit.ops("TopK", [edit.op("Slice", scores, *backwards), limit], 2, axis=1, largest=1, sorted=1)
    last = edit.op("Sub", present, edit.constant([1], np.int64))
    return Top(values, edit.op("Sub", last, index), kept)


def sides(edit: Editor, facts: Facts) -> str:
    """Return width and height of the pictures in pixels: (2) int64."""
    if not facts.dynamic:
        return edit.constant(facts.size[::-1], np.int64)
    axes = [2, 1] if facts.channels_last else [3, 2]
    return edit.op("Gather", edit.op("Shape", facts.input_name), edit.constant(axes, np.int64), axis=0)


def cells(edit: Editor, facts: Facts, stride: int) -> tuple[str, str]:
    """Return the column and the row of each cell of a grid, row by row: (N, 1) int64 each; rounded up at the edges."""
    over = edit.op("Add", sides(edit, facts), edit.constant(stride - 1, np.int64))
    counts = edit.op("Div", over, edit.constant(stride, np.int64))
    total = edit.op("ReduceProd", counts, keepdims=0)
    numbers = edit.op("Range", edit.constant(0, np.int64), total, edit.constant(1, np.int64))
    numbers = edit.op("Reshape", numbers, edit.constant([-1, 1], np.int64))
    columns = edit.slice(counts, 0, 1, 0)
    y = edit.op("Div", numbers, columns)
    return edit.op("Sub", numbers, edit.op("Mul", y, columns)), y


def grid(edit: Editor, facts: Facts, strides: tuple[int, ...]) -> tuple[str, str]:
    """Return each anchor's cell, (N, 2) x y, and stride, (N, 1) pixels; float32, finest grid first, row by row."""
    if not facts.dynamic:
        fixed = _cells(*facts.size, strides)
        return edit.constant(fixed[0], np.float32), edit.constant(fixed[1], np.float32)
    grids, pixels = [], []
    for stride in strides:
        x, y = cells(edit, facts, stride)
        grids.append(edit.cast(edit.op("Concat", x, y, axis=1), TensorProto.FLOAT))
        pixels.append(edit.op("Expand", edit.constant([[stride]], np.float32), edit.op("Shape", x)))
    return edit.op("Concat", *grids, axis=0), edit.op("Concat", *pixels, axis=0)


def _cells(height: int, width: int, strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return each anchor's cell, (N, 2) x y, and stride, (N, 1) pixels; finest grid first, row by row."""
    grids, pixels = [], []
    for stride in strides:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.divmod(np.arange(rows * columns), columns)
        grids.append(np.stack([x, y], 1))
        pixels.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids), np.concatenate(pixels)


def in_pixels(edit: Editor, facts: Facts, table: Table, rows: str) -> tuple[str, str]:
    """Return centres and sizes, (B, K, 2) pixels each, of rows (B, K, 4 or more) x y w h picked from a whole table.

    TensorFlow exports give them as fractions of the picture's sides, or in pixels: the centres of all anchors tell.
    """
    centres, sizes = edit.slice(rows, 0, 2, 2), edit.slice(rows, 2, 4, 2)
    if not facts.channels_last:
        return centres, sizes
    right = edit.cast(edit.reduce_max(table.column(edit, 0), 1), TensorProto.FLOAT)
    right = edit.op("Reshape", right, edit.constant([-1, 1, 1], np.int64))
    fractions = edit.op("Less", right, edit.constant(LARGEST_FRACTION, np.float32))
    scale = edit.op("Where", fractions, edit.cast(sides(edit, facts), TensorProto.FLOAT), edit.constant(1, np.float32))
    return edit.op("Mul", centres, scale), edit.op("Mul", sizes, scale)


def numbered(edit: Editor, value: str, axis: int) -> str:
    """Return 0, 1, 2… along one axis of a value: (n) int64."""
    length = edit.op("Gather", edit.op("Shape", value), edit.constant(axis, np.int64), axis=0)
    return edit.op("Range", edit.constant(0, np.int64), length, edit.constant(1, np.int64))


def class_ids(edit: Editor, rows: str) -> str:
    """Return the best class of (B, K, classes) scores: (B, K) int32."""
    return edit.cast(edit.op("ArgMax", rows, axis=2, keepdims=0), TensorProto.INT32)


def corners(edit: Editor, centres: str, sizes: str) -> str:
    """Turn (B, K, 2) centres and (B, K, 2) widths and heights into (B, K, 4) corners; all float32 pixels."""
    half = edit.op("Mul", sizes, edit.constant(0.5, np.float32))
    return edit.op("Concat", edit.op("Sub", centres, half), edit.op("Add", centres, half), axis=2)
