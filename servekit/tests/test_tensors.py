from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servekit.errors import InvalidRequest
from servekit.tensors import DATATYPES, Tensor, bytes_array, check_shape, from_json, from_raw, to_json, to_raw

NUMERIC = sorted(set(DATATYPES) - {"BYTES"})
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(datatype: str, **elements):
    return hnp.arrays(DATATYPES[datatype], SHAPES, elements=elements or None)


def elements(texts):
    return SHAPES.flatmap(
        lambda shape: st.lists(texts, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda items: bytes_array(items).reshape(shape)
        )
    )


@given(st.data())
def test_a_numeric_array_survives_its_raw_bytes_bit_by_bit(data):
    datatype = data.draw(st.sampled_from(NUMERIC))
    array = data.draw(arrays(datatype))
    tensor = from_raw("t", datatype, array.shape, to_raw(array))
    assert tensor.datatype == datatype
    assert tensor.shape == list(array.shape)
    assert tensor.array.tobytes() == array.tobytes()


@given(elements(st.binary(max_size=20)))
def test_a_bytes_array_survives_its_raw_bytes(array):
    tensor = from_raw("t", "BYTES", array.shape, to_raw(array))
    assert (tensor.datatype, tensor.shape) == ("BYTES", list(array.shape))
    assert list(tensor.array.flat) == list(array.flat)


@given(st.data())
def test_a_numeric_array_survives_json_flat_and_nested(data):
    datatype = data.draw(st.sampled_from(NUMERIC))
    is_float = datatype.startswith("FP")
    array = data.draw(arrays(datatype, allow_nan=False, allow_infinity=False) if is_float else arrays(datatype))
    flat = orjson.loads(orjson.dumps(to_json(array)))
    np.testing.assert_array_equal(from_json("t", datatype, array.shape, flat).array, array)
    if array.ndim:
        nested = from_json("t", datatype, array.shape, array.tolist())
        assert nested.array.dtype == array.dtype
        np.testing.assert_array_equal(nested.array, array)


@given(elements(st.text(max_size=5).map(str.encode)))
def test_texts_survive_json_flat_and_nested(array):
    assert list(from_json("t", "BYTES", array.shape, to_json(array)).array.flat) == list(array.flat)
    if array.ndim:
        nested = np.vectorize(bytes.decode, otypes=[object])(array).tolist() if array.size else array.tolist()
        assert list(from_json("t", "BYTES", array.shape, nested).array.flat) == list(array.flat)


def test_raw_data_is_read_in_place_and_can_not_be_written():
    buffer = np.arange(6, dtype=np.uint8).tobytes()
    array = from_raw("t", "UINT8", [2, 3], buffer).array
    assert array.ctypes.data == np.frombuffer(buffer, np.uint8).ctypes.data
    assert not array.flags.writeable


