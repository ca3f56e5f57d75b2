"""What can be read off a graph before anything is decided."""

import ast
import math
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, ValueInfoProto

from weights_sync.errors import UnsupportedModelError
from weights_sync.prepare.card import metadata
from weights_sync.prepare.graph import Dim, nodes_behind, shape_of
from weights_sync.prepare.shapes import BATCH, infer

USUAL_SIZE = 640
MAX_SIDE = 8192
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})


@dataclass(frozen=True, slots=True)
class Output:
    """One graph output."""

    name: str
    shape: tuple[Dim, ...]
    """At the facts' `size` and batch one where those may vary."""
    dtype: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A picture network, as its file describes it."""

    model: ModelProto
    input_name: str
    input_dtype: int
    batch: Dim
    channels_last: bool
    """Whether the network takes NHWC pictures, as TensorFlow exports do."""
    size: tuple[int, int]
    """Height and width in pixels: the fixed ones, else the ones it was trained at, else 640."""
    dynamic: bool
    outputs: tuple[Output, ...]
    metadata: dict[str, str]

    @property
    def input_shape(self) -> tuple[Dim, ...]:
        """The network's input at `size`, with the batch of the file."""
        return (self.batch, *self.size, 3) if self.channels_last else (self.batch, 3, *self.size)

    @property
    def predictions(self) -> Output:
        """The one output of rank 3, where a detection head leaves all its anchors; the last of several alike.

        YOLOv9's authors export their auxiliary heads too, in front of the main one.
        """
        found = [output for output in self.outputs if len(output.shape) == 3]
        if len({output.shape for output in found}) != 1:
            raise UnsupportedModelError(f"the model is no detector known here: its outputs are {self.listing}")
        return found[-1]

    @property
    def prototypes(self) -> tuple[Output, ...]:
        """The outputs that can be mask prototypes, (B, C, h, w): none, one, or too many to tell."""
        return tuple(output for output in self.outputs if len(output.shape) == 4)

    @property
    def masks(self) -> int:
        """Number of mask coefficients that belong to a box: 0 for a detector, or where that is not clear."""
        counts = [output.shape[1] for output in self.prototypes]
        if self.metadata.get("task", "segment") == "detect" or len(counts) != 1:
            return 0
        return counts[0] if isinstance(counts[0], int) else 0

    def cells(self, strides: tuple[int, ...] = (8, 16, 32)) -> int:
        """Return the number of grid cells, all strides together."""
        height, width = self.size
        return sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides)

    def head_ops(self) -> set[str]:
        """Return the operator types between the predictions and the last convolutions."""
        return {node.op_type for node in nodes_behind(self.model.graph, self.predictions.name)}

    @property
    def listing(self) -> str:
        """The outputs, for a message."""
        return ", ".join(f"{output.name[:40]} {list(output.shape)}" for output in self.outputs[:4])


def read_facts(model: ModelProto) -> Facts:
    """Read the facts of a tidy model that passed the checks; what takes no picture is refused."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    entry = _picture_input(inputs)
    shape = shape_of(entry)
    pairs = metadata(model)
    channels_last = shape[3] == 3 and shape[1] != 3
    sides = shape[1:3] if channels_last else shape[2:4]
    size, dynamic = _size(sides, pairs)
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else BATCH
    pictures = batch if isinstance(batch, int) else 1
    shapes = infer(model, (pictures, *size, 3) if channels_last else (pictures, 3, *size))
    outputs = tuple(
        Output(value.name, _known(shapes.get(value.name, ()), value), value.type.tensor_type.elem_type)
        for value in model.graph.output
    )
    return Facts(
        model, entry.name, entry.type.tensor_type.elem_type, batch, channels_last, size, dynamic, outputs, pairs
    )


def _known(inferred: tuple[Dim, ...], value: ValueInfoProto) -> tuple[Dim, ...]:
    """Return an inferred shape, with what the file says of an output wherever inference found nothing."""
    declared = shape_of(value)
    if len(inferred) != len(declared):
        return inferred or declared
    return tuple(found if isinstance(found, int) else said for found, said in zip(inferred, declared, strict=True))


def _picture_input(inputs: list[ValueInfoProto]) -> ValueInfoProto:
    listing = ", ".join(f"{value.name[:40]} {list(shape_of(value))}" for value in inputs[:4]) or "none"
    for value in inputs if len(inputs) == 1 else ():
        shape = shape_of(value)
        if len(shape) == 4 and 3 in (shape[1], shape[3]) and value.type.tensor_type.elem_type in FLOATS:
            return value
    raise UnsupportedModelError(
        "the model is no YOLO: it wants one float picture input [batch, 3, height, width] or [batch, height, width, 3],"
        f" and has {listing}"
    )


def _size(sides: tuple[Dim, ...], pairs: dict[str, str]) -> tuple[tuple[int, int], bool]:
    """Return height and width, and whether they may vary."""
    fixed = [side for side in sides if isinstance(side, int)]
    if any(not 0 < side <= MAX_SIDE for side in fixed):
        raise UnsupportedModelError(f"the model wants pictures of {list(sides)} pixels; 1 to {MAX_SIDE} are served")
    if len(fixed) == 2:
        return (fixed[0], fixed[1]), False
    if fixed:
        raise UnsupportedModelError(
            f"the model fixes only one side of its pictures, {list(sides)}: export both or none"
        )
    try:
        height, width = ast.literal_eval(pairs.get("imgsz", "")[:64])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        height = width = USUAL_SIZE
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (height, width)):
        height = width = USUAL_SIZE
    return (height, width), True
