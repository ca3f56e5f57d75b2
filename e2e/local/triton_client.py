"""Runs one of tritonclient's four clients against a server, and prints what it saw as JSON.

`python triton_client.py http|grpc|http_aio|grpc_aio ADDRESS MODEL INPUT` with the input tensor as a .npy file. In a
process of its own, because tritonclient's and kserve's protobuf descriptors collide in one.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys

import numpy as np

MODULES = {
    "http": "tritonclient.http",
    "grpc": "tritonclient.grpc",
    "http_aio": "tritonclient.http.aio",
    "grpc_aio": "tritonclient.grpc.aio",
}


async def call(function, *arguments, **options):
    """Return what a client's method returns, be it one of the aio clients' or not."""
    result = function(*arguments, **options)
    return await result if inspect.isawaitable(result) else result


def infer_input(module, kind: str, array: np.ndarray):
    """Return the array as the client's input."""
    name, datatype = ("image", "BYTES") if array.dtype == object else ("images", "UINT8")
    tensor = module.InferInput(name, list(array.shape), datatype)
    if kind.startswith("http"):
        tensor.set_data_from_numpy(array, binary_data=True)
    else:
        tensor.set_data_from_numpy(array)
    return tensor


def outputs_of(result, names: list[str]) -> dict[str, object]:
    """Return the shape of each output, and the whole of the small ones."""
    arrays = {name: result.as_numpy(name) for name in names}
    return {
        name: array.tolist() if array.size < 50 and array.dtype != object else list(array.shape)
        for name, array in arrays.items()
    }


async def run(kind: str, address: str, model: str, array: np.ndarray) -> dict[str, object]:
    """Call everything the client has for the specification and the extensions served here."""
    module = importlib.import_module(MODULES[kind])
    json_answers = {} if kind.startswith("http") else {"as_json": True}
    client = module.InferenceServerClient(address)
    seen: dict[str, object] = {
        "live": await call(client.is_server_live),
        "ready": await call(client.is_server_ready),
        "model_ready": await call(client.is_model_ready, model),
        "server": await call(client.get_server_metadata, **json_answers),
        "metadata": await call(client.get_model_metadata, model, **json_answers),
        "config": await call(client.get_model_config, model, **json_answers),
        "index": await call(client.get_model_repository_index, **json_answers),
    }
    inputs = [infer_input(module, kind, array)]
    names = [
        output["name"] for output in seen["metadata"]["outputs"] if output["name"] not in {"annotated_image", "masks"}
    ]
    outputs = [module.InferRequestedOutput(name) for name in names]
    result = await call(client.infer, model, inputs, outputs=outputs, request_id="42", timeout=30_000_000, priority=1)
    seen["outputs"] = outputs_of(result, names)
    response = result.get_response(**json_answers)
    seen["id"], seen["parameters"] = response["id"], response["parameters"]
    if kind.startswith("http"):
        plain = await call(
            client.infer, model, inputs, request_compression_algorithm="gzip", response_compression_algorithm="gzip"
        )
        seen["compressed"] = outputs_of(plain, names)
    seen["statistics"] = await call(client.get_inference_statistics, model, **json_answers)
    await call(client.unload_model, model)
    seen["ready_unloaded"] = await call(client.is_model_ready, model)
    await call(client.load_model, model)
    seen["ready_loaded"] = await call(client.is_model_ready, model)
    seen["outputs_after_load"] = outputs_of(await call(client.infer, model, inputs, outputs=outputs), names)
    try:
        await call(client.infer, "no-such-model", inputs)
    except module.InferenceServerException as error:
        seen["unknown_model"] = error.message()
    await call(client.close)
    return seen


if __name__ == "__main__":
    array = np.load(sys.argv[4], allow_pickle=True)
    sys.stdout.write(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], array)), default=str))
