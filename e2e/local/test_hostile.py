"""Damaged pictures, malformed requests, bad models: one useful line each, never a 5xx, and nothing is left behind."""

from __future__ import annotations

import base64
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import grpc
import httpx2
import numpy as np
import pytest

from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.local import LocalServers
from yolo_client.shapes import draw_scene

ROOT = Path(__file__).resolve().parents[2]
VERDICTS: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "transformer" / "tests" / "badimages_verdicts.json").read_text()
)
GRPC_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
}
GROWTH_KB = 48 * 1024


@pytest.fixture(scope="module")
def servers(start_servers: Callable[..., LocalServers]) -> LocalServers:
    return start_servers()


@pytest.fixture(scope="module")
def http(servers: LocalServers) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=servers.options.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def predictor(servers: LocalServers) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{servers.options.predictor_http_port}", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def infer(servers: LocalServers) -> Iterator[Callable[[bytes], bytes]]:
    with grpc.insecure_channel(f"127.0.0.1:{servers.options.grpc_port}") as channel:
        yield channel.unary_unary(f"/{SERVICE}/ModelInfer")


def assert_useful(response: httpx2.Response) -> str:
    """Assert that an answer is a refusal in one line that gives nothing of the server away, and return the line."""
    assert 400 <= response.status_code < 500, response.text[:300]
    message = response.json()["error"]
    assert 8 < len(message) < 400
    assert "\n" not in message
    assert not any(word in message for word in ("Traceback", "Error(", "/src/", "site-packages", ".py", "<class"))
    return message


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_a_damaged_or_odd_picture_is_served_or_refused_as_listed(
    name: str, assets: Path, http: httpx2.Client, infer: Callable[[bytes], bytes]
) -> None:
    data, verdict = (assets / "badimages" / name).read_bytes(), VERDICTS[name]
    response = http.post("/inference/detect", files={"file": (name, data)})
    request = InferenceRequest("shapes", (Tensor("image", bytes_array([data])),), RequestContext())
    if "served" in verdict:
        assert response.status_code == 200, response.text
        (prediction,) = response.json()["predictions"]
        assert [prediction["height"], prediction["width"]] == verdict["served"]
        infer(encode_request(request))
        return
    assert response.status_code == verdict["refused"], response.text
    message = assert_useful(response)
    with pytest.raises(grpc.RpcError) as refusal:
        infer(encode_request(request))
    assert refusal.value.code() is GRPC_STATUS[verdict["refused"]]
    if data:
        assert refusal.value.details() == message


def picture() -> bytes:
    _, encoded = cv2.imencode(".jpg", draw_scene(1, 240, 320).image)
    return bytes(encoded)


JPEG = picture()
TEXT = base64.b64encode(JPEG).decode()
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT]}


def body(**changes: object) -> bytes:
    return json.dumps({"inputs": [{**IMAGE, **changes}]}).encode()


def parameters(**values: object) -> bytes:
    return json.dumps({"inputs": [IMAGE], "parameters": values}).encode()


def binary(size: object, data: bytes, *, header: str | None = None) -> tuple[bytes, dict[str, str]]:
    described = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [described]}).encode()
    return head + data, {"inference-header-content-length": header if header is not None else str(len(head))}


