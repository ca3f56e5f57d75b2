"""Reading MindSpore's checkpoints, whole and broken."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from mindspore_writer import checkpoint, field, value

from weights_sync.errors import DamagedModelError, UnsupportedModelError, WeightsError
from weights_sync.mindspore.checkpoint import read_checkpoint

SAMPLE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.gamma": np.array([1, 0.5], np.float16),
    "stride": np.array([8, 16, 32], np.int32),
    "learning_rate": np.array(0.25, np.float32),
}


def same(read, wanted):
    assert list(read) == list(wanted)
    for name, array in wanted.items():
        assert (read[name].shape, read[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("slice_bytes", [0, 4, 40])
def test_tensors_come_back_whole_sliced_or_with_a_checksum(crc, slice_bytes):
    same(read_checkpoint(checkpoint(SAMPLE, slice_bytes=slice_bytes, crc=crc)), SAMPLE)


@given(
    st.dictionaries(
        st.text(max_size=20),
        arrays_of.arrays(
            st.sampled_from([np.float32, np.float16, np.int64]),
            arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=5),
            elements={"allow_nan": False},
        ),
        max_size=5,
    ).filter(bool)
)
def test_any_tensors_come_back(tensors):
    same(read_checkpoint(checkpoint(tensors)), tensors)


def test_a_number_may_have_no_dims_at_all():
    assert read_checkpoint(value("lr", (), "Float32", np.float32(2).tobytes()))["lr"] == 2


def test_dims_may_be_packed():
    tensor = field(1, bytes([2, 3])) + field(2, b"Int8") + field(3, bytes(range(6)))
    assert read_checkpoint(field(1, field(1, b"w") + field(2, tensor)))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_brain_floats_become_floats():
    (array,) = read_checkpoint(value("w", (2,), "BFloat16", bytes([0x80, 0x3F, 0x00, 0xC0]))).values()
    assert array.tolist() == [1, -2]


def test_texts_are_left_out():
    data = value("note", (3,), "str", b"abc") + value("w", (1,), "Bool", b"\x01")
    assert list(read_checkpoint(data)) == ["w"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<html>", "HTML"),
        (b"PK\x03\x04archive", "zip archive"),
        (b'{"error": 1}', "JSON"),
        (bytes.fromhex("d85e3a7f") + b"x" * 100, "is encrypted"),
        (bytes.fromhex("7f3a5ed9") + b"x" * 100, "is encrypted"),
        (b"\xff" * 100, "no complete MindSpore checkpoint"),
        (checkpoint(SAMPLE)[:-5], "no complete MindSpore checkpoint"),
        (value("w", (3,), "Float32", b"\0" * 8), r"'w' \[3\] holds 8 bytes"),
        (value("w", (0,), "Float32", b"\0" * 8), r"'w' \[0\] holds 8 bytes"),
        (value("w", (0, 1 << 31, 1 << 31, 1 << 31), "Float32", b""), "holds 0 bytes"),
        (value("w", (1 << 62, 1 << 62), "Float32", b"\0" * 8), "holds 8 bytes"),
        (checkpoint(SAMPLE, crc=True).replace(b"gamma", b"gamme"), "its checksum"),
    ],
)
def test_what_is_no_checkpoint_is_named(data, reason):
    with pytest.raises(DamagedModelError, match=reason) as caught:
        read_checkpoint(data)
    assert "\n" not in str(caught.value)


def test_an_unknown_type_is_named():
    with pytest.raises(UnsupportedModelError, match="'w' is of type 'Complex64'"):
        read_checkpoint(value("w", (1,), "Complex64", b"\0" * 8))


def test_safetensors_are_named():
    with pytest.raises(UnsupportedModelError, match="save it with format='ckpt'"):
        read_checkpoint((40).to_bytes(8, "little") + b'{"__metadata__": {}}'.ljust(40))


def test_damaged_bytes_raise_nothing_but_our_errors():
    data, chance, refused = checkpoint(SAMPLE), random.Random(3), []
    for _ in range(500):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read_checkpoint(bytes(broken[: chance.choice([len(data), chance.randrange(len(data))])]))
        except WeightsError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not [reason for reason in refused if "\n" in reason]


def test_a_real_training_checkpoint_is_read(assets):
    read = read_checkpoint((assets / "mindspore" / "lenet_real_nolzhou.ckpt").read_bytes())
    assert len(read) == 18
    assert read["conv1.weight"].shape == (6, 1, 5, 5)
    assert read["learning_rate"].shape == ()
    assert 0 < np.abs(read["fc1.weight"]).max() < 10
