"""A file of any kind that is known here, and what is asked for, made into a prepared graph."""

from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from weights_sync.mindspore import read_network
from weights_sync.order import CHECKPOINT, Order
from weights_sync.place import digest_of
from weights_sync.prepare import CANDIDATES, prepare_model
from weights_sync.prepare.checks import read_model
from weights_sync.sidecar import read_sidecar


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared graph, and what it was made of."""

    model: ModelProto
    source: str
    """sha256 (hex) of the file, and of the weights that it keeps in others; what the order names is left out."""


def make(source: Path, order: Order) -> Prepared:
    """Prepare an ONNX file or a MindSpore checkpoint."""
    if order.config or source.suffix == CHECKPOINT:
        model, digest = read_network(source, order.config, order.max_bytes)
        own = digest_of(source)
    else:
        model, digest = read_model(source, order.max_bytes)
        own = digest
    prepared = prepare_model(
        model,
        candidates=CANDIDATES if order.candidates is None else order.candidates,
        family=order.family,
        max_bytes=order.max_bytes,
        digest=digest,
        dynamic=order.dynamic,
        sidecar=read_sidecar(order.sidecar) if order.sidecar else None,
    )
    return Prepared(prepared, own)
