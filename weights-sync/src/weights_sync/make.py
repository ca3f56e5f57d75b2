"""A file of any kind that is known here, and what is asked for, made into a prepared graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from weights_sync.mindspore import read_network
from weights_sync.order import CHECKPOINT, Order
from weights_sync.place import digest_of
from weights_sync.prepare import is_prepared, prepare_model
from weights_sync.prepare.notes import Note
from weights_sync.prepare.skeleton import pieces, read_skeleton
from weights_sync.sidecar import read_sidecar


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared graph, and what it was made of."""

    model: ModelProto
    """With notes of where its large tensors' bytes are (`prepare.notes`)."""
    source: str
    """sha256 (hex) of the file, and of the weights that it keeps in others; what the order names is left out."""
    untouched: Note | None = None
    """The file itself, where it is the prepared graph already."""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes of the prepared graph's file, as far as they are read as long as what it was made of is."""
        return self.untouched.pieces() if self.untouched else pieces(self.model)


def make(source: Path, order: Order, sha256: str = "") -> Prepared:
    """Prepare an ONNX file or a MindSpore checkpoint; `sha256` (hex) is that of the file, where somebody has it."""
    untouched = None
    if order.config or source.suffix == CHECKPOINT:
        model, digest = read_network(source, order.config, order.max_bytes)
        own = sha256 or digest_of(source)
    else:
        skeleton = read_skeleton(source, order.max_bytes)
        model, own = skeleton.model, skeleton.digest(sha256)
        digest = own
        untouched = skeleton.file if is_prepared(model) and not skeleton.beside else None
    prepared = prepare_model(
        model,
        candidates=order.candidates,
        family=order.family,
        max_bytes=order.max_bytes,
        digest=digest,
        dynamic=order.dynamic,
        sidecar=read_sidecar(order.sidecar) if order.sidecar else None,
    )
    return Prepared(prepared, own, untouched)
