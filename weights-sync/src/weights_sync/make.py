"""A file of any kind that is known here, and what is asked for, made into a prepared graph."""

from pathlib import Path

from onnx import ModelProto

from weights_sync.mindspore import SUFFIX, read_network
from weights_sync.order import Order
from weights_sync.prepare import CANDIDATES, prepare_model
from weights_sync.prepare.checks import read_model


def make(source: Path, order: Order) -> ModelProto:
    """Return the prepared graph of an ONNX file or a MindSpore checkpoint."""
    if order.config or source.suffix == SUFFIX:
        model, digest = read_network(source, order.config, order.max_bytes)
    else:
        model, digest = read_model(source, order.max_bytes)
    return prepare_model(
        model,
        candidates=CANDIDATES if order.candidates is None else order.candidates,
        family=order.family,
        max_bytes=order.max_bytes,
        digest=digest,
        dynamic=order.dynamic,
    )
