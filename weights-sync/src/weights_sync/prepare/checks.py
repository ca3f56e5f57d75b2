"""What is refused before any surgery: files that are no ONNX, damaged graphs, what a server must not load."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import GraphProto, ModelProto, TensorProto

from weights_sync.errors import DamagedModelError, TooLargeError, UnsupportedModelError
from weights_sync.prepare.graph import all_nodes, opset_of, subgraphs
from weights_sync.prepare.notes import described
from weights_sync.prepare.wire import CUT_SHORT

MAX_BYTES = 2 * 1024**3 - 1
"""Size of the largest model; also what one protobuf message can hold."""
MIN_OPSET = 11
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

START = 64
"""Bytes that `check_start` looks at."""
_NO_ONNX = (
    (b"version https://git-lfs", "the file is a git-lfs pointer, not the weights: fetch them with `git lfs pull`"),
    (b"<", "the file is an HTML or XML page, not a model: check the link it was downloaded from"),
    (b"PK\x03\x04", "the file is a zip archive (a PyTorch .pt?), not ONNX: export the model to ONNX first"),
    (b"\x1f\x8b", "the file is compressed with gzip: unpack it first"),
    (b"{", "the file is JSON text, not a model"),
)

# What onnx, protobuf and numpy raise for bytes that pass the parser and make no sense.
_DAMAGE = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    DecodeError,
    EncodeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def damage_named() -> Iterator[None]:
    """Turn what libraries raise for a senseless model into one line that says so."""
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:160]
        raise DamagedModelError(f"the model is damaged: {reason or type(error).__name__}") from error


def check_whole(model: ModelProto) -> None:
    """Refuse a model that `onnx.checker` does not pass, shapes and types included."""
    with damage_named():
        onnx.checker.check_model(described(model), full_check=True)


def check_size(size: int, max_bytes: int = MAX_BYTES) -> None:
    """Refuse what is over the limit; sizes in bytes."""
    if size > max_bytes:
        raise TooLargeError(f"the model has {size} bytes; the limit is {max_bytes}")


def parse(data: bytes, max_bytes: int = MAX_BYTES) -> ModelProto:
    """Read the bytes of an ONNX file; nothing in it is checked yet but that it is one."""
    check_size(len(data), max_bytes)
    check_start(data[:START])
    return parse_message(data)


def parse_message(data: bytes) -> ModelProto:
    """Read the message that an ONNX file is."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise DamagedModelError(CUT_SHORT) from error
    if not model.graph.node:
        raise DamagedModelError("the file holds no graph: it is damaged or of another format")
    return model


def check_start(start: bytes) -> None:
    """Refuse what tells by its first bytes that it is something else."""
    if not start:
        raise DamagedModelError("the file is empty")
    for magic, reason in _NO_ONNX:
        if start.lstrip().startswith(magic):
            raise DamagedModelError(reason)


def check_graph(model: ModelProto) -> None:
    """Refuse what ONNX Runtime alone can not run, or what would reach outside the file."""
    opset = opset_of(model)
    if opset < MIN_OPSET:
        raise UnsupportedModelError(f"the model uses operator set {opset}: export it with {MIN_OPSET} or later")
    foreign = sorted({node.domain for node in all_nodes(model.graph)} - STANDARD_DOMAINS)
    if foreign or model.functions:
        names = ", ".join(name[:60] for name in foreign[:3]) or "local functions"
        raise UnsupportedModelError(f"the model uses operators outside the ONNX standard ({names}): export it without")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors(model)):
        raise UnsupportedModelError("the model keeps weights in other files, which are not there: save it as one file")


def check_contract(model: ModelProto) -> None:
    """Refuse a model that calls itself prepared and lacks the inputs or outputs of a prepared graph."""
    inputs, outputs = ({value.name for value in values} for values in (model.graph.input, model.graph.output))
    if inputs != {"images"} or not outputs >= {"boxes", "scores", "class_ids"}:
        raise DamagedModelError("the model calls itself prepared and is not: prepare the original file again")


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor: initializers and attributes, nested graphs included."""
    yield from model.graph.initializer
    yield from inner_tensors(model.graph)


def inner_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every stored tensor but the graph's own initializers: attributes, sparse ones, those of nested graphs."""
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from inner.initializer
            yield from inner_tensors(inner)
