"""ONNX Runtime behind one class: a prepared graph in, arrays out. Nothing else imports `onnxruntime`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from servekit.errors import InvalidRequest
from servekit.model import TensorSpec

# In the order they are preferred where the installed build has them.
_PROVIDERS: Final = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
PROVIDERS: Final = tuple(_PROVIDERS)
_DATATYPES: Final = {
    "tensor(uint8)": "UINT8",
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
}
_WARM_UP_RUNS: Final = 2
# What dynamic dimensions are warmed up with when the card names no size.
_DEFAULT_SIDE: Final = 640


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session computes: the provider's short name, or `auto`, and the threads of one run."""

    provider: str = "auto"
    threads: int = 1


class Session:
    """A prepared graph, loaded; `run` may be called from several threads at once."""

    def __init__(self, model: bytes, options: SessionOptions) -> None:
        """Load the graph.

        Raises:
            InvalidRequest: ONNX Runtime refuses it.

        """
        try:
            self._session = ort.InferenceSession(
                model, session_options(options), providers=_providers(options.provider)
            )
        except Exception as error:  # ONNX Runtime's classes are private to its binding
            raise InvalidRequest(f"ONNX Runtime can't load the model: {_first_line(error)}") from error
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self.properties: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Return the graph's outputs for (B, H, W, 3) uint8 pictures; a graph of fixed batch runs once a picture."""
        names = [spec.name for spec in self.outputs]
        fixed_batch = self.inputs[0].shape[0]
        step = len(images) if fixed_batch == -1 else fixed_batch
        runs = [
            self._session.run(names, {self.inputs[0].name: images[start : start + step]})
            for start in range(0, len(images), step)
        ]
        if len(runs) == 1:
            return dict(zip(names, runs[0], strict=True))
        return {name: np.concatenate([run[index] for run in runs]) for index, name in enumerate(names)}

    def warm_up(self, height: int = _DEFAULT_SIDE, width: int = _DEFAULT_SIDE) -> None:
        """Have the first runs' costs (memory, kernels) paid before the first request."""
        shape = [max(1, self.inputs[0].shape[0]), *self.inputs[0].shape[1:]]
        shape[1], shape[2] = (shape[1] if shape[1] > 0 else height), (shape[2] if shape[2] > 0 else width)
        for _ in range(_WARM_UP_RUNS):
            self.run(np.zeros(shape, np.uint8))


def session_options(options: SessionOptions) -> ort.SessionOptions:
    """Return ONNX Runtime's form of the options, with threads that sleep when they have nothing to do."""
    native = ort.SessionOptions()
    native.intra_op_num_threads = options.threads
    native.inter_op_num_threads = 1
    native.log_severity_level = 3
    # Threads that spin between operators double the CPU of a picture on a shared or limited node.
    native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    native.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return native


def _providers(wanted: str) -> list[str]:
    installed = set(ort.get_available_providers())
    names = PROVIDERS if wanted == "auto" else dict.fromkeys((wanted, "cpu"))
    chosen = [_PROVIDERS[name] for name in names if _PROVIDERS[name] in installed]
    if _PROVIDERS["cuda"] in chosen:
        # CUDA's libraries come as wheels beside ONNX Runtime, where it looks only when told; else it falls back to CPU.
        ort.preload_dlls()
    if wanted != "auto" and _PROVIDERS[wanted] not in installed:
        raise InvalidRequest(f"provider '{wanted}' is not in the installed ONNX Runtime")
    return chosen


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, _DATATYPES.get(value.type, value.type), shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
