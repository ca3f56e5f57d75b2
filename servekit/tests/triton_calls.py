"""What a user of tritonclient does, for the tests: `python triton_calls.py HTTP_PORT GRPC_PORT`.

A process of its own, because its protobuf messages and those of KServe's SDK have the same names.
"""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) + b"\xff\xd9"


def tensors(module, **binary):
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.ones((1, 2), np.float16),
        "flags": np.array([True, False]),
        "empty": np.empty((0, 4), np.int64),
        "picture": np.array([JPEG], object),
    }
    if binary == {"binary_data": False}:
        del arrays["picture"], arrays["half"]  # these have no JSON
    inputs = []
    for name, array in arrays.items():
        datatype = "BYTES" if array.dtype == object else over_http.np_to_triton_dtype(array.dtype)
        inputs.append(module.InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, **binary)
    return arrays, inputs


def check(result, arrays):
    for name, array in arrays.items():
        np.testing.assert_array_equal(result.as_numpy(name), array)


def infer(module, client, binary, **options):
    arrays, inputs = tensors(module, **binary)
    parameters = {"text": "0.25", "whole": 3, "flag": True, **options.pop("parameters", {})}
    result = client.infer("echo", inputs, model_version="3", request_id="an id", parameters=parameters, **options)
    check(result, arrays)
    return result.get_response()


def call_everything(module, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo", "3")
    client.get_server_metadata()
    client.get_model_metadata("echo")
    client.get_model_config("echo")
    client.load_model("second")
    assert client.is_model_ready("second")
    client.get_inference_statistics("second")
    client.unload_model("second")
    client.get_model_repository_index()
    arrays, inputs = tensors(module)
    chosen = client.infer("echo", inputs, outputs=[module.InferRequestedOutput("x")])
    check(chosen, {"x": arrays["x"]})
    assert chosen.as_numpy("half") is None


def main() -> None:
    http_port, grpc_port = sys.argv[1:3]
    with over_http.InferenceServerClient(f"127.0.0.1:{http_port}") as client:
        call_everything(over_http, client)
        for options in ({}, {"request_compression_algorithm": "gzip"}, {"request_compression_algorithm": "deflate"}):
            for algorithm in (None, "gzip"):
                answer = infer(
                    over_http, client, {"binary_data": True}, response_compression_algorithm=algorithm, **options
                )
                assert answer["id"] == "an id"
        answer = infer(over_http, client, {"binary_data": False}, parameters={"number": 0.25})
        assert answer["parameters"]["number"] == 0.25
    with over_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        call_everything(over_grpc, client)
        answer = infer(over_grpc, client, {}, parameters={"number": 0.25}, compression_algorithm="gzip")
        assert answer.parameters["number"].double_param == 0.25
        assert answer.id == "an id"


if __name__ == "__main__":
    main()
