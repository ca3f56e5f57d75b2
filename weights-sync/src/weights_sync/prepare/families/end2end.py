"""Heads that choose their boxes themselves: YOLOv10 and 26 one-to-one, and exports with the NMS inside.

Rows of x1 y1 x2 y2, score, class, mask coefficients; some exports fill up with zeros what they did not find.
"""

from onnx import NodeProto, TensorProto

from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Dim, Editor, integers, nodes_behind
from weights_sync.prepare.head import Candidates, Table, top
from weights_sync.prepare.labels import given_names
from weights_sync.prepare.shapes import infer

WIDTH = 6
CHOICE = frozenset({"TopK", "NonMaxSuppression"})
LAYERS = frozenset({"Conv", "MatMul"})
"""Where a head begins. RT-DETR chooses too, but in front of its decoder's layers, and leaves other rows behind."""


def fits(facts: Facts) -> bool:
    """Tell by the number of columns."""
    tables = [output for output in facts.outputs if len(output.shape) == 3]
    return len(tables) == 1 and tables[0].shape[2] == WIDTH + facts.masks


def matches(facts: Facts) -> bool:
    """Tell by the columns, and a choice among the anchors."""
    return fits(facts) and chooses(facts, facts.predictions.name)


def chooses(facts: Facts, output: str) -> bool:
    """Tell whether a value comes out of a choice behind the last layer."""
    return any(node.op_type in CHOICE for node in nodes_behind(facts.model.graph, output, LAYERS))


def classes(facts: Facts, _masks: int) -> int:
    """Return as many as the metadata names, else as many as the head takes the best of; 0 where that is not clear."""
    if names := given_names(facts.metadata):
        return len(names)
    shapes = infer(facts.model, facts.input_shape)
    behind = [node for output in facts.outputs for node in nodes_behind(facts.model.graph, output.name, LAYERS)]
    counts = {count for node in behind for count in _taken_from(facts, node, shapes)}
    # An NMS of one class alone says nothing where the head took the best of several in front of it.
    counts = counts or {count for node in behind for count in _suppressed(node, shapes)}
    return counts.pop() if len(counts) == 1 else 0


def _taken_from(facts: Facts, node: NodeProto, shapes: dict[str, tuple[Dim, ...]]) -> list[int]:
    """Return how many values a node takes the largest of, if it does."""
    if node.op_type not in {"ReduceMax", "ArgMax"}:
        return []
    shape = shapes.get(node.input[0], ())
    axes = integers(facts.model.graph, node, "axes" if node.op_type == "ReduceMax" else "axis")
    return [count for axis in axes if -len(shape) <= axis < len(shape) and isinstance(count := shape[axis], int)]


def _suppressed(node: NodeProto, shapes: dict[str, tuple[Dim, ...]]) -> list[int]:
    """Return how many classes of scores, (B, classes, N), an NMS takes, if the node is one."""
    scores = shapes.get(node.input[1], ()) if node.op_type == "NonMaxSuppression" else ()
    return [count for count in scores[1:2] if isinstance(count, int)]


def decode(edit: Editor, facts: Facts, candidates: int, masks: int) -> Candidates:
    """Append the choice of the best rows, which are all there is to do."""
    _, rows, _ = facts.predictions.shape
    table = Table(facts.predictions.name, 2, WIDTH + masks)
    best = top(edit, table.column(edit, 4), candidates, rows if isinstance(rows, int) else None)
    found = Table(table.rows(edit, best.index), 2, WIDTH + masks)
    return Candidates(
        boxes=found.columns(edit, 0, 4).name,
        scores=best.scores,
        class_ids=edit.cast(found.column(edit, 5), TensorProto.INT32),
        count=best.count,
        coefficients=found.columns(edit, WIDTH, WIDTH + masks).name if masks else "",
    )
