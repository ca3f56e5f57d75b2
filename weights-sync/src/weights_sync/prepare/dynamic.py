"""A network that was exported for one size of picture, made to take any: what holds its size is computed instead.

Exports hold it in the targets of Reshape nodes and in tables of the grid's cells. A target is rewritten with what its
input has; a table is recognised by its numbers, which rise evenly along the columns and rows of a grid, and rebuilt
from the picture's size. Anything else that holds the size is named, and the network refused.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare.facts import Facts
from weights_sync.prepare.graph import Dim, Editor, constants, tidy, with_opset
from weights_sync.prepare.notes import array_of
from weights_sync.prepare.shapes import infer
from weights_sync.prepare.tables import GRIDS, rebuilt

HEIGHT, WIDTH = "height", "width"
STEP = 64
"""Pixels; the probes are larger than the export by multiples of it, which every stride divides."""
OPSET = 17
"""An operator set in which shape inference follows numbers that are taken from shapes; in 13 it does not."""
MOST_STEPS = 1000
"""Rewritten nodes; a large network has some sixty."""

JOINING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Concat"})

Shapes = dict[str, tuple[Dim, ...]]


@dataclass(frozen=True, slots=True)
class Probe:
    """The shapes of all values for the size of the export (`now`), and for another (`then`)."""

    size: tuple[int, int]
    """Height and width in pixels."""
    now: Shapes
    then: Shapes


def free_sides(model: ModelProto, facts: Facts) -> ModelProto:
    """Return the network with a height and width that may vary; what holds them fast raises `UnsupportedModelError`."""
    if facts.channels_last:
        raise UnsupportedModelError(
            "the model can not be made dynamic: TensorFlow exports give boxes as fractions of one size"
        )
    freed = ModelProto()
    freed.CopyFrom(with_opset(model, OPSET))
    tidy(freed)
    height, width = facts.size
    for size in ((height + STEP, width + 3 * STEP), (height + 4 * STEP, width + STEP)):
        _free_for(freed, facts, size)
    sides = freed.graph.input[0].type.tensor_type.shape.dim
    for at, name in zip((2, 3), (HEIGHT, WIDTH), strict=True):
        sides[at].dim_param = name
    for output in freed.graph.output:
        output.type.tensor_type.ClearField("shape")
    return freed


def _free_for(model: ModelProto, facts: Facts, size: tuple[int, int]) -> None:
    """Rewrite node after node until the shapes go through for a picture of that size."""
    for _ in range(MOST_STEPS):
        probe, stored = _probe(model, facts, size), constants(model.graph)
        stuck = next((node for node in model.graph.node if _stuck(node, stored, probe)), None)
        if stuck is None:
            return _check(model, facts, probe)
        _loosen(model, stuck, probe, facts)
        tidy(model)
    raise UnsupportedModelError("the model can not be made dynamic: its shapes do not settle")


def _probe(model: ModelProto, facts: Facts, size: tuple[int, int]) -> Probe:
    pictures = facts.batch if isinstance(facts.batch, int) else 1
    # Not strictly: a network that holds its size contradicts itself at another, and what comes before is of use.
    now, then = (infer(model, (pictures, 3, *sides), strict=False) for sides in (facts.size, size))
    return Probe(size, now, then)


def _check(model: ModelProto, facts: Facts, probe: Probe) -> None:
    """Refuse a network some output of which has no shape, or none that follows from the picture's size."""
    ratios = {1.0, *(new / old for new, old in zip(probe.size, facts.size, strict=True))}
    for strides in GRIDS:
        ratios.add(replace(facts, size=probe.size).cells(strides) / facts.cells(strides))
    for output in model.graph.output:
        now, then = probe.now.get(output.name, ()), probe.then.get(output.name, ())
        known = all(isinstance(side, int) for side in (*now, *then))
        if (
            not now
            or not known
            or len(now) != len(then)
            or any(
                not any(math.isclose(int(new), int(old) * ratio) for ratio in ratios)
                for old, new in zip(now, then, strict=True)
            )
        ):
            raise UnsupportedModelError(
                f"the model can not be made dynamic: its output {output.name[:60]!r} does not follow the picture's size"
            )


def _stuck(node: NodeProto, stored: dict[str, TensorProto], probe: Probe) -> bool:
    """Tell whether a node's inputs follow the picture, and what is stored beside them does not."""
    if node.op_type in JOINING:
        return bool(_tables(node, stored, probe))
    if not node.input or node.input[0] not in probe.now or node.output[0] not in probe.now:
        return False
    before, after = (probe.now[name] for name in (node.input[0], node.output[0]))
    then_before, then_after = (probe.then.get(name, ()) for name in (node.input[0], node.output[0]))
    if node.op_type == "Reshape" and node.input[1] in stored:
        return _count(then_before) != _count(then_after)
    if node.op_type == "Resize":
        return before != then_before and after == then_after
    return node.op_type == "Slice" and before != then_before and before == after == then_after


