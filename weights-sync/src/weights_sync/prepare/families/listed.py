"""Exports with the NMS inside that return one list for all pictures, as those of YOLOv6 and YOLOv7 for ONNX Runtime.

Rows of picture number, x1 y1 x2 y2, class, score: as many as there are.
"""

import numpy as np
from onnx import TensorProto

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families.end2end import chooses
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates, Table, numbered, top

WIDTH = 7


def fits(facts: Facts) -> bool:
    """Tell by one output of seven columns."""
    return len(facts.outputs) == 1 and len(shape := facts.outputs[0].shape) == 2 and shape[1] == WIDTH


def matches(facts: Facts) -> bool:
    """Tell by the columns, and a choice among the anchors."""
    return fits(facts) and chooses(facts, facts.outputs[0].name)


def decode(edit: Editor, facts: Facts, candidates: int, _masks: int) -> Candidates:
    """Append the choice of each picture's best rows; the rows of others, and empty ones, fill up with a score of 0."""
    empty = edit.constant(np.zeros((candidates, WIDTH)), np.float32)
    rows = edit.op("Concat", edit.cast(facts.outputs[0].name, TensorProto.FLOAT), empty, axis=0)
    owner, scores = (edit.op("Gather", rows, edit.constant(column, np.int64), axis=1) for column in (0, 6))
    pictures = edit.cast(numbered(edit, facts.input_name, 0), TensorProto.FLOAT)
    mine = edit.op("Equal", edit.op("Reshape", pictures, edit.constant([-1, 1], np.int64)), owner)
    best = top(edit, edit.op("Where", mine, scores, edit.constant(0, np.float32)), candidates, None)
    found = Table(edit.op("Gather", rows, best.index, axis=0), 2, WIDTH)
    return Candidates(
        boxes=found.columns(edit, 1, 5).name,
        scores=best.scores,
        class_ids=edit.cast(found.column(edit, 5), TensorProto.INT32),
        count=best.count,
    )
