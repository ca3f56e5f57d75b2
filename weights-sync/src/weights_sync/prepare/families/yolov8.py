"""YOLOv8, 9, 11, 12: no anchors, no objectness; columns of x y w h, classes, mask coefficients for each grid cell.

Some tools leave rows instead. TensorFlow exports take NHWC pictures and may give boxes as fractions of their sides.
"""

from dataclasses import dataclass

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Editor, producers, reads_of
from weights_sync.prepare.head import Candidates, Table, class_ids, corners, in_pixels, top
from weights_sync.prepare.labels import COCO, given_names
from weights_sync.prepare.shapes import infer

GRIDS = ((8, 16, 32), (8, 16, 32, 64))


@dataclass(frozen=True, slots=True)
class Parts:
    """The predictions, apart."""

    boxes: Table
    classes: Table
    coefficients: Table
    logits: bool
    """Whether the classes still want their sigmoid."""


def fits(facts: Facts) -> bool:
    """Tell by one column, or one row, for each cell of the usual grids."""
    width = facts.predictions.shape[_columns_axis(facts)]
    other = facts.predictions.shape[3 - _columns_axis(facts)]
    return other in _cells(facts) and isinstance(width, int) and width > 4


def matches(facts: Facts) -> bool:
    """Tell by the columns, and a head that ends in probabilities; of rows there have to be as many as classes say."""
    if not fits(facts) or "Sigmoid" not in facts.head_ops():
        return False
    names = len(given_names(facts.metadata)) or len(COCO)
    # Rows with one column more have an objectness: they are those of YOLOX or YOLOv6.
    return _columns_axis(facts) == 1 or classes(facts, facts.masks) == names


def classes(facts: Facts, masks: int) -> int:
    """Return the number of classes."""
    return int(facts.predictions.shape[_columns_axis(facts)]) - 4 - masks


def _cells(facts: Facts) -> set[int]:
    return {facts.cells(strides) for strides in GRIDS}


def _columns_axis(facts: Facts) -> int:
    return 2 if facts.predictions.shape[1] in _cells(facts) else 1


def decode(edit: Editor, facts: Facts, candidates: int, masks: int) -> Candidates:
    """Append the choice of the best columns; the sigmoid is left to those, for it keeps the order."""
    anchors = int(facts.predictions.shape[3 - _columns_axis(facts)])
    parts = _parts(edit, facts, masks)
    best = top(edit, parts.classes.best(edit), candidates, None if facts.dynamic else anchors)
    boxes = parts.boxes.rows(edit, best.index)
    return Candidates(
        boxes=corners(edit, *in_pixels(edit, facts, parts.boxes, boxes)),
        scores=edit.op("Sigmoid", best.scores) if parts.logits else best.scores,
        class_ids=class_ids(edit, parts.classes.rows(edit, best.index)),
        count=best.count,
        coefficients=parts.coefficients.rows(edit, best.index) if masks else "",
    )


def _parts(edit: Editor, facts: Facts, masks: int) -> Parts:
    """Return what the last Concat joins, where the graph ends in one; else slices of the predictions.

    A graph that casts its result up computed it in half precision: there the rounded predictions themselves are ranked,
    as everyone does who runs the original.
    """
    output, count, axis = facts.predictions.name, classes(facts, masks), _columns_axis(facts)
    widths = [4, count, masks] if masks else [4, count]
    writers = producers(edit.graph)
    last = writers.get(output)
    if last is not None and last.op_type == "Concat" and len(last.input) == len(widths):
        shapes = infer(facts.model, facts.input_shape)
        if [shapes.get(name, (0, 0, 0))[axis] for name in last.input] == widths:
            boxes, scores = last.input[:2]
            activation = writers.get(scores)
            logits = activation is not None and activation.op_type == "Sigmoid"
            scores = next(reads_of(activation)) if activation is not None and logits else scores
            return Parts(Table(boxes, axis, 4), Table(scores, axis, count), Table(last.input[-1], axis, masks), logits)
    whole = Table(output, axis, sum(widths))
    rest = whole.columns(edit, 4 + count, 4 + count + masks) if masks else whole
    return Parts(whole.columns(edit, 0, 4), whole.columns(edit, 4, 4 + count), rest, logits=False)
