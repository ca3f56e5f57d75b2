"""A predictor of canned candidates that does as it is told, and a wire to it that can be cut.

It is servekit's own gRPC server around a toy model, so that what the transformer meets is the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import orjson

from servekit.dataplane import DataPlane
from servekit.errors import InvalidRequest, NotFound, ServingError
from servekit.inference import InferenceRequest, InferenceResponse
from servekit.model import ModelMetadata, ServedModel, TensorSpec
from servekit.repository import Repository
from servekit.rpc.service import build_server
from servekit.tensors import Tensor

Arrays = Mapping[str, np.ndarray]
LABELS = ("person", "bicycle", "traffic light")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def canned(images: np.ndarray) -> Arrays:
    """Two persons, of whom the lesser overlaps the better by 0.83, and a traffic light; the fourth is no candidate."""
    boxes = [[8, 8, 40, 40], [8, 11, 40, 43], [16, 24, 32, 56], [0, 0, 0, 0]]
    return {
        "boxes": np.tile(np.array(boxes, np.float32), (len(images), 1, 1)),
        "scores": np.tile(np.array([0.9, 0.8, 0.5, 0], np.float32), (len(images), 1)),
        "class_ids": np.tile(np.array([0, 0, 2, 0], np.int32), (len(images), 1)),
    }


def canned_with_masks(images: np.ndarray) -> Arrays:
    """The canned candidates; the mask of each is the left half of the canvas, that of the traffic light the right."""
    cells = np.ones((len(images), 2, 16, 16), np.float16)
    cells[:, :, :, 8:] = -1
    coefficients = np.tile(np.array([[1, 0], [1, 0], [0, -1], [0, 0]], np.float16), (len(images), 1, 1))
    return {**canned(images), "mask_coefficients": coefficients, "prototypes": cells}


def middle(images: np.ndarray) -> Arrays:
    """One candidate a picture, whose class is the red value in the middle of the picture."""
    height, width = images.shape[1:3]
    boxes = np.tile(np.array([0, 0, width, height], np.float32), (len(images), 1, 1))
    values = images[:, height // 2, width // 2, 0]
    return {
        "boxes": boxes,
        "scores": np.full((len(images), 1), 0.75, np.float32),
        "class_ids": values.astype(np.int32).reshape(-1, 1),
    }


def as_many_as_dark(images: np.ndarray) -> Arrays:
    """As many candidates in a picture as its middle's red value says, at most 8, well apart, of class 1."""
    height, width = images.shape[1:3]
    left = np.arange(8, dtype=np.float32) * 8
    boxes = np.stack([left, np.zeros(8, np.float32), left + 6, np.full(8, height, np.float32)], 1)
    counts = images[:, height // 2, width // 2, 0].astype(int)
    return {
        "boxes": np.tile(boxes, (len(images), 1, 1)),
        "scores": np.where(np.arange(8) < counts[:, None], 0.9, 0).astype(np.float32),
        "class_ids": np.ones((len(images), 8), np.int32),
    }


@dataclass
class Weights:
    """What a card says, as plain values."""

    digest: str = "sha256:first"
    version: str = "1"
    labels: tuple[str, ...] = LABELS
    task: str = "detect"
    nms: bool = True
    height: int = 64
    width: int = 64
    dynamic: bool = False
    placement: str = "center"

    @property
    def properties(self) -> dict[str, str]:
        size = {"size": [self.height, self.width], "stride": 32, "dynamic": self.dynamic, "placement": self.placement}
        return {
            "yolo.prepared": "1",
            "yolo.task": self.task,
            "yolo.family": "toy",
            "yolo.labels": orjson.dumps(self.labels).decode(),
            "yolo.nms": "true" if self.nms else "false",
            "yolo.input": orjson.dumps(size).decode(),
            "model.digest": self.digest,
            "model.version": self.version,
        }


@dataclass
class Seen:
    """What came with a request."""

    images: np.ndarray
    request_id: str
    trace: dict[str, str]
    remaining_s: float | None


@dataclass
class Orders:
    """What a toy model does; `errors` are raised one a request, `failing` at every one, `gate` is waited for.

    `digest`, where it is given, is that of the answers, whatever the weights' is. The rest is what was seen.
    """

    weights: Weights = field(default_factory=Weights)
    answer: Callable[[np.ndarray], Arrays] = canned
    errors: list[ServingError] = field(default_factory=list)
    failing: ServingError | None = None
    gate: asyncio.Event | None = None
    digest: str = ""
    seen: list[Seen] = field(default_factory=list)
    card_reads: int = 0
    cancelled: int = 0


class ToyModel(ServedModel):
    def __init__(self, name: str, orders: Orders) -> None:
        super().__init__(name, orders.weights.version)
        self.orders = orders

    @property
    def metadata(self) -> ModelMetadata:
        weights = self.orders.weights
        self.orders.card_reads += 1
        images = TensorSpec("images", "UINT8", (-1, weights.height, weights.width, 3))
        return ModelMetadata("toy", (images,), (), weights.properties)

    async def predict(self, request: InferenceRequest, _headers=None, _response_headers=None) -> InferenceResponse:
        orders, weights = self.orders, self.orders.weights
        images, context = request.input("images"), request.context
        orders.seen.append(Seen(images, context.request_id, dict(context.trace), context.remaining_s()))
        if orders.gate is not None:
            try:
                await orders.gate.wait()
            except asyncio.CancelledError:
                orders.cancelled += 1
                raise
        if orders.errors:
            raise orders.errors.pop(0)
        if orders.failing is not None:
            raise orders.failing
        if not weights.dynamic and images.shape[1:] != (weights.height, weights.width, 3):
            raise InvalidRequest(f"input 'images' has shape {list(images.shape)}: not the model's")
        outputs = tuple(Tensor(name, array) for name, array in orders.answer(images).items())
        parameters = {"model.digest": orders.digest or weights.digest, "queue_us": 1500, "compute_us": 2500}
        return InferenceResponse(self.name, outputs, parameters=parameters)


class ToyModels(Repository):
    """Models by their orders; `calls` holds what was loaded and unloaded from outside."""

    def __init__(self, orders: dict[str, Orders]) -> None:
        super().__init__()
        self.orders = orders
        self.calls: list[tuple[str, str]] = []

    def available(self) -> list[str]:
        return sorted(self.orders)

    async def open(self, name: str) -> ToyModel:
        self.calls.append(("load", name))
        if name not in self.orders:
            raise NotFound(f"there is no model '{name}' to load")
        return ToyModel(name, self.orders[name])

    async def unload(self, name: str) -> None:
        self.calls.append(("unload", name))
        await super().unload(name)


class ToyPredictor:
    """A predictor that listens at `port` between `start` and `stop`, as often as wanted."""

    def __init__(self, *names: str) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.repository = ToyModels({name: Orders() for name in names or ("toy",)})
        self._server: grpc.aio.Server | None = None

    @property
    def orders(self) -> Orders:
        """The orders of its first model."""
        return next(iter(self.repository.orders.values()))

    async def start(self, *, loaded: bool = True) -> ToyPredictor:
        dataplane = DataPlane("toy", self.repository)
        if loaded:
            await self.repository.load_all()
            self.repository.calls.clear()
            dataplane.starting = False
        self._server, _ = build_server(dataplane, self.host, 64 << 20)
        await self._server.start()
        return self

    async def stop(self) -> None:
        """End at once, whatever is under way."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None


class Wire:
    """A TCP connection to a port, by way of one of its own, that can be cut; nothing passes unless it `carries`."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        self.connections = 0
        self.carries = asyncio.Event()
        self.carries.set()
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def lay(self) -> None:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    async def remove(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self.cut()
            await self._listener.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.carries.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


async def until(condition: Callable[[], Any], patience_s: float = 20) -> None:
    """Return once the condition, a coroutine function or not, holds; waits no longer than `patience_s`."""
    async with asyncio.timeout(patience_s):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.01)
