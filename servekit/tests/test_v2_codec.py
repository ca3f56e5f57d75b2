from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.errors import InvalidRequest
from servekit.inference import InferenceResponse, RequestContext, wanted_outputs
from servekit.model import TensorSpec
from servekit.rest import v2
from servekit.rest.body import accepts_gzip
from servekit.tensors import Tensor, bytes_array

X = {"name": "x", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}


def decode(document, binary=b"", header_length=None):
    head = document if isinstance(document, bytes) else orjson.dumps(document)
    if binary and header_length is None:
        header_length = str(len(head))
    return v2.decode("m", "", head + binary, header_length, RequestContext())


def binary_input(name, shape, size, datatype="UINT8", **others):
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size, **others},
    }


def test_json_and_binary_inputs_may_be_mixed_and_keep_their_order():
    document = {"inputs": [binary_input("a", [2], 2), X, binary_input("b", [1], 6, "BYTES")]}
    request, _ = decode(document, b"\1\2" + b"\2\0\0\0\xff\xd8")
    assert {t.name: t.array.tolist() for t in request.inputs} == {"a": [1, 2], "x": [1, 2, 3], "b": [b"\xff\xd8"]}
    assert [t.name for t in request.inputs] == ["a", "x", "b"]


def test_a_binary_input_is_a_view_of_the_body():
    head = orjson.dumps({"inputs": [binary_input("a", [3], 3)]})
    body = head + b"abc"
    request, _ = v2.decode("m", "", body, str(len(head)), RequestContext())
    begin = np.frombuffer(body, np.uint8).ctypes.data
    assert request.inputs[0].array.ctypes.data == begin + len(head)


def test_null_stands_for_what_is_left_out():
    request, binary = decode({"id": None, "parameters": None, "outputs": None, "inputs": [{**X, "parameters": None}]})
    assert (request.id, request.parameters, request.outputs) == ("", {}, ())
    assert not binary.wants("any")


def test_names_are_kept_whole_so_that_long_ones_stay_apart():
    inputs = [{**X, "name": "n" * 200 + end} for end in "ab"]
    request, _ = decode({"inputs": inputs})
    assert [t.name[-1] for t in request.inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("parameters", "outputs", "wanted"),
    [
        ({}, [], {"a": False, "b": False}),
        ({"binary_data_output": True}, [], {"a": True, "b": True}),
        ({"binary_data_output": True}, [{"name": "a", "parameters": {"binary_data": False}}], {"a": False, "b": True}),
        ({}, [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}], {"a": True, "b": False}),
        ({"binary_data_output": False}, [{"name": "a", "parameters": {"binary_data": True}}], {"a": True}),
    ],
)
def test_an_outputs_own_wish_for_binary_data_goes_before_the_requests(parameters, outputs, wanted):
    _, binary = decode({"inputs": [X], "parameters": parameters, "outputs": outputs})
    assert {name: binary.wants(name) for name in wanted} == wanted


