"""The V2 inference body: JSON, with the binary tensor data extension in both directions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from servekit.errors import InvalidRequest
from servekit.inference import InferenceRequest, InferenceResponse, Parameters, RequestContext, check_unique
from servekit.model import TensorSpec
from servekit.rest.body import parse_object
from servekit.tensors import DATATYPES, Tensor, bytes_array, from_json, from_raw, to_json, to_raw

HEADER_LENGTH: Final = "inference-header-content-length"


@dataclass(frozen=True, slots=True)
class BinaryOutputs:
    """Which outputs the client wants as binary data."""

    default: bool
    by_name: Mapping[str, bool]

    def wants(self, name: str) -> bool:
        """Tell whether the output called `name` goes out as binary data."""
        return self.by_name.get(name, self.default)


def decode(
    model_name: str, model_version: str, body: bytes, header_length: str | None, context: RequestContext
) -> tuple[InferenceRequest, BinaryOutputs]:
    """Return the request in a body, and how it wants its outputs.

    `header_length` is the value of the extension's header: how many bytes of JSON come before the binary data.

    Raises:
        InvalidRequest: the body is not what the protocol says.

    """
    json_end = len(body) if header_length is None else _header_length(header_length, len(body))
    view = memoryview(body)
    document = parse_object(view[:json_end])
    parameters = _parameters(document)
    outputs = _objects(document, "outputs")
    request = InferenceRequest(
        model_name,
        _inputs(_objects(document, "inputs"), view[json_end:]),
        context,
        id=_text(document, "id"),
        model_version=model_version,
        parameters=parameters,
        outputs=tuple(_name(output, "outputs") for output in outputs),
    )
    if not request.inputs:
        raise InvalidRequest('the request has no "inputs"')
    check_unique("inputs", (tensor.name for tensor in request.inputs))
    check_unique("outputs", request.outputs)
    default = _flag(parameters, "binary_data_output", default=False)
    binary = {
        _name(output, "outputs"): _flag(_parameters(output), "binary_data", default=default) for output in outputs
    }
    return request, BinaryOutputs(default, binary)


def decode_whole(
    model_name: str, model_version: str, body: bytes, spec: TensorSpec, context: RequestContext
) -> tuple[InferenceRequest, BinaryOutputs]:
    """Return the request whose body is nothing but the raw data of the input `spec` (the header's value is 0).

    That is the extension's raw binary request: BYTES are one element without its length, and of other datatypes one
    dimension may vary. Its outputs go out as binary data.

    Raises:
        InvalidRequest: the body does not fit the input.

    """
    if spec.datatype == "BYTES":
        tensor = Tensor(spec.name, bytes_array([body]))
    else:
        tensor = from_raw(spec.name, spec.datatype, _fitted_shape(spec, len(body)), body)
    return InferenceRequest(model_name, (tensor,), context, model_version=model_version), BinaryOutputs(True, {})


def encode(response: InferenceResponse, binary: BinaryOutputs) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """Return the response's JSON document and the buffers of binary data that follow it, in order.

    Raises:
        InvalidRequest: an output can't be written as JSON.

    """
    outputs: list[dict[str, Any]] = []
    buffers: list[bytes | memoryview] = []
    for tensor in response.outputs:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if binary.wants(tensor.name):
            buffers.append(to_raw(tensor.array))
            output["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            output["data"] = to_json(tensor.array)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = outputs
    return document, buffers


def join(document: dict[str, Any], buffers: list[bytes | memoryview]) -> tuple[bytes, int]:
    """Return the body of JSON and binary data, and the length of its JSON."""
    head = orjson.dumps(document)
    return b"".join([head, *buffers]), len(head)


def _header_length(value: str, size: int) -> int:
    if not value.isdecimal() or not value.isascii() or len(value) > 20 or int(value) > size:
        raise InvalidRequest(f"Inference-Header-Content-Length must be a number of bytes from 0 to the body's {size}")
    return int(value)


def _inputs(inputs: list[dict[str, Any]], binary: memoryview) -> tuple[Tensor, ...]:
    tensors, offset = [], 0
    for item in inputs:
        name = _name(item, "inputs")
        datatype, shape = item.get("datatype"), item.get("shape")
        if not isinstance(datatype, str) or not isinstance(shape, list):
            raise InvalidRequest(f"input '{name}' needs a 'datatype' (text) and a 'shape' (list)")
        size = _parameters(item).get("binary_data_size")
        if size is None:
            if "data" not in item:
                raise InvalidRequest(f"input '{name}' has neither 'data' nor a 'binary_data_size'")
            tensors.append(from_json(name, datatype, shape, item["data"]))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - offset:
            raise InvalidRequest(f"input '{name}': {len(binary) - offset} bytes of binary data are left, not {size}")
        tensors.append(from_raw(name, datatype, shape, binary[offset : offset + size]))
        offset += size
    if offset != len(binary):
        raise InvalidRequest(f"{len(binary) - offset} bytes of binary data belong to no input")
    return tuple(tensors)


def _fitted_shape(spec: TensorSpec, size: int) -> list[int]:
    fixed = math.prod(dimension for dimension in spec.shape if dimension >= 0) * DATATYPES[spec.datatype].itemsize
    free = sum(dimension < 0 for dimension in spec.shape)
    if free > 1:
        raise InvalidRequest(f"input '{spec.name}' has several dimensions that vary: describe it in JSON")
    return [size // fixed if dimension < 0 and fixed else max(0, dimension) for dimension in spec.shape]


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = _given(document, key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f'"{key}" must be a list of objects')
    return value


def _name(item: Mapping[str, Any], where: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f'each of "{where}" needs a "name"')
    return name


def _text(document: Mapping[str, Any], key: str) -> str:
    value = _given(document, key, "")
    if not isinstance(value, str):
        raise InvalidRequest(f'"{key}" must be a text')
    return value


def _given(document: Mapping[str, Any], key: str, default: object) -> Any:
    # Clients that write out every field of a class send null for what they leave out.
    value = document.get(key)
    return default if value is None else value


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter '{name}' must be true or false")
    return value


def _parameters(item: Mapping[str, Any]) -> Parameters:
    value = _given(item, "parameters", {})
    if not isinstance(value, dict):
        raise InvalidRequest('"parameters" must be an object')
    for name, parameter in value.items():
        if not isinstance(parameter, bool | int | float | str):
            raise InvalidRequest(f"parameter '{name[:100]}' must be a text, number or boolean")
    return value
