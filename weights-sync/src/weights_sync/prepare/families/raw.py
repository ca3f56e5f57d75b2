"""YOLOv5 and YOLOv7 exported without their decoding: a grid of logits for each stride, (B, 3, h, w, 5 + classes).

The anchors are not in the file, so the user has to say whose they are.
"""

import numpy as np
from onnx import TensorProto

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare.facts import Facts, Output
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates, Table, class_ids, corners, top

STRIDES = (8, 16, 32)
Anchors = tuple[tuple[tuple[int, int], ...], ...]
"""Width and height in pixels of each anchor of each grid, fine grids first."""
YOLOV5: Anchors = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
YOLOV7: Anchors = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


def levels(facts: Facts) -> list[Output]:
    """Return the grids of a head of the usual three, fine ones first; none where there are others."""
    height, width = facts.size
    found = []
    for stride in STRIDES:
        cells = (3, -(-height // stride), -(-width // stride))
        found += [output for output in facts.outputs if len(output.shape) == 5 and output.shape[1:4] == cells]
    same = len({output.shape[4] for output in found}) == 1
    return found if same and len(found) == len(facts.outputs) == len(STRIDES) else []


def fits(facts: Facts) -> bool:
    """Tell by the grids; their cells have to be known."""
    return not facts.dynamic and bool(levels(facts))


def matches(facts: Facts) -> bool:
    """Refuse to guess."""
    if fits(facts):
        raise UnsupportedModelError(
            f"the model leaves the decoding, and its anchors, to its reader ({facts.listing}): say whose they are with"
            " the family yolov5, yolov7 or yolov7-tiny, or export it with its decoding (--grid)"
        )
    return False


def classes(facts: Facts, _masks: int) -> int:
    """Return the number of classes."""
    return int(facts.outputs[0].shape[4]) - 5


def decode(edit: Editor, facts: Facts, candidates: int, _masks: int, *, anchors: Anchors) -> Candidates:
    """Append the choice of the best logits, and the decoding of those alone."""
    grids, end = levels(facts), 5 + classes(facts, 0)
    flat = [edit.op("Reshape", grid.name, edit.constant([0, -1, end], np.int64)) for grid in grids]
    table = Table(edit.cast(edit.op("Concat", *flat, axis=1), TensorProto.FLOAT), 2, end)
    likely = edit.op("Sigmoid", table.column(edit, 4))
    scores = edit.op("Mul", likely, edit.op("Sigmoid", table.columns(edit, 5, end).best(edit)))
    places = _places(grids, anchors)
    best = top(edit, scores, candidates, len(places))
    rows = table.rows(edit, best.index)
    place = edit.op("Gather", edit.constant(places, np.float32), best.index, axis=0)
    cell, stride, anchor = (edit.slice(place, *span, 2) for span in ((0, 2), (2, 3), (3, 5)))
    doubled = edit.op("Mul", edit.op("Sigmoid", edit.slice(rows, 0, 4, 2)), edit.constant(2, np.float32))
    shift, size = edit.slice(doubled, 0, 2, 2), edit.slice(doubled, 2, 4, 2)
    return Candidates(
        boxes=corners(
            edit,
            edit.op("Mul", edit.op("Add", shift, cell), stride),
            edit.op("Mul", edit.op("Mul", size, size), anchor),
        ),
        scores=best.scores,
        class_ids=class_ids(edit, edit.slice(rows, 5, end, 2)),
        count=best.count,
    )


def _places(grids: list[Output], anchors: Anchors) -> np.ndarray:
    """Return what each anchor is decoded with: (N, 5) x y of its cell less a half, stride, width and height."""
    found = []
    for grid, stride, shapes in zip(grids, STRIDES, anchors, strict=True):
        per_cell, rows, columns = (int(side) for side in grid.shape[1:4])
        kind, y, x = np.unravel_index(np.arange(per_cell * rows * columns), (per_cell, rows, columns))
        found.append(np.column_stack([x - 0.5, y - 0.5, np.full(len(x), stride), np.array(shapes)[kind]]))
    return np.concatenate(found)
