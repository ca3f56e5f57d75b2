"""What the server does, whatever protocol asks: REST and gRPC are thin shells around this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import structlog

from servekit.errors import DeadlineExceeded, InvalidRequest
from servekit.inference import InferenceRequest, InferenceResponse, wanted_outputs
from servekit.metrics import STAGE_SECONDS
from servekit.model import ServedModel
from servekit.repository import IndexEntry, Repository

_log = structlog.get_logger("servekit.dataplane")
_VERSION: Final = version("servekit")
_MAX_TIMEOUT_US: Final = 1 << 63  # what the protocol's integers hold
EXTENSIONS: Final = (
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "model_configuration",
    "binary_tensor_data",
    "schedule_policy",
    "parameters",
)
_TRITON_STAGE: Final = {
    "queue": "queue",
    "preprocess": "compute_input",
    "compute": "compute_infer",
    "postprocess": "compute_output",
}


class DataPlane:
    """Every call of the protocol over one repository.

    `draining` and `starting` make the server unready; while `stopping` it has connections end.
    """

    def __init__(self, name: str, repository: Repository) -> None:
        self.name = name
        self.repository = repository
        self.starting = True
        self.draining = False
        self.stopping = False

    async def ready(self) -> bool:
        """Tell whether the server should get requests: models loaded, warm and healthy, and not about to stop."""
        models = list(self.repository.models.values())
        if self.starting or self.draining or not models:
            return False
        return all([await _is_healthy(model) for model in models])

    def server_metadata(self) -> dict[str, Any]:
        """Return the server's name, version and protocol extensions."""
        return {"name": self.name, "version": _VERSION, "extensions": list(EXTENSIONS)}

    def model_metadata(self, name: str, model_version: str = "") -> dict[str, Any]:
        """Return a loaded model's metadata, its properties included."""
        model = self.repository.loaded(name, model_version)
        metadata = model.metadata
        return {
            "name": name,
            "versions": [model.version],
            "platform": metadata.platform,
            "inputs": [spec.as_dict() for spec in metadata.inputs],
            "outputs": [spec.as_dict() for spec in metadata.outputs],
            "properties": dict(metadata.properties),
        }

    async def model_ready(self, name: str, model_version: str = "") -> bool:
        """Tell whether a model can answer now.

        Raises:
            NotFound: there is no such model or version.
            Unavailable: it is loading, or could not be loaded.

        """
        model = self.repository.loaded(name, model_version)
        return not self.draining and await _is_healthy(model)

    def model_configuration(self, name: str, model_version: str = "") -> dict[str, Any]:
        """Return a model's configuration in the shape of Triton's extension."""
        model = self.repository.loaded(name, model_version)
        metadata = model.metadata
        return {
            "name": name,
            "platform": metadata.platform,
            "backend": metadata.platform.partition("_")[0],
            "max_batch_size": 0,
            "input": [_configured(spec.as_dict()) for spec in metadata.inputs],
            "output": [_configured(spec.as_dict()) for spec in metadata.outputs],
            "parameters": {key: {"string_value": value} for key, value in metadata.properties.items()},
        }

    def statistics(self, name: str = "", model_version: str = "") -> dict[str, Any]:
        """Return the counters of one model, or of every loaded one."""
        loaded = self.repository.loaded
        models = [loaded(name, model_version)] if name else [loaded(each) for each in sorted(self.repository.models)]
        return {"model_stats": [model.statistics.as_dict(model.name, model.version) for model in models]}

    def index(self, *, only_ready: bool) -> list[IndexEntry]:
        """Return the repository's index; only the models that answer, where asked."""
        return [entry for entry in self.repository.index() if entry.state == "READY" or not only_ready]

    async def load(self, name: str, parameters: Iterable[str]) -> None:
        """Have the newest form of a model loaded and ready; `parameters` are the names of those that the call has.

        Raises:
            InvalidRequest: a parameter asks for something else to be loaded than what the repository holds.
            ServingError: as the repository's own `load`.

        """
        for parameter in parameters:
            if parameter == "config" or parameter.startswith("file:"):
                raise InvalidRequest(f"parameter '{parameter[:100]}': a model is loaded as its repository holds it")
        await self.repository.load(name)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer a request with the outputs it wants, within its time limit.

        Raises:
            ServingError: as the tables of errors say.

        """
        model = self.repository.loaded(request.model_name, request.model_version)
        _apply_timeout(request)
        begun = time.perf_counter_ns()
        try:
            response = await _within_limit(model, request)
            outputs = wanted_outputs(response, request.outputs)
        except BaseException:  # a defect or a client that left is a failure too
            model.statistics.failed(time.perf_counter_ns() - begun)
            raise
        self._count(model, request, response, time.perf_counter_ns() - begun)
        return replace(response, id=request.id, model_version=model.version, outputs=outputs)

    def _count(self, model: ServedModel, request: InferenceRequest, response: InferenceResponse, total_ns: int) -> None:
        durations = request.context.durations_ns
        first = response.outputs[0].array if response.outputs else None
        batch = first.shape[0] if first is not None and first.ndim else 1
        stages = {_TRITON_STAGE[stage]: ns for stage, ns in durations.items() if stage in _TRITON_STAGE}
        model.statistics.succeeded(total_ns, batch, stages)
        for stage, ns in durations.items():
            STAGE_SECONDS.labels(model.name, stage).observe(ns / 1e9)


async def _within_limit(model: ServedModel, request: InferenceRequest) -> InferenceResponse:
    clock = asyncio.timeout(request.context.remaining_s())
    try:
        async with clock:
            return await model.infer(request)
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise DeadlineExceeded("the request's time limit passed before it was answered") from error


async def _is_healthy(model: ServedModel) -> bool:
    try:
        return bool(await model.healthy())
    except Exception as error:  # noqa: BLE001 (a model that can't tell is not healthy)
        _log.warning("health check failed", model=model.name, exc_info=error)
        return False


def _apply_timeout(request: InferenceRequest) -> None:
    timeout_us = request.parameters.get("timeout")
    if timeout_us is None:
        return
    try:
        microseconds = int(timeout_us)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("parameter 'timeout' must be a whole number of microseconds") from error
    if not 0 <= microseconds < _MAX_TIMEOUT_US:
        raise InvalidRequest("parameter 'timeout' must be a whole number of microseconds")
    if microseconds:
        request.context.limit(microseconds / 1e6)


def _configured(spec: dict[str, Any]) -> dict[str, Any]:
    datatype = "STRING" if spec["datatype"] == "BYTES" else spec["datatype"]
    return {"name": spec["name"], "data_type": f"TYPE_{datatype}", "dims": spec["shape"]}