def test_a_contiguous_array_is_written_in_place_and_any_other_row_by_row():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.frombuffer(to_raw(array), np.uint8).ctypes.data == array.ctypes.data
    assert bytes(to_raw(array.T)) == array.T.copy().tobytes()


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [
        ("FP32", [2], 7),
        ("FP32", [2], 12),
        ("UINT8", [3, 0], 1),
        ("INT64", [], 4),
        ("BF16", [1], 2),
        ("float32", [1], 4),
        ("FP32", [-1], 4),
        ("FP32", ["1"], 4),
        ("FP32", [True], 4),
        ("FP32", [1.0], 4),
        ("FP32", [None], 4),
        ("FP32", [1] * 33, 4),
        ("FP32", [0, 1 << 62], 0),
        ("FP32", [1 << 32, 1 << 32], 0),
        ("FP32", [0, 1 << 40, 1 << 40], 0),
        ("BYTES", [1 << 62], 0),
    ],
)
def test_raw_bytes_that_do_not_fit_datatype_and_shape_are_refused(datatype, shape, size):
    with pytest.raises(InvalidRequest, match="tensor 't'"):
        from_raw("t", datatype, shape, bytes(size))


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        ([1], b""),
        ([1], b"\1\0\0"),
        ([1], b"\2\0\0\0a"),
        ([1], b"\xff\xff\xff\xffa"),
        ([1], b"\0\0\0\0\0"),
        ([2], b"\1\0\0\0a"),
        ([1], b"\1\0\0\0a\1\0\0\0b"),
        ([0], b"\0\0\0\0"),
    ],
)
def test_lying_lengths_of_bytes_elements_are_refused(shape, raw):
    with pytest.raises(InvalidRequest, match="tensor 't'"):
        from_raw("t", "BYTES", shape, raw)


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(0, 1 << 70), max_size=5), st.binary(max_size=40))
def test_any_raw_tensor_is_read_or_refused(datatype, shape, raw):
    try:
        tensor = from_raw("t", datatype, shape, raw)
    except InvalidRequest:
        return
    assert tensor.shape == shape


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT8", [256]),
        ("UINT8", [-1]),
        ("UINT8", [1.0]),
        ("UINT8", [True]),
        ("UINT8", ["1"]),
        ("INT8", [128]),
        ("INT64", [1 << 63]),
        ("UINT64", [1 << 64]),
        ("BOOL", [1]),
        ("BOOL", [0.0]),
        ("FP16", [70000.0]),
        ("FP16", [70000]),
        ("FP32", [1e39]),
        ("FP32", [10**39]),
        ("FP64", [10**400]),
        ("FP32", ["1"]),
        ("FP32", [None]),
        ("FP32", [{}]),
        ("FP32", [True]),
        ("BYTES", [1]),
        ("BYTES", [None]),
        ("BYTES", [{"b64": ""}]),
        ("FP32", {"0": 1}),
        ("FP32", 1.0),
        ("FP32", None),
        ("FP32", "1"),
        ("FP32", []),
        ("FP32", [1.0, 2.0]),
        ("FP32", [[]]),
        ("FP32", [[1.0], 2.0]),
        ("FP32", [1.0, [2.0]]),
        ("BYTES", ["a", "b"]),
    ],
)
def test_json_data_that_does_not_fit_is_refused(datatype, data):
    with pytest.raises(InvalidRequest, match="tensor 't'"):
        from_json("t", datatype, [1], data)


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_ragged_lists_are_refused_even_when_their_elements_are_as_many_as_the_shape_says(datatype):
    items = [["a", "b"], ["c"]] if datatype == "BYTES" else [[1.0, 2.0], [3.0]]
    with pytest.raises(InvalidRequest, match="differ in depth or length"):
        from_json("t", datatype, [3], items)


def test_one_long_text_among_many_short_ones_takes_no_more_memory_than_it_is_long():
    # numpy would make each as long as the longest: 400 GB here.
    with pytest.raises(InvalidRequest, match="does not fit datatype FP32"):
        from_json("t", "FP32", [100_001], ["x" * 1_000_000] + ["y"] * 100_000)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists)


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(0, 3), max_size=3), JSON)
def test_any_json_data_is_read_or_refused(datatype, shape, data):
    try:
        tensor = from_json("t", datatype, shape, data)
    except InvalidRequest:
        return
    assert (tensor.shape, tensor.datatype) == (shape, datatype)


def test_bytes_that_are_no_text_can_not_go_out_as_json():
    with pytest.raises(InvalidRequest, match="ask for it as binary data"):
        to_json(bytes_array([b"\xff\xd8"]))


def test_a_shape_of_integers_is_taken_as_it_is():
    assert check_shape("t", [2, 0, 3]) == (2, 0, 3)
    assert check_shape("t", []) == ()


def test_a_tensor_tells_the_protocols_name_of_each_numpy_type():
    assert {name: Tensor("t", np.zeros(1, dtype)).datatype for name, dtype in DATATYPES.items()} == {
        name: name for name in DATATYPES
    }
