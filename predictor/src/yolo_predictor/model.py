"""The predictor's KServe model: letterboxed pictures in, candidates out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from servekit.errors import InvalidRequest, TooLarge
from servekit.executor import BoundedExecutor
from servekit.inference import InferenceRequest, InferenceResponse
from servekit.model import ModelMetadata, ServedModel
from servekit.tensors import Tensor
from yolo_predictor.session import Session

PLATFORM: Final = "onnxruntime_onnx"
_INPUT: Final = "images"


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest batch, and the most pixels of one picture's tensor."""

    max_batch: int = 64
    max_pixels: int = 2048 * 2048


@dataclass(frozen=True, slots=True)
class Batch:
    """A request whose pictures were found fit: `images` is (B, H, W, 3) uint8, RGB."""

    request: InferenceRequest
    images: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A request and the graph's outputs for it."""

    request: InferenceRequest
    outputs: dict[str, npt.NDArray[Any]]


class PredictorModel(ServedModel):
    """A prepared graph behind the protocol."""

    def __init__(self, name: str, version: str, session: Session, executor: BoundedExecutor, limits: Limits) -> None:
        super().__init__(name, version)
        self._session = session
        self._executor = executor
        self._limits = limits
        self._metadata = ModelMetadata(
            PLATFORM, session.inputs, session.outputs, {**session.properties, "model.version": version}
        )
        self._stride = int(json.loads(session.properties["yolo.input"])["stride"])
        self._digest = session.properties.get("model.digest", "")

    @property
    def metadata(self) -> ModelMetadata:
        """Tensors of the graph; the properties are its card."""
        return self._metadata

    async def preprocess(self, request: InferenceRequest, _headers: object = None) -> Batch:
        """Return the request's pictures.

        Raises:
            InvalidRequest: they are not what the graph takes.
            TooLarge: they are over a limit.

        """
        images = request.input(_INPUT)
        if images is None or len(request.inputs) != 1:
            raise InvalidRequest(f"model '{self.name}' takes one input, '{_INPUT}'")
        check_images(images, self._session.inputs[0].shape, self._stride, self._limits)
        return Batch(request, images)

    async def predict(self, batch: Batch, _headers: object = None, _response_headers: object = None) -> Candidates:
        """Return the graph's outputs; the time in the queue and in the graph goes to the request's durations."""
        completed = await self._executor.run(self._session.run, batch.images)
        batch.request.context.durations_ns.update(queue=completed.queued_ns, compute=completed.ran_ns)
        return Candidates(batch.request, completed.value)

    async def postprocess(
        self, candidates: Candidates, _headers: object = None, _response_headers: object = None
    ) -> InferenceResponse:
        """Return the candidates as tensors, and what the transformer reports of how they came about."""
        durations = candidates.request.context.durations_ns
        return InferenceResponse(
            self.name,
            tuple(Tensor(name, array) for name, array in candidates.outputs.items()),
            parameters={
                "model.digest": self._digest,
                "queue_us": durations["queue"] // 1000,
                "compute_us": durations["compute"] // 1000,
            },
        )


def check_images(images: npt.NDArray[Any], expected: tuple[int, ...], stride: int, limits: Limits) -> None:
    """Hold a tensor against a graph's input shape (-1 for a free dimension), its stride in pixels, and the limits.

    Raises:
        InvalidRequest: it is no (B, H, W, 3) uint8 array, or not of the graph's size.
        TooLarge: it is over a limit.

    """
    if images.dtype != np.uint8:
        raise InvalidRequest(f"input '{_INPUT}' must be UINT8, RGB from 0 to 255")
    wanted = [size if size > 0 else "any" for size in expected]
    if images.ndim != len(expected) or 0 in images.shape:
        raise InvalidRequest(f"input '{_INPUT}' has shape {list(images.shape)}, the model takes {wanted}")
    batch, height, width, _ = images.shape
    if batch > limits.max_batch:
        raise TooLarge(f"a batch of {batch} is larger than {limits.max_batch}")
    if height * width > limits.max_pixels:
        raise TooLarge(f"{width}x{height} pixels are more than {limits.max_pixels}")
    # A fixed batch is the session's business: it runs several times.
    if any(size not in {-1, got} for size, got in zip(expected[1:], images.shape[1:], strict=True)):
        raise InvalidRequest(f"input '{_INPUT}' has shape {list(images.shape)}, the model takes {wanted}")
    if height % stride or width % stride:
        raise InvalidRequest(f"input '{_INPUT}' is {width}x{height}, and both must be multiples of {stride}")