ELEMENT = struct.pack("<I", len(JPEG)) + JPEG
MALFORMED: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty body": (b"", {}),
    "no JSON": (b"{not json", {}),
    "NaN in JSON": (b'{"inputs":[{"name":"pixels","datatype":"FP32","shape":[1],"data":[NaN]}]}', {}),
    "a list": (b"[]", {}),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, {}),
    "no inputs": (b"{}", {}),
    "inputs of a wrong kind": (b'{"inputs": 7}', {}),
    "two inputs": (json.dumps({"inputs": [IMAGE, {**IMAGE, "name": "pixels"}]}).encode(), {}),
    "the same input twice": (json.dumps({"inputs": [IMAGE, IMAGE]}).encode(), {}),
    "another input": (body(name="picture"), {}),
    "wrong datatype": (body(datatype="FP32"), {}),
    "unknown datatype": (body(datatype="FP8"), {}),
    "wrong shape": (body(shape=[2]), {}),
    "negative shape": (body(shape=[-1]), {}),
    "huge shape": (body(shape=[2**40, 2**40]), {}),
    "fractional shape": (body(shape=[1.5]), {}),
    "no data": (json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}).encode(), {}),
    "zero pictures": (body(shape=[0], data=[]), {}),
    "empty picture": (body(data=[""]), {}),
    "a picture of text": (body(data=[base64.b64encode(b"hello, world, no picture").decode()]), {}),
    "too many pictures": (body(shape=[17], data=[TEXT] * 17), {}),
    "pixels of a wrong type": (body(name="pixels", datatype="FP32", shape=[1, 1, 1, 3], data=[0, 0, 0]), {}),
    "pixels of a wrong shape": (body(name="pixels", datatype="UINT8", shape=[3], data=[0, 0, 0]), {}),
    "pixels out of range": (body(name="pixels", datatype="UINT8", shape=[1, 1, 1, 3], data=[0, 0, 300]), {}),
    "no pixels": (body(name="pixels", datatype="UINT8", shape=[1, 0, 9, 3], data=[]), {}),
    "unknown output": (json.dumps({"inputs": [IMAGE], "outputs": [{"name": "nope"}]}).encode(), {}),
    "threshold over 1": (parameters(confidence_threshold=2), {}),
    "threshold of text": (parameters(iou_threshold="nan"), {}),
    "unknown class": (parameters(classes="dragon"), {}),
    "unknown mask format": (parameters(mask_format="png"), {}),
    "negative timeout": (parameters(timeout=-5), {}),
    "a parameter that is a list": (parameters(classes=["circle"]), {}),
    "binary data cut short": binary(len(ELEMENT), ELEMENT[: len(ELEMENT) // 2]),
    "binary size that lies": binary(10**12, ELEMENT),
    "binary size of text": binary("many", ELEMENT),
    "an element that lies about its length": binary(8, struct.pack("<I", 2**32 - 1) + b"abcd"),
    "binary data nobody described": binary(len(ELEMENT), ELEMENT + b"more"),
    "header length over the body": binary(len(ELEMENT), ELEMENT, header="99999999"),
    "header length below zero": binary(len(ELEMENT), ELEMENT, header="-1"),
    "header length of text": binary(len(ELEMENT), ELEMENT, header="long"),
    "header length in the middle": binary(len(ELEMENT), ELEMENT, header="20"),
    "gzip that is none": (JPEG, {"content-encoding": "gzip"}),
    "an unknown encoding": (JPEG, {"content-encoding": "br"}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_one_useful_line(name: str, http: httpx2.Client) -> None:
    content, headers = MALFORMED[name]
    assert_useful(http.post("/v2/models/shapes/infer", content=content, headers=headers))
    assert http.get("/v2/health/ready").status_code == 200


V1_MALFORMED = {
    "no instances": {},
    "instances of a wrong kind": {"instances": "picture"},
    "an empty list": {"instances": []},
    "an instance of a wrong kind": {"instances": [7]},
    "no base64": {"instances": [{"image": {"b64": "é"}}]},
    "no picture": {"instances": [{"image": {"b64": "AAAA"}}]},
    "a bad option": {"instances": [{"image": {"b64": TEXT}, "confidence_threshold": "high"}]},
    "an option of a wrong kind": {"instances": [{"image": {"b64": TEXT}, "classes": {}}]},
}


@pytest.mark.parametrize("name", V1_MALFORMED)
def test_a_malformed_v1_request_gets_one_useful_line(name: str, http: httpx2.Client) -> None:
    assert_useful(http.post("/v1/models/shapes:predict", json=V1_MALFORMED[name]))


FORMS: dict[str, dict[str, Any]] = {
    "nothing": {"content": b""},
    "no file": {"files": {"other": ("a.jpg", JPEG)}},
    "an empty file": {"files": {"file": ("a.jpg", b"")}},
    "a form without a boundary": {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    "a form that is none": {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}},
    "an unknown model": {"files": {"file": ("a.jpg", JPEG)}, "data": {"model_name": "nope"}},
    "a bad field": {"files": {"file": ("a.jpg", JPEG)}, "data": {"iou_threshold": "7"}},
}


@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_form_gets_one_useful_line(name: str, http: httpx2.Client) -> None:
    assert_useful(http.post("/inference/detect", **FORMS[name]))


PREDICTOR_MALFORMED = {
    "a wrong dtype": {"name": "images", "datatype": "FP32", "shape": [1, 32, 32, 3], "data": [0.0] * 3072},
    "a wrong number of dimensions": {"name": "images", "datatype": "UINT8", "shape": [32, 32, 3], "data": [0] * 3072},
    "sides that are no multiple of the stride": {
        "name": "images",
        "datatype": "UINT8",
        "shape": [1, 33, 31, 3],
        "data": [0] * 3069,
    },
    "an empty batch": {"name": "images", "datatype": "UINT8", "shape": [0, 32, 32, 3], "data": []},
    "another name": {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0] * 3072},
}


@pytest.mark.parametrize("name", PREDICTOR_MALFORMED)
def test_a_malformed_tensor_gets_one_useful_line_from_the_predictor(name: str, predictor: httpx2.Client) -> None:
    request = {"inputs": [PREDICTOR_MALFORMED[name]]}
    assert_useful(predictor.post("/v2/models/shapes/infer", json=request))


def test_a_picture_of_225_megapixels_is_refused_before_it_is_decoded(
    assets: Path, http: httpx2.Client, servers: LocalServers
) -> None:
    data = (assets / "badimages" / "bomb_rgb_15000x15000.png").read_bytes()
    before = memory_kb(servers)["transformer"]
    response = http.post("/inference/detect", files={"file": ("bomb.png", data)})
    assert response.status_code == 413
    # Decoded it takes 675 MB, and the peak would show them.
    assert memory_kb(servers)["transformer"] - before < GROWTH_KB


def test_after_a_thousand_bad_requests_memory_is_where_it_was(
    http: httpx2.Client, infer: Callable[[bytes], bytes], servers: LocalServers
) -> None:
    choices = random.Random(0)
    damaged = bytearray(JPEG)

    def send(count: int) -> None:
        for number in range(count):
            content, headers = MALFORMED[choices.choice(list(MALFORMED))]
            assert http.post("/v2/models/shapes/infer", content=content, headers=headers).status_code < 500
            if number % 4 == 0:
                damaged[choices.randrange(len(damaged))] ^= 0xFF
                cut = bytes(damaged[: choices.randrange(1, len(damaged))])
                request = InferenceRequest("shapes", (Tensor("image", bytes_array([cut])),), RequestContext())
                with ExitStack() as stack:
                    stack.enter_context(pytest.raises(grpc.RpcError))
                    infer(encode_request(request))

    send(200)
    before = memory_kb(servers)
    send(1000)
    after = memory_kb(servers)
    assert all(after[name] - before[name] < GROWTH_KB for name in before), (before, after)
    assert http.post("/inference/detect", files={"file": ("a.jpg", JPEG)}).status_code == 200


def memory_kb(servers: LocalServers) -> dict[str, int]:
    """Return the peak resident memory of each server so far, from its status file (proc(5): VmHWM)."""
    status = {name: Path(f"/proc/{process.pid}/status").read_text() for name, process in servers.processes}
    return {name: int(text.partition("VmHWM:")[2].split()[0]) for name, text in status.items()}


BAD_MODELS = (
    "empty.onnx",
    "html.onnx",
    "lfs_pointer_yolov7-tiny.onnx",
    "nms_graph_only.onnx",
    "truncated_yolox_nano.onnx",
)


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model_is_refused_when_it_is_loaded_and_the_old_one_serves_on(
    name: str, assets: Path, predictor: httpx2.Client, servers: LocalServers
) -> None:
    served = servers.model_directory / "model.onnx"
    kept = served.with_suffix(".kept")
    shutil.copy(served, kept)
    try:
        shutil.copyfile(assets / "weights" / "bad" / name, served)
        assert_useful(predictor.post("/v2/repository/models/shapes/load"))
        images = np.zeros((1, 320, 320, 3), np.uint8)
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "images",
                        "datatype": "UINT8",
                        "shape": list(images.shape),
                        "parameters": {"binary_data_size": images.size},
                    }
                ]
            }
        ).encode()
        response = predictor.post(
            "/v2/models/shapes/infer",
            content=head + images.tobytes(),
            headers={"inference-header-content-length": str(len(head))},
        )
        assert response.status_code == 200
    finally:
        kept.replace(served)
        assert predictor.post("/v2/repository/models/shapes/load").status_code == 200


def test_the_folder_of_bad_models_holds_no_other(assets: Path) -> None:
    assert sorted(path.name for path in (assets / "weights" / "bad").iterdir()) == sorted(BAD_MODELS)
