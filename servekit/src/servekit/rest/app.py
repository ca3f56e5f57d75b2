"""The routes, each a thin shell around the data plane."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from prometheus_client import REGISTRY, exposition
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from servekit.dataplane import DataPlane
from servekit.errors import InvalidRequest, Unavailable
from servekit.observe import Observation, context_from
from servekit.rest import v2
from servekit.rest.body import error_response, json_response, parse_object, read
from servekit.rest.presence import Presence

Handler: TypeAlias = Callable[[Request, Observation], Awaitable[Response]]

_CLIENT_GONE: Final = 499  # nobody is left to read it; the log tells what happened


class RestApp:
    """An ASGI application over a data plane; `route` adds calls of the server's own."""

    def __init__(self, dataplane: DataPlane, max_body_bytes: int) -> None:
        self.dataplane = dataplane
        self.max_body_bytes = max_body_bytes
        self.asgi = FastAPI(
            title=dataplane.name, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
        )
        self.asgi.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]  # starlette's own idiom
        self._add_protocol_routes()

    def route(self, method: str, path: str, call: str, handler: Handler) -> None:
        """Serve `handler` at `path`; what it raises becomes an error answer, and every call one log line."""

        async def endpoint(request: Request) -> Response:
            observation = Observation("rest", call, context_from(request.headers))
            request.state.presence = presence = Presence(request)
            message = ""
            try:
                response = await handler(request, observation)
            except ClientDisconnect:
                response = Response(status_code=_CLIENT_GONE)
            except asyncio.CancelledError:
                if not presence.gone:
                    observation.finish(str(_CLIENT_GONE))
                    raise
                response = Response(status_code=_CLIENT_GONE)
            except Exception as defect:  # noqa: BLE001 (this is the boundary: nothing may pass it)
                error = observation.failure(defect)
                message = error.message
                response = error_response(error)
            finally:
                presence.stop()
            if self.dataplane.draining:
                # The client's next request belongs on another server's connection.
                response.headers["connection"] = "close"
            response.headers["x-request-id"] = observation.context.request_id
            observation.finish(str(response.status_code), message)
            return response

        self.asgi.add_route(path, endpoint, methods=[method])

    async def read(self, request: Request) -> bytes:
        """Return the request's body, within the limit; from then on the call ends when its client leaves."""
        body = await read(request, self.max_body_bytes)
        request.state.presence.watch()
        return body

    def _add_protocol_routes(self) -> None:
        self.route("GET", "/", "live", self._live)
        self.route("GET", "/metrics", "metrics", _metrics)
        for path in ("/v2", "/v2/"):
            self.route("GET", path, "server_metadata", self._server_metadata)
        self.route("GET", "/v2/health/live", "live", self._live)
        self.route("GET", "/v2/health/ready", "ready", self._ready)
        self.route("GET", "/v2/models", "models", self._models)
        self.route("GET", "/v2/models/stats", "statistics", self._statistics)
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            self.route("GET", path, "model_metadata", self._model_metadata)
            self.route("GET", f"{path}/ready", "model_ready", self._model_ready)
            self.route("GET", f"{path}/stats", "statistics", self._statistics)
            self.route("GET", f"{path}/config", "model_configuration", self._model_configuration)
            self.route("POST", f"{path}/infer", "infer", self._infer)
        self.route("POST", "/v2/repository/index", "repository_index", self._index)
        self.route("POST", "/v2/repository/models/{model}/load", "load", self._load)
        self.route("POST", "/v2/repository/models/{model}/unload", "unload", self._unload)
        self.route("GET", "/v1/models", "models", self._models)
        self.route("GET", "/v1/models/{model}", "model_ready", self._model_status_v1)
        self.route("POST", "/v1/models/{model}:predict", "predict", self._predict_v1)

    async def _live(self, _: Request, __: Observation) -> Response:
        return json_response({"live": True})

    async def _ready(self, _: Request, __: Observation) -> Response:
        ready = await self.dataplane.ready()
        return json_response({"ready": ready}, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _server_metadata(self, _: Request, __: Observation) -> Response:
        return json_response(self.dataplane.server_metadata())

    async def _models(self, _: Request, __: Observation) -> Response:
        return json_response({"models": sorted(self.dataplane.repository.models)})

    async def _model_metadata(self, request: Request, _: Observation) -> Response:
        return json_response(self.dataplane.model_metadata(*_model_and_version(request)))

    async def _model_ready(self, request: Request, _: Observation) -> Response:
        name, version = _model_and_version(request)
        if not await self.dataplane.model_ready(name, version):
            raise Unavailable(f"model '{name}' is not ready")
        return json_response({"name": name, "ready": True})

    async def _statistics(self, request: Request, _: Observation) -> Response:
        return json_response(self.dataplane.statistics(*_model_and_version(request)))

    async def _model_configuration(self, request: Request, _: Observation) -> Response:
        return json_response(self.dataplane.model_configuration(*_model_and_version(request)))

    async def _infer(self, request: Request, observation: Observation) -> Response:
        name, version = _model_and_version(request)
        observation.model = self.dataplane.repository.loaded(name, version).name
        body = await self.read(request)
        header_length = request.headers.get(v2.HEADER_LENGTH)
        if header_length == "0":
            spec = self.dataplane.repository.loaded(name, version).metadata.inputs[0]
            inference, binary = v2.decode_whole(name, version, body, spec, observation.context)
        else:
            inference, binary = v2.decode(name, version, body, header_length, observation.context)
        document, buffers = v2.encode(await self.dataplane.infer(inference), binary)
        if not buffers:
            return json_response(document, request.headers.get("accept-encoding", ""))
        joined, length = v2.join(document, buffers)
        return Response(joined, headers={v2.HEADER_LENGTH: str(length)}, media_type="application/octet-stream")

    async def _index(self, request: Request, _: Observation) -> Response:
        only_ready = (await self._options(request)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidRequest('"ready" must be true or false')
        return json_response([entry.as_dict() for entry in self.dataplane.index(only_ready=only_ready)])

    async def _options(self, request: Request) -> dict[str, Any]:
        body = await self.read(request)
        return parse_object(body) if body.strip() else {}

    async def _load(self, request: Request, _: Observation) -> Response:
        name, _version = _model_and_version(request)
        parameters = (await self._options(request)).get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InvalidRequest('"parameters" must be an object')
        await self.dataplane.load(name, parameters)
        return json_response({"name": name, "load": True})

    async def _unload(self, request: Request, _: Observation) -> Response:
        name, _version = _model_and_version(request)
        await self._options(request)
        await self.dataplane.repository.unload(name)
        return json_response({"name": name, "unload": True})

    async def _model_status_v1(self, request: Request, _: Observation) -> Response:
        name, _version = _model_and_version(request)
        ready = await self.dataplane.model_ready(name)
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response({"name": name, "ready": ready}, status=status)

    async def _predict_v1(self, request: Request, observation: Observation) -> Response:
        name, _version = _model_and_version(request)
        model = self.dataplane.repository.loaded(name)
        observation.model = model.name
        inference = model.request_from_v1(parse_object(await self.read(request)), observation.context)
        response = await self.dataplane.infer(inference)
        return json_response(model.response_to_v1(response), request.headers.get("accept-encoding", ""))


def _model_and_version(request: Request) -> tuple[str, str]:
    parameters: dict[str, Any] = request.path_params
    return parameters.get("model", ""), parameters.get("version", "")


async def _metrics(request: Request, _: Observation) -> Response:
    encoder, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(REGISTRY), headers={"content-type": content_type})


async def _http_error(request: Request, error: HTTPException) -> Response:
    observation = Observation("rest", "unrouted", context_from(request.headers))
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"there is nothing at {request.method} {request.url.path[:200]}"
    else:
        message = str(error.detail)
    response = json_response({"error": message}, status=error.status_code)
    response.headers.update({**(error.headers or {}), "x-request-id": observation.context.request_id})
    observation.finish(str(error.status_code), message)
    return response
