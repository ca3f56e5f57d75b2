"""YOLOX: one anchor a grid cell; rows of box, objectness, classes, with the grid added in the export or left to us.

Most exports leave it: x y count from the cell in strides, w h are logarithms of strides.
"""

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families import yolov6
from weights_sync.prepare.graph import Editor, producers
from weights_sync.prepare.head import Candidates, Table, class_ids, corners, grid, top

STRIDES = (8, 16, 32)
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Exp", "MatMul", "Softmax"})


def fits(facts: Facts) -> bool:
    """Tell by one row for each cell of the usual grids."""
    _, rows, columns = facts.predictions.shape
    return rows == facts.cells(STRIDES) and isinstance(columns, int) and columns > 5


def matches(facts: Facts) -> bool:
    """Tell by the rows, and a head that either does no arithmetic at all or takes the exponential of w h."""
    ops = facts.head_ops()
    decoded = "Exp" in ops and not yolov6.named(facts)
    return fits(facts) and "Sigmoid" in ops and (decoded or not ops & ARITHMETIC)


def classes(facts: Facts, masks: int) -> int:
    """Return the number of classes."""
    return int(facts.predictions.shape[2]) - 5 - masks


def decode(edit: Editor, facts: Facts, candidates: int, masks: int) -> Candidates:
    """Append the choice of the best rows, and the grid for those alone."""
    _, anchors, _ = facts.predictions.shape
    width = 5 + classes(facts, masks) + masks
    table = _table(edit, facts.predictions.name, width)
    scores = edit.op("Mul", table.column(edit, 4), table.columns(edit, 5, width - masks).best(edit))
    best = top(edit, scores, candidates, None if facts.dynamic else int(anchors))
    rows = table.rows(edit, best.index)
    centres, extents = edit.slice(rows, 0, 2, 2), edit.slice(rows, 2, 4, 2)
    if "Exp" not in facts.head_ops():
        centres, extents = _on_grid(edit, facts, best.index, centres, extents)
    return Candidates(
        boxes=corners(edit, centres, extents),
        scores=best.scores,
        class_ids=class_ids(edit, edit.slice(rows, 5, width - masks, 2)),
        count=best.count,
    )


def _table(edit: Editor, output: str, width: int) -> Table:
    """Return the predictions, in front of the transpose that most exports end in."""
    last = producers(edit.graph).get(output)
    if last is not None and last.op_type == "Transpose" and list(last.attribute[0].ints) == [0, 2, 1]:
        return Table(last.input[0], 1, width)
    return Table(output, 2, width)


def _on_grid(edit: Editor, facts: Facts, index: str, centres: str, sizes: str) -> tuple[str, str]:
    """Turn raw (B, K, 2) offsets and logarithms into pixels, for the anchors (B, K) in `index`."""
    places, strides = grid(edit, facts, STRIDES)
    cell = edit.op("Gather", places, index, axis=0)
    stride = edit.op("Gather", strides, index, axis=0)
    centres = edit.op("Mul", edit.op("Add", centres, cell), stride)
    return centres, edit.op("Mul", edit.op("Exp", sizes), stride)
