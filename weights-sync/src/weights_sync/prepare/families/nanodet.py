"""NanoDet-Plus: no anchors, no objectness; rows of classes and four distances for each grid cell, each of eight bins.

A distance is the mean of its bins, in strides, from the corner of the cell to the left, top, right or bottom of the box
(`NanoDetPlusHead` of RangiLyu/nanodet; mean, deviation and stretched pictures are those of its configurations).
"""

import numpy as np

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families.yolox import ARITHMETIC
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates, Table, class_ids, grid, top

STRIDES = (8, 16, 32, 64)
BINS = 8
SIDES = 4 * BINS
"""Columns of a box."""
MEAN, DEVIATION = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
"""Of pixels 0..255: blue, green, red."""


def fits(facts: Facts) -> bool:
    """Tell by one row for each cell of the four grids."""
    _, rows, columns = facts.predictions.shape
    return rows == facts.cells(STRIDES) and isinstance(columns, int) and columns > SIDES


def matches(facts: Facts) -> bool:
    """Tell by the rows, and a head that ends in probabilities and leaves all arithmetic to its reader."""
    ops = facts.head_ops()
    return fits(facts) and "Sigmoid" in ops and not ops & ARITHMETIC


def classes(facts: Facts, _masks: int) -> int:
    """Return the number of classes."""
    return int(facts.predictions.shape[2]) - SIDES


def decode(edit: Editor, facts: Facts, candidates: int, _masks: int) -> Candidates:
    """Append the choice of the best rows, and the distances of those alone."""
    _, anchors, width = facts.predictions.shape
    count = classes(facts, 0)
    table = Table(facts.predictions.name, 2, int(width))
    best = top(edit, table.columns(edit, 0, count).best(edit), candidates, None if facts.dynamic else int(anchors))
    rows = table.rows(edit, best.index)
    bins = edit.op("Reshape", edit.slice(rows, count, int(width), 2), edit.constant([0, -1, 4, BINS], np.int64))
    distances = edit.op("MatMul", edit.op("Softmax", bins, axis=3), edit.constant(np.arange(BINS), np.float32))
    cells, strides = (edit.op("Gather", values, best.index, axis=0) for values in grid(edit, facts, STRIDES))
    before = edit.op("Sub", cells, edit.slice(distances, 0, 2, 2))
    behind = edit.op("Add", cells, edit.slice(distances, 2, 4, 2))
    return Candidates(
        boxes=edit.op("Mul", edit.op("Concat", before, behind, axis=2), strides),
        scores=best.scores,
        class_ids=class_ids(edit, edit.slice(rows, 0, count, 2)),
        count=best.count,
    )
