from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.errors import Internal, InvalidRequest
from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.rpc.codec import decode_request, decode_response, encode_request, encode_response
from servekit.rpc.messages import ModelInferRequest, ModelInferResponse
from servekit.tensors import DATATYPES, Tensor, bytes_array

PARAMETERS = {
    "flag": True,
    "least": -(1 << 63),
    "most": (1 << 63) - 1,
    "unsigned": (1 << 64) - 1,
    "number": 0.25,
    "text": "0.25",
}


def decode(**fields):
    return decode_request(ModelInferRequest(**fields).SerializeToString(), RequestContext())


def described(datatype, shape, **contents):
    tensor = {"name": "t", "datatype": datatype, "shape": shape}
    return {"inputs": [{**tensor, "contents": contents} if contents else tensor]}


def test_a_request_survives_its_bytes():
    context = RequestContext()
    arrays = [np.zeros((2, 0), dtype) for dtype in DATATYPES.values()] + [bytes_array([b"", b"\xff\xd8"])]
    inputs = tuple(Tensor(f"input{index}", array) for index, array in enumerate(arrays))
    request = InferenceRequest("m", inputs, context, "id", "7", PARAMETERS)
    read = decode_request(encode_request(request), context)
    assert [(t.name, t.datatype, t.shape, list(t.array.flat)) for t in read.inputs] == [
        (t.name, t.datatype, t.shape, list(t.array.flat)) for t in inputs
    ]
    assert (read.model_name, read.id, read.model_version, read.parameters) == ("m", "id", "7", PARAMETERS)
    assert {name: type(value) for name, value in read.parameters.items()} == {
        name: type(value) for name, value in PARAMETERS.items()
    }


def test_a_response_survives_its_bytes():
    response = InferenceResponse("m", (Tensor("t", np.arange(6, dtype="<f2").reshape(2, 3)),), "id", "7", PARAMETERS)
    read = decode_response(encode_response(response))
    np.testing.assert_array_equal(read.outputs[0].array, response.outputs[0].array)
    assert (read.model_name, read.id, read.model_version, read.parameters) == ("m", "id", "7", PARAMETERS)


def test_a_number_beyond_64_bits_goes_out_as_text():
    response = InferenceResponse("m", (), parameters={"huge": 1 << 64, "tiny": -(1 << 63) - 1})
    assert decode_response(encode_response(response)).parameters == {
        "huge": "18446744073709551616",
        "tiny": "-9223372036854775809",
    }


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, (1 << 32) - 1]),
        ("UINT64", "uint64_contents", [0, (1 << 64) - 1]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-32768, 32767]),
        ("INT32", "int_contents", [-(1 << 31), (1 << 31) - 1]),
        ("INT64", "int64_contents", [-(1 << 63), (1 << 63) - 1]),
        ("FP32", "fp32_contents", [0.5, float("inf")]),
        ("FP64", "fp64_contents", [0.1, -1e300]),
        ("BYTES", "bytes_contents", [b"", b"\xff\xd8"]),
    ],
)
def test_typed_contents_of_each_datatype_are_read(datatype, field, values):
    (tensor,) = decode(**described(datatype, [2, 1], **{field: values})).inputs
    assert (tensor.datatype, tensor.shape, list(tensor.array.flat)) == (datatype, [2, 1], values)
    (empty,) = decode(**described(datatype, [0, 3])).inputs
    assert (empty.datatype, empty.shape) == (datatype, [0, 3])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        described("FP16", [1], fp32_contents=[1.0]),
        described("BF16", [1], fp32_contents=[1.0]),
        described("", [1], fp32_contents=[1.0]),
        described("FP32", [1], fp64_contents=[1.0]),
        described("FP32", [2], fp32_contents=[1.0]),
        described("FP32", [-1], fp32_contents=[1.0]),
        described("FP32", [1 << 62, 4], fp32_contents=[1.0]),
        described("FP32", [0, 1 << 62]),
        described("UINT8", [1], uint_contents=[256]),
        described("INT8", [1], int_contents=[-129]),
        {**described("FP32", [1]), "raw_input_contents": [b"123"]},
        {**described("FP32", [1]), "raw_input_contents": [b"1234", b"1234"]},
        {**described("FP32", [1], fp32_contents=[1.0]), "raw_input_contents": [b"1234"]},
        {"inputs": 2 * described("FP32", [0])["inputs"]},
        {**described("FP32", [0]), "outputs": [{"name": "a"}, {"name": "a"}]},
        {**described("FP32", [0]), "parameters": {"p": {}}},
        {"raw_input_contents": [b"1234"]},
    ],
)
def test_what_does_not_agree_is_refused(fields):
    with pytest.raises(InvalidRequest):
        decode(**fields)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(InvalidRequest):
        assert decode_request(data, RequestContext()).inputs


def test_an_upstream_answer_that_can_not_be_read_is_not_the_callers_fault():
    broken = ModelInferResponse(outputs=[{"name": "t", "datatype": "FP32", "shape": [1]}], raw_output_contents=[b"1"])
    for data in (b"\xff", broken.SerializeToString()):
        with pytest.raises(Internal, match="the upstream server's answer can't be read"):
            decode_response(data)


def test_raw_tensors_are_views_into_the_message():
    data = ModelInferRequest(**described("UINT8", [3]), raw_input_contents=[b"abc"]).SerializeToString()
    (tensor,) = decode_request(data, RequestContext()).inputs
    whole = np.frombuffer(data, np.uint8)
    assert whole.ctypes.data < tensor.array.ctypes.data < whole.ctypes.data + whole.size
