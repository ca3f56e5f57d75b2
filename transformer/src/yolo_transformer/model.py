"""The transformer's KServe model: encoded pictures in, detections out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from servekit.errors import InvalidRequest, Unavailable
from servekit.executor import BoundedExecutor
from servekit.inference import InferenceRequest, InferenceResponse, Parameters, RequestContext
from servekit.model import ModelMetadata, ServedModel, TensorSpec, instances_of
from servekit.rpc.codec import encode_request
from servekit.tensors import Tensor, bytes_array
from yolo_transformer.card import ModelCard
from yolo_transformer.options import DetectionOptions, parse_options
from yolo_transformer.pictures import PlacedPicture, RequestLimits, place, sources_of
from yolo_transformer.predictor import Predictor
from yolo_transformer.results import DetectionResponse, PictureResult, detect, document_of, tensors_of

if TYPE_CHECKING:  # Redis's client takes as long to import as all else here
    from yolo_transformer.cache import ResultCache

PLATFORM: Final = "yolo-kserve_transformer"
# Replicas get new weights one after the other, and any of them may answer.
_CARD_READS: Final = 4
# So long may a kept result be given after the weights that found it have left the predictor.
_CARD_FRESH_S: Final = 1.0
_STAGES: Final = ("preprocess", "queue", "compute", "postprocess")


@dataclass(frozen=True, slots=True)
class DetectionRequest(InferenceRequest):
    """A request whose pictures may each have options of their own, beside the request's parameters."""

    picture_parameters: tuple[Parameters, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A request on its way to the predictor: the encoded tensor, and what its answer will need."""

    request: InferenceRequest
    card: ModelCard
    options: tuple[DetectionOptions, ...]
    pictures: Sequence[PlacedPicture]
    message: bytes


@dataclass(frozen=True, slots=True)
class Predicted:
    """A request and the predictor's candidates for it."""

    placed: Placed
    response: InferenceResponse


class DetectorModel(ServedModel):
    """Pictures to detections with the predictor's model of the same name."""

    def __init__(
        self,
        name: str,
        card: ModelCard,
        predictor: Predictor,
        executor: BoundedExecutor,
        limits: RequestLimits,
        cache: ResultCache | None = None,
    ) -> None:
        super().__init__(name, card.version or "1")
        self._card = card
        self._predictor = predictor
        self._executor = executor
        self._limits = limits
        self._cache = cache
        self._card_seen = time.monotonic()
        self._reading: asyncio.Task[ModelCard] | None = None
        self._refreshing = asyncio.Lock()

    @property
    def metadata(self) -> ModelMetadata:
        """The detection interface; the properties are the predictor's card."""
        return ModelMetadata(
            PLATFORM,
            (TensorSpec("image", "BYTES", (-1,)), TensorSpec("pixels", "UINT8", (-1, -1, -1, 3))),
            _output_specs(self._card),
            self._card.properties,
        )

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer the request with what is kept of the same pictures, or with the predictor.

        Raises:
            ServingError: as the stages do.

        """
        if self._cache is None:
            return await super().infer(request)
        begun = time.perf_counter_ns()
        card = await self._recent_card()
        sources = sources_of(request, self._limits)
        options = options_of(request, len(sources), card)
        if not all(option.use_cache for option in options):
            return await super().infer(request)
        key = await self._cache.key(sources, options, card)
        results = await self._cache.find(self.name, key)
        if results is None:
            response = await super().infer(request)
            if isinstance(response, DetectionResponse) and response.parameters["model.digest"] == card.digest:
                self._cache.keep(key, response.pictures)
            return response
        durations = request.context.durations_ns
        durations["preprocess"] = time.perf_counter_ns() - begun
        return self._respond(results, card, options, card.version, durations, cached=True)

    async def preprocess(self, request: InferenceRequest, _headers: object = None) -> Placed:
        """Return the request with its pictures decoded, letterboxed and encoded for the predictor.

        Raises:
            ServingError: a picture or a parameter is bad, or too much waits already.

        """
        return await self._place(request, self._card)

    async def _place(self, request: InferenceRequest, card: ModelCard) -> Placed:
        sources = sources_of(request, self._limits)
        options = options_of(request, len(sources), card)
        keep = [option.return_image for option in options]
        completed = await self._executor.run(_place_and_encode, request, sources, card, self._limits, keep)
        message, pictures = completed.value
        return Placed(request, card, options, pictures, message)

    async def predict(self, placed: Placed, _headers: object = None, _response_headers: object = None) -> Predicted:
        """Return the predictor's candidates, and the request as the weights that found them understand it.

        Raises:
            ServingError: the predictor's own.

        """
        context = placed.request.context
        try:
            response = await self._predictor.infer(placed.message, context)
        except InvalidRequest:
            # New weights may take pictures of another size.
            card = await self._read_card()
            if card.digest == placed.card.digest:
                raise
            placed = await self._place(placed.request, card)
            response = await self._predictor.infer(placed.message, context)
        durations = context.durations_ns
        for stage in ("queue", "compute"):
            durations[stage] = int(response.parameters.get(f"{stage}_us", 0)) * 1000
        digest = str(response.parameters.get("model.digest", placed.card.digest))
        if digest == self._card.digest:
            self._card_seen = time.monotonic()
        return Predicted(placed if digest == placed.card.digest else await self._reread(placed, digest), response)

    async def postprocess(
        self, predicted: Predicted, _headers: object = None, _response_headers: object = None
    ) -> DetectionResponse:
        """Return the detections in every form that an answer may need."""
        placed = predicted.placed
        completed = await self._executor.run(_detect_all, predicted)
        durations = {**placed.request.context.durations_ns, "postprocess": completed.queued_ns + completed.ran_ns}
        version = predicted.response.model_version
        return self._respond(completed.value, placed.card, placed.options, version, durations, cached=False)

    def _respond(
        self,
        results: tuple[PictureResult, ...],
        card: ModelCard,
        options: tuple[DetectionOptions, ...],
        version: str,
        durations_ns: Mapping[str, int],
        *,
        cached: bool,
    ) -> DetectionResponse:
        return DetectionResponse(
            self.name,
            tensors_of(results, card, options),
            parameters={
                "model_version": version,
                "model.digest": card.digest,
                "cached": cached,
                **{f"{stage}_us": durations_ns.get(stage, 0) // 1000 for stage in _STAGES},
            },
            pictures=results,
        )

    def request_from_v1(self, body: Mapping[str, Any], context: RequestContext) -> InferenceRequest:
        """Return the request in a V1 body: each instance a picture in base64, with options beside it.

        Raises:
            InvalidRequest: an instance holds no picture.

        """
        instances = instances_of(body)
        pictures = [_v1_picture(number, instance) for number, instance in enumerate(instances)]
        parameters = tuple({key: value for key, value in i.items() if key != "image"} for i in instances)
        for number, options in enumerate(parameters):
            if not all(isinstance(value, bool | int | float | str) for value in options.values()):
                raise InvalidRequest(f"instance {number + 1}: options must be texts, numbers or booleans")
        return DetectionRequest(
            self.name, (Tensor("image", bytes_array(pictures)),), context, picture_parameters=parameters
        )

    def response_to_v1(self, response: InferenceResponse) -> dict[str, Any]:
        """Return the V1 body: the detections of each picture, and its size."""
        pictures = response.pictures if isinstance(response, DetectionResponse) else ()
        return {"predictions": [document_of(picture) for picture in pictures]}

    async def _reread(self, placed: Placed, digest: str) -> Placed:
        """Return the placed request as the weights of this digest understand it, which have answered it."""
        async with self._refreshing:
            for _ in range(_CARD_READS):
                if self._card.digest == digest:
                    break
                await self._read_card()
            card = self._card
        if card.digest != digest:
            raise Unavailable("the predictor's weights are being changed: try again in a moment")
        # The pictures stay where they were placed, in a canvas of the size that was sent.
        canvas = replace(card, height=placed.card.height, width=placed.card.width)
        return replace(placed, card=canvas, options=options_of(placed.request, len(placed.pictures), card))

    async def _recent_card(self) -> ModelCard:
        if time.monotonic() - self._card_seen <= _CARD_FRESH_S:
            return self._card
        # One call for all who wait, whoever of them leaves.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_card())
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._reading)

    async def _read_card(self) -> ModelCard:
        self._card = ModelCard.from_properties(await self._predictor.properties(self.name))
        self._card_seen = time.monotonic()
        self.version = self._card.version or "1"
        return self._card


def options_of(request: InferenceRequest, pictures: int, card: ModelCard) -> tuple[DetectionOptions, ...]:
    """Return the options of each picture: the request's parameters, overlaid with the picture's own."""
    if isinstance(request, DetectionRequest) and request.picture_parameters:
        return tuple(parse_options({**request.parameters, **own}, card.labels) for own in request.picture_parameters)
    return (parse_options(request.parameters, card.labels),) * pictures


def _place_and_encode(
    request: InferenceRequest,
    sources: Sequence[bytes] | npt.NDArray[np.uint8],
    card: ModelCard,
    limits: RequestLimits,
    keep: Sequence[bool],
) -> tuple[bytes, list[PlacedPicture]]:
    # In one job: the canvas is the thread's own and must be copied into the message before the next picture.
    canvas, pictures = place(sources, card, limits, keep)
    return encode_request(InferenceRequest(request.model_name, (Tensor("images", canvas),), request.context)), pictures


def _detect_all(predicted: Predicted) -> tuple[PictureResult, ...]:
    placed = predicted.placed
    candidates = {tensor.name: tensor.array for tensor in predicted.response.outputs}
    return tuple(
        detect(candidates, index, picture, placed.card, options)
        for index, (picture, options) in enumerate(zip(placed.pictures, placed.options, strict=True))
    )


def _v1_picture(number: int, instance: object) -> bytes:
    image = instance.get("image") if isinstance(instance, dict) else None
    text = image.get("b64") if isinstance(image, dict) else image
    if not isinstance(text, str):
        raise InvalidRequest(f'instance {number + 1} needs an "image": {{"b64": "…"}}')
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"instance {number + 1}: its image is no base64") from error


def _output_specs(card: ModelCard) -> tuple[TensorSpec, ...]:
    specs = (
        TensorSpec("num_detections", "INT32", (-1,)),
        TensorSpec("boxes", "FP32", (-1, -1, 4)),
        TensorSpec("scores", "FP32", (-1, -1)),
        TensorSpec("class_ids", "INT32", (-1, -1)),
        TensorSpec("labels", "BYTES", (-1, -1)),
        TensorSpec("annotated_image", "BYTES", (-1,)),
    )
    return (*specs, TensorSpec("masks", "BYTES", (-1, -1))) if card.task == "segment" else specs
