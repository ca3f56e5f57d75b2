"""Quantise a prepared graph, measure what that loses against the float32 one, and refuse to lose too much.

It needs ONNX Runtime and OpenCV, the extra `quantise` of this package; importing it without them is an ImportError.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from onnx import ModelProto, TensorProto

from weights_sync.errors import AccuracyError, UnsupportedModelError
from weights_sync.prepare.card import metadata, read_card, set_metadata
from weights_sync.prepare.checks import check_whole, tensors
from weights_sync.quantise.accuracy import Agreement, compare, partners
from weights_sync.quantise.half import halve
from weights_sync.quantise.integers import to_integers
from weights_sync.quantise.parts import with_float_weights
from weights_sync.quantise.pictures import Canvas, Pictures, read_pictures
from weights_sync.quantise.report import Cost, Report
from weights_sync.quantise.running import Running, Seen

__all__ = ["KINDS", "Agreement", "Report", "quantise"]

Kind = Literal["fp16", "int8"]
KINDS: tuple[Kind, ...] = ("fp16", "int8")
MARK = "yolo.quantisation"
"""Key beside the graph of what was done to it and what it lost."""


def quantise(prepared: ModelProto, kind: Kind, folder: Path, max_loss: float) -> tuple[ModelProto, Report]:
    """Return the prepared graph in half precision or int8, and how it compares on the pictures of a folder.

    int8 takes its ranges from every second picture and is compared on the others. Raises `AccuracyError` where the
    loss is over `max_loss` (0..1).
    """
    prepared = with_float_weights(prepared)
    _check_float(prepared)
    pictures = read_pictures(folder, read_card(prepared))
    ranges, measured = _split(pictures) if kind == "int8" else ((), pictures.canvases)
    quantised = to_integers(prepared, ranges) if kind == "int8" else halve(prepared)
    report = _compare(prepared, quantised, measured, kind, ranges, pictures.damaged)
    if report.loss > max_loss:
        raise AccuracyError(
            f"{kind} loses {report.loss:.4f} of the float32 model's mAP50-95 on {report.measured_on} pictures,"
            f" and --max-loss is {max_loss}: nothing was placed"
        )
    # Its answers are others than those of the model it was made of, and must not be taken for them.
    digest = hashlib.sha256(quantised.SerializeToString(deterministic=True)).hexdigest()
    set_metadata(quantised, {MARK: report.card(), "model.digest": f"sha256:{digest}"})
    check_whole(quantised)
    return quantised, report


def _check_float(prepared: ModelProto) -> None:
    types = {tensor.data_type for tensor in tensors(prepared) if len(tensor.dims) > 1}
    scales = {node.op_type for node in prepared.graph.node} & {"DequantizeLinear", "QuantizeLinear"}
    if MARK in metadata(prepared) or scales or TensorProto.FLOAT16 in types:
        raise UnsupportedModelError("the model is quantised already: quantise the float32 one it was made of")


def _split(pictures: Pictures) -> tuple[Sequence[Canvas], Sequence[Canvas]]:
    """Return the pictures to calibrate and to measure with: not the same ones, if there are two."""
    canvases = pictures.canvases
    return (canvases[::2], canvases[1::2]) if len(canvases) > 1 else (canvases, canvases)


def _compare(
    prepared: ModelProto,
    quantised: ModelProto,
    canvases: Sequence[Canvas],
    kind: Kind,
    ranges: Sequence[Canvas],
    damaged: int,
) -> Report:
    models = Running(prepared), Running(quantised)
    seen: list[tuple[Seen, Seen]] = []
    overlaps: list[float] = []
    for canvas in canvases:
        first, second = (model.look(canvas) for model in models)
        overlaps += _mask_overlaps(first, second)
        seen.append((first, second))
    before, after = zip(*seen, strict=True)
    segments = read_card(prepared).task == "segment"
    return Report(
        kind=kind,
        calibrated_on=len(ranges),
        measured_on=len(canvases),
        seen_before=ranges is canvases,
        damaged=damaged,
        agreement=compare([one.found for one in before], [one.found for one in after]),
        mask_overlap=float(np.mean(overlaps or [1.0])) if segments else None,
        before=Cost(prepared.ByteSize(), median(one.cpu_ms for one in before)),
        after=Cost(quantised.ByteSize(), median(one.cpu_ms for one in after)),
    )


def _mask_overlaps(first: Seen, second: Seen) -> list[float]:
    """Return the intersection over union of the masks of each pair of detections."""
    mine, theirs = partners(first.found.confident(), second.found.confident())
    pairs = zip(first.masks[mine], second.masks[theirs], strict=True)
    return [float((one & other).sum() / max((one | other).sum(), 1)) for one, other in pairs]
