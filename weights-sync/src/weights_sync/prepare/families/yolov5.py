"""YOLOv3 to 5 and 7: three anchors a cell, decoded in the export: rows of x y w h, objectness, classes, masks.

TensorFlow exports take NHWC pictures and give boxes as fractions of the picture's sides.
"""

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates, Table, class_ids, corners, in_pixels, top

ANCHORS_PER_CELL = 3
GRIDS = ((8, 16, 32), (8, 16, 32, 64), (16, 32))


def fits(facts: Facts) -> bool:
    """Tell by the number of rows: three for each cell of the usual grids."""
    _, rows, columns = facts.predictions.shape
    anchors = {ANCHORS_PER_CELL * facts.cells(strides) for strides in GRIDS}
    return rows in anchors and isinstance(columns, int) and columns > 5


def matches(facts: Facts) -> bool:
    """Tell by the rows, and a head that ends in probabilities."""
    return fits(facts) and "Sigmoid" in facts.head_ops()


def classes(facts: Facts, masks: int) -> int:
    """Return the number of classes."""
    return int(facts.predictions.shape[2]) - 5 - masks


def decode(edit: Editor, facts: Facts, candidates: int, masks: int) -> Candidates:
    """Append the choice of the best rows; their boxes need no more than turning into corners."""
    _, anchors, width = facts.predictions.shape
    end = 5 + classes(facts, masks)
    table = Table(facts.predictions.name, 2, int(width))
    scores = edit.op("Mul", table.column(edit, 4), table.columns(edit, 5, end).best(edit))
    best = top(edit, scores, candidates, None if facts.dynamic else int(anchors))
    rows = table.rows(edit, best.index)
    return Candidates(
        boxes=corners(edit, *in_pixels(edit, facts, table, rows)),
        scores=best.scores,
        class_ids=class_ids(edit, edit.slice(rows, 5, end, 2)),
        count=best.count,
        coefficients=edit.slice(rows, end, end + masks, 2) if masks else "",
    )
