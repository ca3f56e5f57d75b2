"""Real checkpoints, real pictures, every protocol: the served detections are the reference's."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx2
import numpy as np
import pytest

from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import decode_response, encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.local import LocalOptions

MODELS = {  # and how far a score may be off
    "yolox_nano": 0.01,
    "yolox_nano-fp16": 0.02,
    "yolov5s-dynamic": 0.01,
    "yolov5n-tf-nhwc-320": 0.01,
    "yolov8n-dynamic": 0.01,
    "yolov8n-fp16": 0.02,
    "yolo26n": 0.01,
    "yolox_nano-int8-qdq": 0.02,
}
MIN_IOU, MIN_SCORE = 0.98, 0.30

Found = list[tuple[list[float], float, int]]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def served(model: str, assets: Path, serve: Callable[..., LocalOptions]) -> LocalOptions:
    return serve(model, str(assets / "weights" / f"{model}.onnx"))


@pytest.fixture(scope="module")
def reference(model: str, assets: Path) -> dict[str, Any]:
    return json.loads((assets.parent / "reference" / f"{model}.json").read_text())


def test_every_protocol_gives_the_reference_detections_on_every_picture(
    model: str, served: LocalOptions, reference: dict[str, Any], assets: Path
) -> None:
    pictures = reference["images"]
    assert len(pictures) == 34
    with (
        httpx2.Client(base_url=served.url, timeout=60) as http,
        grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel,
    ):
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for name, picture in pictures.items():
            expected, data = picture["detections"], (assets / name).read_bytes()
            answers = {
                "V2 gRPC": over_grpc(infer, model, data),
                "V2 REST binary": over_binary(http, model, data),
                "V2 REST JSON": over_json(http, model, data),
                "V1": over_v1(http, model, data),
                "multipart": over_multipart(http, data),
            }
            problems = compare(expected, answers["V2 gRPC"], MODELS[model])
            assert not problems, f"{name}: {problems}"
            for protocol, answer in answers.items():
                assert same(answer, answers["V2 gRPC"]), f"{name} over {protocol}"


def compare(expected: list[dict[str, Any]], answer: Found, tolerance: float) -> list[str]:
    """Return what differs: reference detections not found, and found ones that the reference lacks."""
    problems = []
    left = list(answer)
    for detection in expected:
        match = next(
            (
                found
                for found in left
                if found[2] == detection["class_id"]
                and iou(found[0], detection["box"]) >= MIN_IOU
                and abs(found[1] - detection["score"]) <= tolerance
            ),
            None,
        )
        if match is not None:
            left.remove(match)
        elif detection["score"] >= MIN_SCORE:
            problems.append(f"missing {detection['label']} {detection['score']:.3f} {detection['box']}")
    return problems + [f"extra {found}" for found in left if found[1] >= MIN_SCORE]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def same(a: Found, b: Found) -> bool:
    return len(a) == len(b) and all(
        x[2] == y[2] and np.allclose(x[0], y[0], atol=1e-3) and abs(x[1] - y[1]) < 1e-5
        for x, y in zip(a, b, strict=True)
    )


def over_grpc(infer: Callable[[bytes], bytes], model: str, data: bytes) -> Found:
    request = InferenceRequest(model, (Tensor("image", bytes_array([data])),), RequestContext())
    outputs = {tensor.name: tensor.array for tensor in decode_response(infer(encode_request(request))).outputs}
    return from_outputs(outputs)


def over_binary(http: httpx2.Client, model: str, data: bytes) -> Found:
    head = json.dumps(
        {
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data) + 4}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    response = http.post(
        f"/v2/models/{model}/infer",
        content=head + struct.pack("<I", len(data)) + data,
        headers={"inference-header-content-length": str(len(head))},
    )
    response.raise_for_status()
    length = int(response.headers["inference-header-content-length"])
    body, offset, outputs = response.content, length, {}
    for output in json.loads(body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        dtype = {"FP32": "<f4", "INT32": "<i4"}.get(output["datatype"])
        if dtype is not None:
            outputs[output["name"]] = np.frombuffer(body[offset : offset + size], dtype).reshape(output["shape"])
        offset += size
    return from_outputs(outputs)


def over_json(http: httpx2.Client, model: str, data: bytes) -> Found:
    text = base64.b64encode(data).decode()
    response = http.post(
        f"/v2/models/{model}/infer",
        json={"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]},
    )
    response.raise_for_status()
    return from_outputs({o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in response.json()["outputs"]})


def over_v1(http: httpx2.Client, model: str, data: bytes) -> Found:
    instance = {"image": {"b64": base64.b64encode(data).decode()}}
    response = http.post(f"/v1/models/{model}:predict", json={"instances": [instance]})
    response.raise_for_status()
    return from_document(response.json())


def over_multipart(http: httpx2.Client, data: bytes) -> Found:
    response = http.post("/inference/detect", files={"file": ("picture.jpg", data, "image/jpeg")})
    response.raise_for_status()
    return from_document(response.json())


def from_outputs(outputs: dict[str, Any]) -> Found:
    count = int(outputs["num_detections"][0])
    boxes, scores, ids = outputs["boxes"][0], outputs["scores"][0], outputs["class_ids"][0]
    return [(boxes[i].tolist(), float(scores[i]), int(ids[i])) for i in range(count)]


def from_document(document: dict[str, Any]) -> Found:
    (prediction,) = document["predictions"]
    return [(found["box"], found["score"], found["class_id"]) for found in prediction["detections"]]
