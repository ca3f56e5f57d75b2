"""Inference requests and responses to gRPC messages and back; both servers and the channel between them use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from servekit.errors import Internal, InvalidRequest
from servekit.inference import (
    InferenceRequest,
    InferenceResponse,
    Parameter,
    Parameters,
    RequestContext,
    check_unique,
)
from servekit.rpc.messages import ModelInferRequest, ModelInferResponse
from servekit.rpc.raw import parse, serialise
from servekit.tensors import Tensor, bytes_array, check_shape, dtype_of, from_raw, to_raw

_CONTENTS_FIELD: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_WIDE: Final = {"u": np.dtype(np.uint64), "i": np.dtype(np.int64)}  # what holds whatever the contents can


def decode_request(data: bytes, context: RequestContext) -> InferenceRequest:
    """Return the request in a `ModelInferRequest`'s bytes; its tensors are views into them.

    Raises:
        InvalidRequest: the bytes are not what the protocol says.

    """
    message, raw = parse(ModelInferRequest, data)
    inputs = _tensors(message.inputs, raw)
    if not inputs:
        raise InvalidRequest("the request has no inputs")
    outputs = tuple(output.name for output in message.outputs)
    check_unique("inputs", (tensor.name for tensor in inputs))
    check_unique("outputs", outputs)
    return InferenceRequest(
        message.model_name,
        inputs,
        context,
        id=message.id,
        model_version=message.model_version,
        parameters=_parameters(message.parameters),
        outputs=outputs,
    )


def encode_request(request: InferenceRequest) -> bytes:
    """Return the bytes of the request's `ModelInferRequest`, tensors raw."""
    message = ModelInferRequest(model_name=request.model_name, model_version=request.model_version, id=request.id)
    _set_parameters(message.parameters, request.parameters)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return serialise(message, [to_raw(tensor.array) for tensor in request.inputs])


def decode_response(data: bytes) -> InferenceResponse:
    """Return the response in a `ModelInferResponse`'s bytes; its tensors are views into them.

    Raises:
        Internal: the bytes are not what the protocol says, which is no fault of the one who asked.

    """
    try:
        message, raw = parse(ModelInferResponse, data)
        return InferenceResponse(
            message.model_name,
            _tensors(message.outputs, raw),
            id=message.id,
            model_version=message.model_version,
            parameters=_parameters(message.parameters),
        )
    except InvalidRequest as error:
        raise Internal(f"the upstream server's answer can't be read: {error.message}") from error


def encode_response(response: InferenceResponse) -> bytes:
    """Return the bytes of the response's `ModelInferResponse`, tensors raw."""
    message = ModelInferResponse(model_name=response.model_name, model_version=response.model_version, id=response.id)
    _set_parameters(message.parameters, response.parameters)
    for tensor in response.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return serialise(message, [to_raw(tensor.array) for tensor in response.outputs])


def _tensors(described: Sequence[Any], raw: list[memoryview]) -> tuple[Tensor, ...]:
    if raw and len(raw) != len(described):
        raise InvalidRequest(f"{len(described)} tensors are described and {len(raw)} raw contents came")
    if raw and any(tensor.HasField("contents") for tensor in described):
        raise InvalidRequest("a tensor has both raw and typed contents")
    if raw:
        return tuple(from_raw(t.name, t.datatype, t.shape, buffer) for t, buffer in zip(described, raw, strict=True))
    return tuple(_from_contents(tensor) for tensor in described)


def _from_contents(described: Any) -> Tensor:
    name, datatype = described.name, described.datatype
    dtype, shape = dtype_of(name, datatype), check_shape(name, described.shape)
    field = _CONTENTS_FIELD.get(datatype)
    if field is None:
        raise InvalidRequest(f"tensor '{name}': {datatype} must come as raw contents")
    values = getattr(described.contents, field)
    if len(values) != math.prod(shape):
        raise InvalidRequest(f"tensor '{name}': shape {list(shape)} does not hold {len(values)} elements of '{field}'")
    if datatype == "BYTES":
        return Tensor(name, bytes_array(values).reshape(shape))
    wide = np.fromiter(values, _WIDE.get(dtype.kind, dtype), len(values))
    if dtype.kind in _WIDE and wide.size and not np.iinfo(dtype).min <= wide.min() <= wide.max() <= np.iinfo(dtype).max:
        raise InvalidRequest(f"tensor '{name}': the data does not fit datatype {datatype}")
    return Tensor(name, wide.astype(dtype, copy=False).reshape(shape))


def _parameters(described: Any) -> Parameters:
    parameters: dict[str, Parameter] = {}
    for name, value in described.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"parameter '{name[:100]}' has no value")
        parameters[name] = getattr(value, choice)
    return parameters


def _set_parameters(target: Any, parameters: Parameters) -> None:
    for name, value in parameters.items():
        if isinstance(value, bool):
            target[name].bool_param = value
        elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            target[name].int64_param = value
        elif isinstance(value, int) and 0 <= value < 1 << 64:
            target[name].uint64_param = value
        elif isinstance(value, float):
            target[name].double_param = value
        else:
            target[name].string_param = str(value)
