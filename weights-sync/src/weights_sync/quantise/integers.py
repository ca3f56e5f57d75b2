"""A prepared graph in 8 bit integers: its network between QuantizeLinear and DequantizeLinear, the rest in float32."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from weights_sync.prepare.graph import with_opset
from weights_sync.quantise.parts import around, last_layers, named, network_of, with_network
from weights_sync.quantise.pictures import Canvas

OPSET = 13
"""The first operator set with a scale for each channel."""
AT_ONCE = 1
"""Pictures whose layers' results are in memory together; those of one are some hundred megabytes."""
PROCESSED = "onnx.quant.pre_process"
"""What ONNX Runtime writes beside a model whose shapes it inferred; without it, it warns."""


class Calibration(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime ships no types
    """The pictures, one by one, as the graph's input; how many there are, and a range of them, ONNX Runtime asks."""

    def __init__(self, canvases: Sequence[Canvas]) -> None:
        self._canvases = canvases
        self._left = iter(canvases)

    def __len__(self) -> int:
        return len(self._canvases)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Have the pictures of a range come next."""
        self._left = iter(self._canvases[start_index:end_index])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """Return the next picture, (1, H, W, 3) uint8, or None after the last."""
        canvas = next(self._left, None)
        return None if canvas is None else {"images": canvas[None]}


def to_integers(prepared: ModelProto, canvases: Sequence[Canvas]) -> ModelProto:
    """Return the graph with a network in int8; the ranges of its values are those that the pictures give.

    Weights have a scale a channel, values one a tensor. Of the values a thousandth of a percent at each end is cut off:
    a single outlier costs all others their resolution (YOLOX-nano loses most of its detections by it). Values are
    unsigned, for activations such as SiLU have hardly anything below zero, and ONNX Runtime is fastest with them. The
    layers whose results are decoded stay in float32.
    """
    model = named(with_opset(prepared, OPSET))
    network = network_of(model)
    # Of the whole graph ONNX Runtime would look for the ranges of boxes, too.
    network.metadata_props.add(key=PROCESSED, value="onnxruntime.quant")
    kept = around(network.graph) | last_layers(model.graph)
    with tempfile.TemporaryDirectory(prefix="weights-sync-") as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder, "integers.onnx")
        quantize_static(
            network,
            file,
            Calibration(canvases),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(kept),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibStridedMinMax": AT_ONCE},
        )
        return with_network(model, onnx.load(file))
