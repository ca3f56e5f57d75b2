"""Tables of a grid's cells that an export has computed for one size of picture: recognised, and computed again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import cells

GRIDS = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (8,), (16,), (32,), (64,))
"""Strides of the grids that stand behind each other in a table."""
ANCHORS = (1, 3)
"""Rows of a table for each cell: a whole grid after another."""
FINEST = 64
"""Tables hold halves of cells and whole pixels: multiples of a 64th leave room."""
CLOSE = 1e-3
ENDLESS = 2**62

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """The part of a table that belongs to one grid: base + right * column + down * row of each cell."""

    stride: int
    coefficients: Floats
    """(3, columns of the table) float64: base, right, down."""


def rebuilt(edit: Editor, facts: Facts, table: Array, beside: str) -> str:
    """Return the name of the same table for the picture's size, "" where it is not one that is known here.

    `beside` is a value that the table is joined with, aligned at the last axis.
    """
    for axis, rows in enumerate(table.shape):
        flat = np.moveaxis(table, axis, 0).reshape(rows, -1).astype(np.float64)
        for strides in _layouts(facts, rows):
            blocks = _blocks(facts, flat, strides)
            if len(blocks) == len(strides):
                whole = _emit(edit, facts, blocks, table, axis)
                return _shaped(edit, whole, table.shape, axis, beside)
    return ""


def _layouts(facts: Facts, rows: int) -> Iterator[tuple[int, ...]]:
    """Yield the strides of the grids, each as often as it has anchors, that make so many rows."""
    for strides in GRIDS:
        for anchors in ANCHORS:
            if anchors * facts.cells(strides) == rows:
                yield tuple(stride for stride in strides for _ in range(anchors))


def _blocks(facts: Facts, flat: Floats, strides: tuple[int, ...]) -> list[Block]:
    """Return a table's blocks (rows, columns), as far as their numbers rise evenly with the cells."""
    found, start = [], 0
    for stride in strides:
        count = facts.cells((stride,))
        y, x = np.divmod(np.arange(count), -(-facts.size[1] // stride))
        places = np.stack([np.ones(count), x, y], 1)
        values = flat[start : start + count]
        coefficients = np.round(np.linalg.lstsq(places, values)[0] * FINEST) / FINEST
        if np.abs(places @ coefficients - values).max() > CLOSE:
            break
        found.append(Block(stride, coefficients))
        start += count
    return found


def _emit(edit: Editor, facts: Facts, blocks: list[Block], table: Array, axis: int) -> str:
    """Append the nodes that compute a table, of the shape and type of the given one but for the axis of its rows."""
    anywhere = replace(facts, dynamic=True)
    others = [side for at, side in enumerate(table.shape) if at != axis]
    upright = [1] * table.ndim
    upright[axis] = -1
    parts = []
    for block in blocks:
        base, right, down = (
            edit.constant(np.expand_dims(row.reshape(others), axis), np.float32) for row in block.coefficients
        )
        x, y = (
            edit.op("Reshape", edit.cast(side, TensorProto.FLOAT), edit.constant(upright, np.int64))
            for side in cells(edit, anywhere, block.stride)
        )
        moved = edit.op("Add", edit.op("Mul", x, right), edit.op("Mul", y, down))
        parts.append(edit.op("Add", moved, base))
    whole = edit.op("Concat", *parts, axis=axis)
    return edit.cast(whole, helper.np_dtype_to_tensor_dtype(table.dtype))


def _shaped(edit: Editor, table: str, shape: tuple[int, ...], axis: int, beside: str) -> str:
    """Give a table the length along one axis of what it is joined with, which it has: shape inference can follow that.

    Of the numbers that a Range makes it can not.
    """
    below = axis - len(shape)
    length = edit.slice(edit.op("Shape", beside), below, below + 1 or ENDLESS, 0)
    parts = [edit.constant(shape[:axis], np.int64), length, edit.constant(shape[axis + 1 :], np.int64)]
    empty = [axis == 0, False, axis == len(shape) - 1]
    target = edit.op("Concat", *(part for part, none in zip(parts, empty, strict=True) if not none), axis=0)
    return edit.op("Reshape", table, target)
