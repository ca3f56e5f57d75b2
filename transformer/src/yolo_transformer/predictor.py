"""The channel to the predictor: gRPC, raw tensors, its status passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

import grpc
import orjson

from servekit.errors import Unavailable, from_grpc
from servekit.inference import InferenceResponse, RequestContext
from servekit.rpc.codec import decode_response
from servekit.rpc.messages import SERVICE, message_class

_DEFAULT_PORT: Final = 8081
# gRPC's words for an answer of plain HTTP: a gateway between, as in Knative mode, does not know the predictor yet.
_NO_GRPC: Final = "http2 header with status"
# What a predictor that goes away mid-request (a rollout, an eviction) says, or gRPC for it: a server that is stopped
# cancels what it has not begun. It is asked again, for inference has no side effects.
_GONE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_SERVICE_CONFIG: Final = orjson.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": [code.name for code in _GONE],
                },
            }
        ],
    }
).decode()
_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A request is kept for a second attempt only while it fits here.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Asked when a connection ends, which the predictor has happen every minute: its new pods are in the answer.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
)


class Predictor:
    """One predictor behind a host name; every call ends within `timeout_s`."""

    def __init__(self, host: str, timeout_s: float) -> None:
        self._target = target_of(host)
        self._timeout_s = timeout_s

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        # Made on first use, because it belongs to the event loop that runs then.
        return grpc.aio.insecure_channel(self._target, options=_OPTIONS)

    @cached_property
    def _infer(self) -> Callable[..., Any]:
        call: Callable[..., Any] = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return call

    async def infer(self, request: bytes, context: RequestContext) -> InferenceResponse:
        """Return the answer to an encoded request; its deadline, id and trace go along.

        Raises:
            ServingError: the predictor's own, or `Unavailable` when it can't be reached.

        """
        remaining_s = context.remaining_s()
        timeout_s = self._timeout_s if remaining_s is None else min(self._timeout_s, remaining_s)
        metadata = (("x-request-id", context.request_id), *context.trace)
        return decode_response(await _answer(self._infer(request, timeout=timeout_s, metadata=metadata)))

    async def properties(self, name: str) -> Mapping[str, str]:
        """Return a model's properties."""
        answer = await self._call("ModelMetadata", name=name)
        return dict(answer.properties)

    async def models(self) -> list[str]:
        """Return the names of the models that are ready."""
        answer = await self._call("RepositoryIndex", ready=True)
        return [model.name for model in answer.models]

    async def load(self, name: str) -> None:
        """Have the predictor load a model anew."""
        await self._call("RepositoryModelLoad", model_name=name)

    async def unload(self, name: str) -> None:
        """Have the predictor unload a model."""
        await self._call("RepositoryModelUnload", model_name=name)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _call(self, call: str, /, **fields: Any) -> Any:
        request = message_class(f"{call}Request")(**fields)
        send = self._channel.unary_unary(
            f"/{SERVICE}/{call}", response_deserializer=message_class(f"{call}Response").FromString
        )
        return await _answer(send(request.SerializeToString(), timeout=self._timeout_s))


def target_of(host: str) -> str:
    """Return gRPC's name for a predictor host: `host`, `host:port`, or a target of its own form, kept as it is."""
    if host.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return host
    return f"dns:///{host}" if ":" in host else f"dns:///{host}:{_DEFAULT_PORT}"


async def _answer(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        # Only the server's own answers carry trailing metadata of ours; gRPC's words for a dead connection help nobody.
        dead = error.code() in _GONE and not error.trailing_metadata()
        if dead or _NO_GRPC in (error.details() or ""):
            raise Unavailable("the predictor can't be reached") from error
        raise from_grpc(error.code(), error.details() or error.code().name) from error