MALFORMED = {
    "no JSON": b"{",
    "empty": b"",
    "no object": [],
    "no inputs": {},
    "empty inputs": {"inputs": []},
    "inputs is no list": {"inputs": {"x": 1}},
    "an input is no object": {"inputs": [1]},
    "no name": {"inputs": [{**X, "name": ""}]},
    "the name is no text": {"inputs": [{**X, "name": 1}]},
    "no datatype": {"inputs": [{**X, "datatype": None}]},
    "an unknown datatype": {"inputs": [{**X, "datatype": "FP8"}]},
    "no shape": {"inputs": [{**X, "shape": None}]},
    "the shape is no list": {"inputs": [{**X, "shape": 3}]},
    "a negative dimension": {"inputs": [{**X, "shape": [-1]}]},
    "a huge dimension": {"inputs": [{**X, "shape": [0, 1 << 62], "data": []}]},
    "no data": {"inputs": [{key: X[key] for key in ("name", "datatype", "shape")}]},
    "data is null": {"inputs": [{**X, "data": None}]},
    "too few elements": {"inputs": [{**X, "data": [1]}]},
    "an element too large": {"inputs": [{**X, "data": [1, 2, 256]}]},
    "deep nesting": b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "two of one name": {"inputs": [X, X]},
    "an output wanted twice": {"inputs": [X], "outputs": [{"name": "x"}, {"name": "x"}]},
    "an output without name": {"inputs": [X], "outputs": [{}]},
    "id is a number": {"inputs": [X], "id": 1},
    "parameters is a list": {"inputs": [X], "parameters": []},
    "a parameter is an object": {"inputs": [X], "parameters": {"p": {}}},
    "a parameter is null": {"inputs": [X], "parameters": {"p": None}},
    "binary_data is a text": {"inputs": [X], "outputs": [{"name": "x", "parameters": {"binary_data": "yes"}}]},
    "binary_data_output is a number": {"inputs": [X], "parameters": {"binary_data_output": 1}},
    "binary data without its header": {"inputs": [binary_input("a", [3], 3)]},
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_document_is_refused(document):
    with pytest.raises(InvalidRequest):
        decode(document)


@pytest.mark.parametrize("size", [2, 4, -1, "3", 3.0, True, 1 << 63])
def test_a_binary_size_that_does_not_fit_is_refused(size):
    with pytest.raises(InvalidRequest):
        decode({"inputs": [binary_input("a", [3], size)]}, b"abc")


@pytest.mark.parametrize("header_length", ["", "-1", "1e3", "0x10", "10000", "9" * 5000, "²", "1 1"])
def test_a_header_length_that_is_none_is_refused(header_length):
    with pytest.raises(InvalidRequest):
        decode({"inputs": [X]}, header_length=header_length)


def test_binary_data_that_belongs_to_no_input_is_refused():
    with pytest.raises(InvalidRequest, match="1 bytes of binary data belong to no input"):
        decode({"inputs": [binary_input("a", [2], 2)]}, b"abc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 64) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*X, "parameters"]), inner, max_size=4),
    max_leaves=8,
)
DOCUMENT = st.fixed_dictionaries(
    {"inputs": st.lists(st.fixed_dictionaries({}, optional={key: JSON | st.just(X[key]) for key in X}), max_size=2)},
    optional={"id": JSON, "parameters": JSON, "outputs": JSON},
)


@given(DOCUMENT, st.binary(max_size=8), st.none() | st.text(max_size=3))
def test_any_document_is_read_or_refused(document, binary, header_length):
    try:
        request, _ = decode(document, binary, header_length)
    except (InvalidRequest, orjson.JSONEncodeError):
        return
    assert request.inputs


def test_a_response_is_json_and_the_binary_data_in_order():
    outputs = (
        Tensor("a", np.array([1.5], "<f4")),
        Tensor("b", np.array([[1, 2]], np.uint8)),
        Tensor("c", bytes_array([b"\xff"])),
    )
    binary = v2.BinaryOutputs(default=True, by_name={"b": False})
    document, buffers = v2.encode(InferenceResponse("m", outputs, "id", "7", {"p": 0.5}), binary)
    body, length = v2.join(document, buffers)
    assert orjson.loads(body[:length]) == {
        "model_name": "m",
        "model_version": "7",
        "id": "id",
        "parameters": {"p": 0.5},
        "outputs": [
            {"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
            {"name": "b", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]},
            {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        ],
    }
    assert body[length:] == np.array([1.5], "<f4").tobytes() + b"\1\0\0\0\xff"


def test_an_empty_output_can_go_out_as_binary_data():
    response = InferenceResponse("m", (Tensor("a", np.empty((0, 4), "<f4")),))
    document, buffers = v2.encode(response, v2.BinaryOutputs(default=True, by_name={}))
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 0}
    assert buffers == [b""]


def test_wanted_outputs_come_in_the_order_asked_for():
    tensors = {name: Tensor(name, np.empty(0)) for name in "abc"}
    response = InferenceResponse("m", tuple(tensors.values()))
    assert wanted_outputs(response, ("c", "a")) == (tensors["c"], tensors["a"])
    assert wanted_outputs(response, ()) == tuple(tensors.values())
    with pytest.raises(InvalidRequest, match="has no output 'z' here: it has a, b, c"):
        wanted_outputs(response, ("z",))


@pytest.mark.parametrize(
    ("datatype", "shape", "body", "expected"),
    [
        ("BYTES", (-1,), b"\xff\xd8", [b"\xff\xd8"]),
        ("UINT8", (-1, 2), b"abcd", [[97, 98], [99, 100]]),
        ("FP32", (1,), b"\0\0\0\0", [0.0]),
        ("FP32", (-1, 2), b"", []),
    ],
)
def test_a_body_of_nothing_but_data_is_the_models_first_input(datatype, shape, body, expected):
    request, binary = v2.decode_whole("m", "", body, TensorSpec("t", datatype, shape), RequestContext())
    assert request.inputs[0].array.tolist() == expected
    assert binary.wants("any")


@pytest.mark.parametrize(
    ("shape", "body"), [((-1, 2), b"abc"), ((-1, -1), b"abc"), ((2,), b"abc"), ((-1, 0), b"abc"), ((), b"")]
)
def test_a_body_of_data_that_does_not_fit_the_input_is_refused(shape, body):
    with pytest.raises(InvalidRequest):
        v2.decode_whole("m", "", body, TensorSpec("t", "UINT8", shape), RequestContext())


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("*", True),
        ("gzipped", False),
    ],
)
def test_answers_are_compressed_for_clients_that_accept_it(header, accepted):
    assert accepts_gzip(header) is accepted
