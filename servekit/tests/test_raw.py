from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from servekit.errors import InvalidRequest
from servekit.rpc.messages import ModelInferRequest, ModelInferResponse
from servekit.rpc.raw import parse, serialise

NAMES = st.text(max_size=8)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
PARAMETER = st.one_of(
    st.booleans().map(lambda value: {"bool_param": value}),
    INT64.map(lambda value: {"int64_param": value}),
    NAMES.map(lambda value: {"string_param": value}),
    st.floats(allow_nan=False).map(lambda value: {"double_param": value}),
)
TENSOR = st.fixed_dictionaries({"name": NAMES, "datatype": NAMES, "shape": st.lists(INT64, max_size=4)})
RAW = st.lists(st.binary(max_size=300), max_size=4)


@st.composite
def requests(draw):
    message = ModelInferRequest(
        model_name=draw(NAMES),
        id=draw(NAMES),
        inputs=draw(st.lists(TENSOR, max_size=3)),
        outputs=[{"name": draw(NAMES)}],
    )
    for name, value in draw(st.dictionaries(NAMES, PARAMETER, max_size=3)).items():
        message.parameters[name].CopyFrom(type(message.parameters["x"])(**value))
        if name != "x":
            del message.parameters["x"]
    return message


@given(requests(), RAW)
def test_a_request_is_read_as_protobuf_reads_it(message, raw):
    complete = ModelInferRequest()
    complete.CopyFrom(message)
    complete.raw_input_contents.extend(raw)
    read, views = parse(ModelInferRequest, complete.SerializeToString())
    assert read == message
    assert [bytes(view) for view in views] == raw


@given(requests(), RAW)
def test_a_request_is_written_as_protobuf_writes_it(message, raw):
    read = ModelInferRequest.FromString(serialise(message, raw))
    assert list(read.raw_input_contents) == raw
    del read.raw_input_contents[:]
    assert read == message


@given(RAW)
def test_a_response_has_its_raw_contents_in_its_own_field(raw):
    message = ModelInferResponse(model_name="m")
    assert list(ModelInferResponse.FromString(serialise(message, raw)).raw_output_contents) == raw
    read, views = parse(ModelInferResponse, serialise(message, raw))
    assert (read, [bytes(view) for view in views]) == (message, raw)


@given(st.binary(max_size=60))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\x3a\x05ab")
@example(b"\x3a")
@example(b"\x80")
@example(b"\xff" * 20)
@example(b"\x0a\x02\xff\xfe")
@example(b"\x09\x00")
@example(b"\x0d\x00")
@example(b"\x02\x00")
def test_bytes_that_protobuf_refuses_are_refused_and_others_read_the_same(data):
    try:
        expected = ModelInferRequest.FromString(data)
    except DecodeError:
        with pytest.raises(InvalidRequest):
            parse(ModelInferRequest, data)
        return
    try:
        read, views = parse(ModelInferRequest, data)
    except InvalidRequest:
        assert any(byte & 7 in {3, 4} for byte in data)  # groups, which nobody writes since 2008
        return
    assert [bytes(view) for view in views] == list(expected.raw_input_contents)
    del expected.raw_input_contents[:]
    assert read.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@given(requests(), RAW.filter(any), st.data())
def test_a_message_cut_anywhere_is_refused_or_is_a_shorter_message(message, raw, data):
    whole = serialise(message, raw)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        _, views = parse(ModelInferRequest, cut)
    except InvalidRequest:
        with pytest.raises(DecodeError):
            ModelInferRequest.FromString(cut)
        return
    assert [bytes(view) for view in views] == raw[: len(views)]


def test_raw_contents_are_views_into_the_message():
    data = serialise(ModelInferRequest(), [b"abc"])
    _, (view,) = parse(ModelInferRequest, data)
    assert view.obj is data


def test_a_message_of_millions_of_empty_fields_is_refused_before_it_takes_memory():
    with pytest.raises(InvalidRequest, match="more than 10000 fields"):
        parse(ModelInferRequest, b"\x3a\x00" * 10_001)
    assert len(parse(ModelInferRequest, b"\x3a\x00" * 10_000)[1]) == 10_000
