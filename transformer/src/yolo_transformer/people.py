"""Plain HTTP for people and scripts: pictures in a form or as the body, detections as JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from servekit.errors import InvalidRequest, NotFound
from servekit.inference import InferenceRequest
from servekit.observe import Observation
from servekit.rest.app import RestApp
from servekit.rest.body import json_response
from servekit.tensors import Tensor, bytes_array
from yolo_transformer.options import OPTION_NAMES
from yolo_transformer.results import DetectionResponse, document_of

_MULTIPART: Final = "multipart/form-data"


class _Parser(MultiPartParser):
    """Keeps every file in memory, where the body is already: a pod's root file system can't be written to."""

    spool_max_size = 0  # a spooled file's word for never rolling over to the disk


def add_routes(rest: RestApp) -> None:
    """Serve `POST /inference/detect` and `/inference/segment`.

    Pictures come as multipart `file`s with options as fields, or one as the body with options in the query.
    """
    rest.route("POST", "/inference/detect", "detect", partial(_infer, rest, "none"))
    rest.route("POST", "/inference/segment", "segment", partial(_infer, rest, "polygon"))


async def _infer(rest: RestApp, mask_format: str, request: Request, observation: Observation) -> Response:
    body = await rest.read(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _MULTIPART:
        pictures, fields = await _form(request, body)
    else:
        pictures, fields = [body], dict(request.query_params)
    if not any(pictures):
        raise InvalidRequest("the request holds no picture: send it as the body, or as a multipart field named 'file'")
    name = fields.get("model_name") or _only_model(rest)
    observation.model = rest.dataplane.repository.loaded(name).name
    parameters = {option: fields[option] for option in OPTION_NAMES if option in fields}
    inference = InferenceRequest(
        name,
        (Tensor("image", bytes_array(pictures)),),
        observation.context,
        parameters={"mask_format": mask_format, **parameters},
    )
    response = await rest.dataplane.infer(inference)
    return json_response(_document(response), request.headers.get("accept-encoding", ""))


def _document(response: Any) -> dict[str, Any]:
    pictures = response.pictures if isinstance(response, DetectionResponse) else ()
    return {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "predictions": [document_of(picture) for picture in pictures],
        "parameters": dict(response.parameters),
    }


async def _form(request: Request, body: bytes) -> tuple[list[bytes], dict[str, str]]:
    async def stream() -> AsyncGenerator[bytes]:
        yield body

    try:
        form: FormData = await _Parser(request.headers, stream(), max_part_size=1 << 20).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InvalidRequest("the body is no multipart form") from error
    pictures: list[bytes] = []
    fields: dict[str, str] = {}
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != "file":
                raise InvalidRequest(f"a picture belongs into the field 'file', not '{key[:40]}'")
            pictures.append(await value.read())
        else:
            fields[key] = value
    await form.close()
    return pictures, fields


def _only_model(rest: RestApp) -> str:
    names = list(rest.dataplane.repository.models)
    if len(names) != 1:
        raise NotFound(f"name one of the models in 'model_name': {', '.join(sorted(names)) or 'none'} is loaded")
    name: str = names[0]
    return name