def _tables(node: NodeProto, stored: dict[str, TensorProto], probe: Probe) -> list[int]:
    """Return the positions of a node's inputs that are stored tables of the export's size."""
    return [
        at for at, name in enumerate(node.input) if name in stored and _holds(tuple(stored[name].dims), node, probe)
    ]


def _count(shape: tuple[Dim, ...]) -> int:
    return math.prod(side for side in shape if isinstance(side, int))


def _holds(table: tuple[int, ...], node: NodeProto, probe: Probe) -> bool:
    """Tell whether a stored table has sides of the export that a value beside it has and changes."""
    for name in node.input:
        now, then = probe.now.get(name, ()), probe.then.get(name, ())
        sides = zip(reversed(table), reversed(now), reversed(then), strict=False)
        if len(now) == len(then) and any(side == old != new and side > 1 for side, old, new in sides):
            return True
    return False


def _loosen(model: ModelProto, node: NodeProto, probe: Probe, facts: Facts) -> None:
    """Rewrite what holds the size in one node."""
    edit, stored, done = Editor(model), constants(model.graph), False
    if node.op_type == "Reshape":
        done = _loosen_target(edit, node, probe)
    elif node.op_type == "Resize":
        done = _loosen_resize(edit, node, probe)
    elif node.op_type == "Slice" and len(node.input) > 2 and node.input[2] in stored:
        ends = array_of(stored[node.input[2]])
        node.input[2] = edit.constant(np.full(ends.shape, np.iinfo(ends.dtype).max), ends.dtype)
        done = True
    elif node.op_type in JOINING:
        for at in _tables(node, stored, probe):
            beside = next(name for name in node.input if name not in stored)
            node.input[at] = rebuilt(edit, facts, array_of(stored[node.input[at]]), beside) or node.input[at]
        done = not _tables(node, stored, probe)
    if not done:
        height, width = facts.size
        raise UnsupportedModelError(
            f"the model can not be made dynamic: {node.op_type} {(node.name or node.output[0])[:60]!r} holds the size"
            f" {width}x{height} that it was exported for; export it with dynamic axes"
        )


def _loosen_resize(edit: Editor, node: NodeProto, probe: Probe) -> bool:
    before, after = probe.now[node.input[0]], probe.now[node.output[0]]
    pairs = list(zip(before, after, strict=True))
    sides = [(old, new) for old, new in pairs if isinstance(old, int) and isinstance(new, int)]
    if len(sides) != len(pairs) or any(new % old for old, new in sides):
        return False
    del node.input[2:]
    node.input.append(edit.constant([new / old for old, new in sides], np.float32))
    return True


def _loosen_target(edit: Editor, node: NodeProto, probe: Probe) -> bool:
    """Give a Reshape a target that follows its input: its sides, at most one of them left open, or a grid's."""
    before, after = probe.now[node.input[0]], probe.now[node.output[0]]
    then = probe.then[node.input[0]]
    same = 0
    while same < min(len(before), len(after)) and before[-1 - same] == after[-1 - same] == then[-1 - same]:
        same += 1
    free = range(1, len(after) - same)
    changed = {old for old, new in zip(before, then, strict=True) if old != new}
    moving = [at for at in free if after[at] in changed]
    flat = math.prod(old for old, new in zip(before, then, strict=True) if old != new and isinstance(old, int))
    open_ = moving or [at for at in free if isinstance(side := after[at], int) and side % flat == 0]
    batch = [0] if before[:1] == after[:1] else [after[0]]
    if len(open_) == 1:
        target = [*batch, *(-1 if at == open_[0] else side for at, side in enumerate(after) if at)]
        node.input[1] = edit.constant(target, np.int64)
        return True
    return _loosen_to_grid(edit, node, probe)


def _loosen_to_grid(edit: Editor, node: NodeProto, probe: Probe) -> bool:
    """Give a Reshape that makes a grid of its cells again the sides of another value with that grid."""
    after, cells = probe.now[node.output[0]], _count(probe.then[node.input[0]])
    for name, shape in probe.now.items():
        later = probe.then.get(name, ())
        if len(shape) == len(later) == 4 and shape[2:] == after[2:] and _count((*after[:2], *later[2:])) == cells:
            first = edit.slice(edit.op("Shape", node.input[0]), 0, 1, 0)
            sides = edit.slice(edit.op("Shape", name), 2, 4, 0)
            node.input[1] = edit.op("Concat", first, edit.constant(after[1:2], np.int64), sides, axis=0)
            return True
    return False
