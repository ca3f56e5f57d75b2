"""Exports with the NMS inside that return boxes, scores and classes apart, with or without their number.

`num_dets`, `det_boxes`, `det_scores`, `det_classes` as TensorRT's NMS has them, or `dets` with the scores as a fifth
column and `labels` as MMDeploy has them. What was not found is filled up with 0 or -1.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from weights_sync.prepare.facts import Facts, Output
from weights_sync.prepare.families.end2end import chooses
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates, Table, numbered, top

INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64})


@dataclass(frozen=True, slots=True)
class Parts:
    """The outputs, for N detections of B pictures."""

    boxes: tuple[Output, ...]
    """(B, N, 4) x1 y1 x2 y2, or (B, N, 5) with the scores."""
    scores: tuple[Output, ...]
    """(B, N)."""
    classes: tuple[Output, ...]
    """(B, N)."""
    number: tuple[Output, ...]
    """(B, 1) or (B), how many of the N there are."""

    def complete(self) -> bool:
        """Tell whether there is one of each that is needed."""
        width = self.boxes[0].shape[2] if len(self.boxes) == 1 else 0
        enough = len(self.scores) == (1 if width == 4 else 0) and len(self.classes) == 1
        return width in {4, 5} and enough and len(self.number) < 2


def parts(facts: Facts) -> Parts:
    """Tell the outputs apart, by their shapes and types, then by their names."""
    flat = [output for output in facts.outputs if len(output.shape) < 3]
    number = [output for output in flat if output.name.lower().startswith("num")]
    classes = [output for output in flat if output not in number and _is_class(output)]
    return Parts(
        boxes=tuple(output for output in facts.outputs if output not in flat),
        scores=tuple(output for output in flat if output not in number and output not in classes),
        classes=tuple(classes),
        number=tuple(number),
    )


def _is_class(output: Output) -> bool:
    return output.dtype in INTEGERS or any(word in output.name.lower() for word in ("class", "label"))


def fits(facts: Facts) -> bool:
    """Tell by the outputs: one of each."""
    return len(facts.outputs) > 1 and parts(facts).complete()


def matches(facts: Facts) -> bool:
    """Tell by the outputs, and a choice among the anchors."""
    return fits(facts) and chooses(facts, parts(facts).boxes[0].name)


def decode(edit: Editor, facts: Facts, candidates: int, _masks: int) -> Candidates:
    """Append the choice of the best detections, without what only fills up."""
    found = parts(facts)
    _, count, width = found.boxes[0].shape
    boxes = Table(found.boxes[0].name, 2, int(width))
    scores = edit.cast(found.scores[0].name if found.scores else boxes.column(edit, 4), TensorProto.FLOAT)
    nothing = edit.constant(0, np.float32)
    for output in found.number:
        number = edit.op("Reshape", edit.cast(output.name, TensorProto.INT64), edit.constant([-1, 1], np.int64))
        scores = edit.op("Where", edit.op("Less", numbered(edit, scores, 1), number), scores, nothing)
    best = top(edit, edit.op("Max", scores, nothing), candidates, count if isinstance(count, int) else None)
    classes = edit.op("GatherElements", found.classes[0].name, best.index, axis=1)
    classes = edit.op("Max", edit.cast(classes, TensorProto.FLOAT), nothing)
    return Candidates(
        boxes=Table(boxes.rows(edit, best.index), 2, boxes.width).columns(edit, 0, 4).name,
        scores=best.scores,
        class_ids=edit.cast(classes, TensorProto.INT32),
        count=best.count,
    )
