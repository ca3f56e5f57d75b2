"""The service's calls, each a thin shell around the data plane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2_grpc

from servekit.dataplane import DataPlane
from servekit.errors import InvalidRequest, NotLoaded, ServingError, TooLarge, Unavailable
from servekit.observe import Observation, context_from
from servekit.rpc.codec import decode_request, encode_response
from servekit.rpc.health import Health
from servekit.rpc.messages import POOL, SERVICE, message_class

# A stopping server closes a connection with the last call on it, and then what its client had yet to read is lost: the
# client still speaks (of its window), which a closed socket answers with a reset.
LINGER_S: Final = 0.5
Call: TypeAlias = Callable[[Any, Observation, Any], Awaitable[Any]]

_CALL_NAMES: Final = {
    "ServerLive": "live",
    "ServerReady": "ready",
    "ModelReady": "model_ready",
    "ServerMetadata": "server_metadata",
    "ModelMetadata": "model_metadata",
    "ModelInfer": "infer",
    "ModelConfig": "model_configuration",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "repository_index",
    "RepositoryModelLoad": "load",
    "RepositoryModelUnload": "unload",
}


def build_server(
    dataplane: DataPlane, address: str, max_message_bytes: int, max_connection_age_s: float = 0.0
) -> tuple[grpc.aio.Server, Health]:
    """Return a gRPC server bound to `address`, not yet started, and the health service within it.

    A connection older than `max_connection_age_s`, unless that is 0, is told to go once its calls are answered.

    Raises:
        RuntimeError: the address can't be bound.

    """
    server = grpc.aio.server(
        options=[
            # gRPC itself ends what is larger with RESOURCE_EXHAUSTED, which invites a retry. So it lets pass what is
            # somewhat too large, and the handlers refuse that.
            ("grpc.max_receive_message_length", 2 * max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # Long-lived connections are pinged by their clients through idle times and proxies.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            *_connection_age(max_connection_age_s),
        ]
    )
    server.add_generic_rpc_handlers((InferenceService(dataplane, max_message_bytes).handler(),))
    health = Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(address)
    return server, health


def _connection_age(age_s: float) -> tuple[tuple[str, int], ...]:
    # A client asks for addresses again when a connection ends, and never finds new pods while all its old ones stay.
    return () if not age_s else (("grpc.max_connection_age_ms", round(age_s * 1000)),)


class InferenceService:
    """The handlers of `inference.GRPCInferenceService`."""

    def __init__(self, dataplane: DataPlane, max_message_bytes: int) -> None:
        self.dataplane = dataplane
        self.max_message_bytes = max_message_bytes
        self._service = POOL.FindServiceByName(SERVICE)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of every call of the service."""
        calls: dict[str, Call] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_configuration,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        handlers = {name: self._unary(name, self._parsed(name, call)) for name, call in calls.items()}
        # Its message is read beside protobuf, see raw.py.
        handlers["ModelInfer"] = self._unary("ModelInfer", self._infer)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _parsed(self, name: str, call: Call) -> Call:
        request_class = message_class(self._service.methods_by_name[name].input_type.name)

        async def parsed(data: bytes, observation: Observation, context: Any) -> bytes:
            try:
                request = request_class.FromString(data)
            except Exception as error:  # protobuf's C++ and upb runtimes raise different classes
                raise InvalidRequest(f"the bytes are no {request_class.DESCRIPTOR.name} message") from error
            answer: bytes = (await call(request, observation, context)).SerializeToString()
            return answer

        return parsed

    def _unary(self, name: str, call: Call) -> grpc.RpcMethodHandler:
        call_name = _CALL_NAMES[name]

        async def handle(data: bytes, context: Any) -> None:
            observation = Observation("grpc", call_name, context_from(dict(context.invocation_metadata() or ())))
            try:
                if len(data) > self.max_message_bytes:
                    raise TooLarge(f"the message is larger than {self.max_message_bytes} bytes")
                answer: bytes = await call(data, observation, context)
            except Exception as defect:
                error = observation.failure(defect)
                observation.finish(error.grpc_status.name, error.message)
                await context.abort(error.grpc_status, error.message, _trailers(error))
                raise
            except BaseException:
                observation.finish(grpc.StatusCode.CANCELLED.name)
                raise
            observation.finish(grpc.StatusCode.OK.name)
            await context.write(answer)
            if self.dataplane.stopping:
                await asyncio.sleep(LINGER_S)

        # One answer as for a unary call, which is the same on the wire; but its bytes can go ahead of the call's end.
        return grpc.unary_stream_rpc_method_handler(handle)

    async def _server_live(self, _: Any, __: Observation, ___: Any) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _: Any, __: Observation, ___: Any) -> Any:
        return message_class("ServerReadyResponse")(ready=await self.dataplane.ready())

    async def _model_ready(self, request: Any, _: Observation, __: Any) -> Any:
        try:
            ready = await self.dataplane.model_ready(request.name, request.version)
        except (NotLoaded, Unavailable):
            ready = False
        return message_class("ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, _: Any, __: Observation, ___: Any) -> Any:
        return message_class("ServerMetadataResponse")(**self.dataplane.server_metadata())

    async def _model_metadata(self, request: Any, _: Observation, __: Any) -> Any:
        return message_class("ModelMetadataResponse")(**self.dataplane.model_metadata(request.name, request.version))

    async def _model_configuration(self, request: Any, _: Observation, __: Any) -> Any:
        configuration = self.dataplane.model_configuration(request.name, request.version)
        parameters = configuration.pop("parameters")
        answer = message_class("ModelConfigResponse")(config=configuration)
        for key, value in parameters.items():
            answer.config.parameters[key].string_value = value["string_value"]
        return answer

    async def _statistics(self, request: Any, _: Observation, __: Any) -> Any:
        return message_class("ModelStatisticsResponse")(**self.dataplane.statistics(request.name, request.version))

    async def _index(self, request: Any, _: Observation, __: Any) -> Any:
        models = [entry.as_dict() for entry in self.dataplane.index(only_ready=request.ready)]
        return message_class("RepositoryIndexResponse")(models=models)

    async def _load(self, request: Any, _: Observation, __: Any) -> Any:
        name = _model_name(request)
        await self.dataplane.load(name, request.parameters)
        return message_class("RepositoryModelLoadResponse")(model_name=name, isLoaded=True)

    async def _unload(self, request: Any, _: Observation, __: Any) -> Any:
        name = _model_name(request)
        await self.dataplane.repository.unload(name)
        return message_class("RepositoryModelUnloadResponse")(model_name=name, isUnloaded=True)

    async def _infer(self, data: bytes, observation: Observation, context: Any) -> bytes:
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            observation.context.deadline = time.monotonic() + remaining_s
        request = decode_request(data, observation.context)
        observation.model = self.dataplane.repository.loaded(request.model_name, request.model_version).name
        return encode_response(await self.dataplane.infer(request))


def _model_name(request: Any) -> str:
    name: str = request.model_name or request.repository_name
    if not name:
        raise InvalidRequest("the request names no model")
    return name


def _trailers(error: ServingError) -> tuple[tuple[str, str], ...]:
    # Not grpc-retry-pushback-ms: that one tells gRPC itself to retry, which is the caller's decision.
    return () if error.retry_after_s is None else (("retry-after", str(error.retry_after_s)),)
