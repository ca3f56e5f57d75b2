"""The transformer's shell, in the test's process, before a predictor that does as it is told."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import grpc
import httpx2
import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, settings

from servekit.dataplane import DataPlane
from servekit.executor import BoundedExecutor
from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.rest.app import RestApp
from servekit.rpc.codec import decode_response, encode_request
from servekit.rpc.messages import SERVICE, message_class
from servekit.rpc.service import build_server
from servekit.tensors import Tensor, bytes_array
from yolo_transformer.cache import ResultCache
from yolo_transformer.images import PictureLimits
from yolo_transformer.people import add_routes
from yolo_transformer.pictures import RequestLimits
from yolo_transformer.predictor import Predictor
from yolo_transformer.repository import PredictorModels

# The machines that run this are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def _load_toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy_predictor", Path(__file__).with_name("toy_predictor.py"))
    module = sys.modules["toy_predictor"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_toy = _load_toy()


class Transformer:
    """A transformer before the predictor at `host`; `http` and `rpc` talk to it."""

    def __init__(
        self,
        host: str,
        *,
        max_batch: int = 16,
        max_pixels: int = 1 << 20,
        timeout_s: float = 20,
        workers: int = 2,
        max_waiting: int = 128,
        redis: str = "",
    ) -> None:
        self.channel_to_predictor = Predictor(host, timeout_s)
        self.executor = BoundedExecutor("picture", workers, max_waiting)
        limits = RequestLimits(max_batch, PictureLimits(max_pixels=max_pixels))
        self.cache = ResultCache(redis, 60, self.executor) if redis else None
        self.repository = PredictorModels(self.channel_to_predictor, self.executor, limits, self.cache)
        self.dataplane = DataPlane("transformer", self.repository)
        self.rest = RestApp(self.dataplane, 64 << 20)
        add_routes(self.rest)
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.rest.asgi), base_url="http://transformer", timeout=30
        )

    async def start(self, *names: str) -> Transformer:
        await self.repository.connect(names)
        self.dataplane.starting = False
        address = f"127.0.0.1:{_toy.free_port()}"
        self.server, _ = build_server(self.dataplane, address, 64 << 20)
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)])
        return self

    async def stop(self) -> None:
        await self.http.aclose()
        if hasattr(self, "server"):
            await self.channel.close()
            await self.server.stop(0)
        await self.channel_to_predictor.close()
        if self.cache is not None:
            await self.cache.close()
        self.executor.close()

    async def infer(
        self, *tensors: Tensor, model: str = "toy", timeout_s: float = 30, metadata: Any = None, **parameters: Any
    ) -> InferenceResponse:
        """Return the answer over gRPC, its tensors raw."""
        request = InferenceRequest(model, tensors, RequestContext(), parameters=parameters)
        call = self.channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return decode_response(await call(encode_request(request), timeout=timeout_s, metadata=metadata))

    async def detect(self, *pictures: bytes, **options: Any) -> dict[str, Any]:
        """Return the outputs for encoded pictures over gRPC, by name."""
        response = await self.infer(Tensor("image", bytes_array(pictures)), **options)
        return {tensor.name: tensor.array for tensor in response.outputs}

    async def refusal(self, *pictures: bytes, **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.detect(*pictures, **options)
        return caught.value

    async def rpc(self, call: str, **fields: Any) -> Any:
        method = self.channel.unary_unary(
            f"/{SERVICE}/{call}", response_deserializer=message_class(f"{call}Response").FromString
        )
        return await method(message_class(f"{call}Request")(**fields).SerializeToString(), timeout=30)

    async def v2(self, *pictures: bytes, model: str = "toy", outputs: Any = (), **parameters: Any) -> httpx2.Response:
        """Return the answer to pictures in base64 within JSON."""
        texts = [base64.b64encode(picture).decode() for picture in pictures]
        image = {"name": "image", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        document = {"inputs": [image], "parameters": parameters, "outputs": outputs}
        return await self.http.post(f"/v2/models/{model}/infer", json=document)

    async def binary(self, *pictures: bytes, **parameters: Any) -> tuple[dict[str, Any], bytes]:
        """Return the JSON and the binary part of the answer to pictures as binary data."""
        raw = b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)
        described = {"binary_data_size": len(raw)}
        image = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "parameters": described}
        head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True, **parameters}}).encode()
        headers = {"inference-header-content-length": str(len(head))}
        response = await self.http.post("/v2/models/toy/infer", content=head + raw, headers=headers)
        assert response.status_code == 200, response.text
        end = int(response.headers["inference-header-content-length"])
        return json.loads(response.content[:end]), response.content[end:]

    async def v1(self, *instances: tuple[bytes, dict[str, Any]]) -> httpx2.Response:
        """Return V1's answer to pictures, each with its options."""
        body = [{"image": {"b64": base64.b64encode(picture).decode()}, **options} for picture, options in instances]
        return await self.http.post("/v1/models/toy:predict", json={"instances": body})


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """The log's events; rendering those of defects would take longer than all else."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def toy() -> ModuleType:
    """The module of the toy predictor."""
    return _toy


@pytest.fixture
async def start_predictor() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Starts a toy predictor of models with these names; it ends with the test."""
    started = []

    async def start(*names: str, loaded: bool = True) -> Any:
        started.append(_toy.ToyPredictor(*names))
        return await started[-1].start(loaded=loaded)

    yield start
    for predictor in started:
        await predictor.stop()


@pytest.fixture
async def start_transformer() -> AsyncIterator[Callable[..., Awaitable[Transformer]]]:
    """Starts a transformer before the predictor at a host; it ends with the test."""
    started = []

    async def start(host: str, *names: str, ready: bool = True, **options: Any) -> Transformer:
        started.append(Transformer(host, **options))
        return await started[-1].start(*names) if ready else started[-1]

    yield start
    for transformer in started:
        await transformer.stop()


@pytest.fixture
async def predictor(start_predictor) -> Any:
    """A predictor of one model, `toy`."""
    return await start_predictor()


@pytest.fixture
async def transformer(predictor, start_transformer) -> Transformer:
    """A transformer before that predictor."""
    return await start_transformer(predictor.host)


@pytest.fixture
def grey() -> Callable[..., bytes]:
    """Returns a PNG of one grey value; 64 x 64 pixels are the toy's canvas itself."""

    def encode(value: int = 128, height: int = 64, width: int = 64) -> bytes:
        written, data = cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))
        assert written
        return bytes(data)

    return encode


@pytest.fixture
def grpc_refusal() -> Callable[[str, str], Any]:
    """Expects a call to end with a gRPC status and these words."""

    @contextlib.contextmanager
    def expect(code: str, words: str) -> Iterator[None]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            yield
        assert caught.value.code().name == code
        assert words in caught.value.details()

    return expect
