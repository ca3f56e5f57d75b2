"""Preparing a large model leaves its weights on the disk, and gives the bytes that it gives of a model in memory."""

import os
import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_networks import widened, yolov5, yolov8, yolox

from weights_sync.errors import DamagedModelError, SourceError, WeightsError
from weights_sync.make import make
from weights_sync.order import Order
from weights_sync.prepare import prepare_model
from weights_sync.prepare.notes import find_note
from weights_sync.prepare.skeleton import loaded, pieces, read_skeleton

MEBIBYTES = 256
MOST_MEMORY_KB = 200_000
PULL = """
import sys
from pathlib import Path
from weights_sync.__main__ import main
code = main(["pull", *sys.argv[1:]])
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
sys.exit(code)
"""


def saved(model, folder):
    file = folder / "net.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def prepared_file(file, **order):
    return b"".join(map(bytes, make(file, Order(**order)).pieces()))


def test_the_memory_that_a_pull_takes_does_not_grow_with_the_weights(tmp_path):
    file = saved(widened(yolov8(), MEBIBYTES), tmp_path)
    assert file.stat().st_size > MEBIBYTES << 20
    ran = subprocess.run(
        [sys.executable, "-c", PULL, file.as_uri(), tmp_path / "dest"], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "dest" / "model.onnx").stat().st_size > MEBIBYTES << 20
    assert int(ran.stdout.split()[-1]) < MOST_MEMORY_KB


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("build", [yolov8, yolov5, yolox])
def test_the_file_is_the_one_that_is_made_in_memory(build, opset, dynamic, tmp_path):
    file = saved(widened(build(opset=opset), 6), tmp_path)
    skeleton = read_skeleton(file)
    assert sum(find_note(tensor.raw_data) is not None for tensor in skeleton.model.graph.initializer) >= 2
    assert skeleton.model.ByteSize() < 1 << 18
    assert loaded(skeleton.model) == onnx.load(file)
    whole = prepare_model(file.read_bytes(), dynamic=dynamic).SerializeToString()
    assert prepared_file(file, dynamic=dynamic) == whole
    assert b"".join(map(bytes, pieces(skeleton.model))) == file.read_bytes()


def test_a_large_table_of_cells_is_read_where_surgery_wants_its_numbers(tmp_path):
    file = saved(yolox(decoded=True, size=960), tmp_path)
    assert any(find_note(tensor.raw_data) for tensor in read_skeleton(file).model.graph.initializer)
    whole = prepare_model(file.read_bytes(), dynamic=True)
    assert prepared_file(file, dynamic=True) == whole.SerializeToString()


def test_numbers_that_are_stored_as_floats_come_out_as_bytes(tmp_path):
    model = widened(yolov8(), 4)
    wide = next(tensor for tensor in model.graph.initializer if tensor.name == "wide1")
    numbers = numpy_helper.to_array(wide)
    wide.CopyFrom(helper.make_tensor("wide1", TensorProto.FLOAT, numbers.shape, numbers.ravel()))
    assert len(wide.float_data)
    file = saved(model, tmp_path)
    found = onnx.load_from_string(prepared_file(file))
    tensor = next(tensor for tensor in found.graph.initializer if tensor.name == "wide1")
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), numbers)


def test_weights_in_a_file_beside_end_up_in_the_one_file(tmp_path):
    model = widened(yolov8(), 6)
    expected = prepare_model(model, digest="0")
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    made = make(tmp_path / "net.onnx", Order())
    del expected.metadata_props[:], made.model.metadata_props[:]
    assert made.model.ByteSize() < 1 << 17
    assert loaded(made.model) == expected


def test_a_file_that_changes_while_it_is_prepared_is_not_taken(tmp_path):
    file = saved(widened(yolov8(), 4), tmp_path)
    made = make(file, Order())
    os.utime(file, ns=(1, 1))
    with pytest.raises(SourceError, match=r"net.onnx changed while it was read: try again"):
        list(made.pieces())


def test_damaged_files_raise_nothing_but_our_errors(tmp_path):
    file, chance, refused = saved(yolox(decoded=True, size=960), tmp_path), random.Random(7), []
    data = file.read_bytes()
    assert any(find_note(tensor.raw_data) for tensor in read_skeleton(file).model.graph.initializer)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.choice([chance.randrange(1500), len(data) - chance.randrange(1, 1500)])] = chance.randrange(
                256
            )
        file.write_bytes(broken[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            prepared_file(file)
        except WeightsError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not [reason for reason in refused if "\n" in reason]


def test_what_only_looks_like_a_note_is_taken_for_the_bytes_it_is(tmp_path):
    model = yolov8()
    noted = read_skeleton(saved(widened(yolov8(), 4), tmp_path)).model.graph.initializer[-2].raw_data
    note = find_note(noted)
    forged = bytes(16) + noted[16:]
    assert note is not None
    assert find_note(forged) is None
    tensor = TensorProto(name="forged", data_type=TensorProto.UINT8, dims=[len(forged)], raw_data=forged)
    model.graph.initializer.append(tensor)
    assert forged in b"".join(map(bytes, pieces(model)))


@pytest.mark.parametrize("short", [True, False])
def test_a_tensor_with_another_number_of_bytes_than_its_shape_is_damaged(short, tmp_path):
    model = widened(yolov8(), 4)
    wide = next(tensor for tensor in model.graph.initializer if tensor.name == "wide1")
    wide.dims[1] = 1023
    wide.raw_data = bytes(1 << 20) if short else wide.raw_data
    with pytest.raises(DamagedModelError, match=r"'wide1' \[1024, 1023, 1, 1\] holds"):
        read_skeleton(saved(model, tmp_path))
