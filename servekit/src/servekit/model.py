"""The base of every model served here: a `kserve.Model` whose hot path is ours."""

from __future__ import annotations

import base64
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from servekit.errors import InvalidRequest
from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.sdk import Model
from servekit.statistics import ModelStatistics
from servekit.tensors import from_json


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: -1 stands for a dimension that varies, the batch included."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the protocol's tensor metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What the metadata calls tell about a model; `properties` is the protocol's map of texts."""

    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    properties: Mapping[str, str] = field(default_factory=dict)


class ServedModel(Model):
    """A model in three stages: `preprocess` and `postprocess` around `predict`, each timed.

    A stage gets what the one before returned; `preprocess` gets the `InferenceRequest`, `postprocess` returns the
    `InferenceResponse`. CPU work belongs into a `BoundedExecutor`, never on the event loop.
    """

    def __init__(self, name: str, version: str = "1") -> None:
        super().__init__(name)
        self.version = version
        self.statistics = ModelStatistics()

    @property
    @abstractmethod
    def metadata(self) -> ModelMetadata:
        """What the metadata calls tell about the model."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer the request; its context's `durations_ns` holds the time of each stage afterwards.

        A `predict` that knows better than the clock how long it waited and computed sets `queue` and `compute`.
        """
        durations = request.context.durations_ns
        begun = time.perf_counter_ns()
        payload = await self.preprocess(request)
        preprocessed = time.perf_counter_ns()
        durations["preprocess"] = preprocessed - begun
        result = await self.predict(payload)
        predicted = time.perf_counter_ns()
        response: InferenceResponse = await self.postprocess(result)
        durations.setdefault("compute", predicted - preprocessed)
        durations["postprocess"] = time.perf_counter_ns() - predicted
        return response

    async def __call__(self, body: InferenceRequest, headers: Any = None, verb: Any = None) -> Any:  # noqa: ARG002 (the SDK's signature)
        """Answer a request that comes through the SDK's own data plane."""
        return await self.infer(body), {}

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the inputs as the SDK asks for them."""
        return [spec.as_dict() for spec in self.metadata.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the outputs as the SDK asks for them."""
        return [spec.as_dict() for spec in self.metadata.outputs]

    def request_from_v1(self, body: Mapping[str, Any], context: RequestContext) -> InferenceRequest:
        """Return the request in a V1 body; here: a model of one input, each instance one element of its batch.

        Raises:
            InvalidRequest: the instances are no tensor of that input.

        """
        spec = self.metadata.inputs[0]
        instances = instances_of(body)
        shape = (len(instances), *_nested_shape(instances[0]))
        return InferenceRequest(self.name, (from_json(spec.name, spec.datatype, shape, instances),), context)

    def response_to_v1(self, response: InferenceResponse) -> dict[str, Any]:
        """Return the V1 body: one object an instance, holding its row of each output."""
        batch = response.outputs[0].array.shape[0] if response.outputs else 0
        return {
            "predictions": [
                {tensor.name: _readable(tensor.array[row]) for tensor in response.outputs} for row in range(batch)
            ]
        }


def instances_of(body: Mapping[str, Any]) -> list[Any]:
    """Return the V1 body's instances, at least one.

    Raises:
        InvalidRequest: there is no such list.

    """
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest('a V1 request holds a list under "instances" with at least one element')
    return instances


def _readable(value: Any) -> Any:
    # One row of an output: an array, or an element where the output has one dimension.
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(plain, list):
        return [_readable(item) for item in plain]
    if not isinstance(plain, bytes):
        return plain
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(plain).decode()}


def _nested_shape(value: object) -> Sequence[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape
