"""A client of the served models: pictures in, detections out, over the Open Inference Protocol's REST binding."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import numpy as np
import numpy.typing as npt
import orjson

_HEADER_LENGTH: Final = "inference-header-content-length"
_DTYPES: Final = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}


class RequestFailed(Exception):
    """The server refused a request or can't be reached; the message is its one line, `status` its HTTP status or 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Detection:
    """One object: `box` is x1 y1 x2 y2 in pixels of the upright picture; `mask` polygons or RLE where asked for."""

    box: tuple[float, float, float, float]
    score: float
    class_id: int
    label: str
    mask: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of one picture.

    `annotated` is a JPEG, empty unless asked for; `stages_us` the server's time by stage and `elapsed_s` the whole
    round trip; `cached` tells whether it was found before.
    """

    detections: tuple[Detection, ...]
    annotated: bytes
    stages_us: Mapping[str, int]
    elapsed_s: float
    cached: bool = False


class Client:
    """A connection to a transformer, to be closed or used in a `with` block; `transport` is a way of its own there."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        model: str = "",
        timeout_s: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(base_url=url, timeout=timeout_s, transport=transport)
        self._model = model

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def ready(self) -> bool:
        """Tell whether the server says that it is ready."""
        try:
            return self._http.get("/v2/health/ready").status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    def models(self) -> list[str]:
        """Return the names of the served models.

        Raises:
            RequestFailed: the server can't be reached.

        """
        names: list[str] = orjson.loads(self._send("GET", "/v2/models").content)["models"]
        return names

    def detect(self, picture: bytes, **parameters: bool | float | str) -> Answer:
        """Return what is in an encoded picture; `parameters` are the request parameters of the server's reference.

        Raises:
            RequestFailed: the server refuses it, or can't be reached.

        """
        self._model = self._model or self._first_model()
        head = orjson.dumps(
            {
                "inputs": [
                    {
                        "name": "image",
                        "datatype": "BYTES",
                        "shape": [1],
                        "parameters": {"binary_data_size": len(picture) + 4},
                    }
                ],
                "parameters": {**parameters, "binary_data_output": True},
            }
        )
        body = b"".join([head, struct.pack("<I", len(picture)), picture])
        headers = {_HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
        begun = time.perf_counter()
        response = self._send("POST", f"/v2/models/{self._model}/infer", content=body, headers=headers)
        elapsed_s = time.perf_counter() - begun
        return _answer(response.content, int(response.headers[_HEADER_LENGTH]), elapsed_s)

    def _first_model(self) -> str:
        models = self.models()
        if not models:
            raise RequestFailed("the server has no model loaded")
        return models[0]

    def _send(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx2.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise RequestFailed(f"no server answers at {self._http.base_url}: {cause}") from error
        if response.is_success:
            return response
        try:
            message = orjson.loads(response.content)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            message = f"the server answered with status {response.status_code}"
        raise RequestFailed(message, response.status_code)


def _answer(body: bytes, header_length: int, elapsed_s: float) -> Answer:
    head = orjson.loads(body[:header_length])
    outputs: dict[str, Any] = {}
    offset = header_length
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        raw = body[offset : offset + size]
        offset += size
        if output["datatype"] == "BYTES":
            outputs[output["name"]] = _texts(raw)
        else:
            outputs[output["name"]] = np.frombuffer(raw, _DTYPES[output["datatype"]]).reshape(output["shape"])
    parameters = head.get("parameters", {})
    stages = {name: value for name, value in parameters.items() if name.endswith("_us")}
    annotated = outputs.get("annotated_image", [b""])[0]
    return Answer(_detections(outputs), annotated, stages, elapsed_s, parameters.get("cached", False))


def _detections(outputs: Mapping[str, Any]) -> tuple[Detection, ...]:
    boxes: npt.NDArray[np.float32] = outputs["boxes"][0]
    masks = outputs.get("masks")
    return tuple(
        Detection(
            box=tuple(boxes[index].tolist()),
            score=float(outputs["scores"][0, index]),
            class_id=int(outputs["class_ids"][0, index]),
            label=outputs["labels"][index].decode(),
            mask=orjson.loads(masks[index]) if masks and masks[index] else None,
        )
        for index in range(int(outputs["num_detections"][0]))
    )


def _texts(raw: bytes) -> list[bytes]:
    texts, offset = [], 0
    while offset < len(raw):
        (length,) = struct.unpack_from("<I", raw, offset)
        texts.append(raw[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return texts
