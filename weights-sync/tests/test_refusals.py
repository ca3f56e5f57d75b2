"""What is refused, and the one line that says why."""

import hashlib
import random
import tracemalloc

import onnx
import pytest
from onnx import TensorProto, helper
from tiny_networks import yolov5, yolov8, yolox

from weights_sync.errors import (
    DamagedModelError,
    ModelError,
    SourceError,
    TooLargeError,
    UnsupportedModelError,
    WeightsError,
)
from weights_sync.make import make
from weights_sync.order import Order
from weights_sync.prepare import is_prepared, prepare_model, read_card
from weights_sync.prepare.skeleton import read_skeleton

BAD_FILES = {
    "empty.onnx": (DamagedModelError, "is empty"),
    "html.onnx": (DamagedModelError, "HTML"),
    "lfs_pointer_yolov7-tiny.onnx": (DamagedModelError, "git-lfs pointer"),
    "truncated_yolox_nano.onnx": (DamagedModelError, "cut short"),
    "nms_graph_only.onnx": (UnsupportedModelError, "picture input"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_each_bad_file_is_refused_with_a_reason_of_its_own(name, assets):
    kind, reason = BAD_FILES[name]
    with pytest.raises(kind, match=reason) as caught:
        make(assets / "weights" / "bad" / name, Order())
    assert "\n" not in str(caught.value)


def test_no_bad_file_is_left_out_above(assets):
    assert {file.name for file in (assets / "weights" / "bad").iterdir()} == set(BAD_FILES)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\n  <!DOCTYPE html><title>404</title>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pointer"),
        (b"PK\x03\x04 and the rest of a checkpoint", "zip archive"),
        (b"\x1f\x8b\x08", "gzip"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x08\x08", "holds no graph"),
        (b"\xff" * 100, "cut short, damaged or of another format"),
    ],
)
def test_what_is_no_onnx_is_named(data, reason):
    with pytest.raises(DamagedModelError, match=reason):
        prepare_model(data)


@pytest.mark.parametrize(
    "start",
    [
        b"<html>",
        b"\x08",  # one field after another, of two bytes each
        b"\x08\x08\x3a\xff\xff\xff\xff\x07",  # a graph that is longer than the file
        b"\x08\x08\x3a\xf0\xff\xff\x7f\x0b",  # a graph of fields that are none
        b"\x93\x0a\xf1" * 5,
    ],
)
def test_a_large_file_that_is_no_model_is_not_read_into_memory(tmp_path, start):
    file = tmp_path / "big.onnx"
    with file.open("wb") as stream:
        stream.write(start if start != b"\x08" else start * 600_000)
        stream.truncate(256 << 20)
    tracemalloc.start()
    with pytest.raises(DamagedModelError):
        read_skeleton(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_model_over_the_limit_is_refused_before_it_is_read(tmp_path):
    data = yolov8().SerializeToString()
    with pytest.raises(TooLargeError, match=f"has {len(data)} bytes; the limit is 1000"):
        prepare_model(data, max_bytes=1000)
    (tmp_path / "big.onnx").write_bytes(data)
    with pytest.raises(TooLargeError, match="the limit is 1000"):
        make(tmp_path / "big.onnx", Order(max_bytes=1000))


def test_a_missing_file_is_named_without_its_folder(tmp_path):
    with pytest.raises(SourceError, match=r"^can not read none.onnx: No such file"):
        make(tmp_path / "none.onnx", Order())


def test_operators_of_others_are_refused():
    model = yolov8()
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedModelError, match=r"outside the ONNX standard \(com.example\)"):
        prepare_model(model)


def test_an_old_operator_set_is_refused():
    with pytest.raises(UnsupportedModelError, match="operator set 10: export it with 11 or later"):
        prepare_model(yolov8(opset=10))


@pytest.mark.parametrize("task", ["pose", "classify", "obb"])
def test_other_tasks_are_refused_by_name(task):
    with pytest.raises(UnsupportedModelError, match=f"the model does '{task}'"):
        prepare_model(yolov8(task=task))


def test_a_family_that_does_not_fit_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"known here \(yolov8\): its outputs are output"):
        prepare_model(yolov5(), family="yolov8")
    with pytest.raises(UnsupportedModelError, match="no family 'yolo1'; there are end2end, yolov5, yolov6"):
        prepare_model(yolov5(), family="yolo1")


def test_a_classifier_is_refused():
    values = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 64, 64]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 1, 1]),
    ]
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["data"], ["out"])], "g", values[:1], values[1:])
    with pytest.raises(UnsupportedModelError, match=r"no detector known here: its outputs are out \[1, 3, 1, 1\]"):
        prepare_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_a_graph_that_runs_in_a_circle_is_damaged():
    model = yolov8()
    model.graph.node[1].input[0] = model.graph.node[-1].output[0]
    with pytest.raises(DamagedModelError, match="depends on itself"):
        prepare_model(model)


def test_a_graph_with_a_missing_value_is_damaged():
    model = yolov8()
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ModelError):
        prepare_model(model)


def test_a_card_without_its_graph_does_not_pass_as_prepared():
    with pytest.raises(DamagedModelError, match="calls itself prepared"):
        prepare_model(yolov8(**{"yolo.prepared": "1"}))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"family": "yolov5"}, "the family yolov5"),
        ({"dynamic": True}, "any picture size"),
        ({"candidates": 7}, "7 candidates"),
    ],
)
def test_a_prepared_model_is_not_made_another(asked, reason):
    prepared = prepare_model(yolov8())
    with pytest.raises(UnsupportedModelError, match=f"prepared already, as yolov8: ask for {reason} with the file"):
        prepare_model(prepared, **asked)


def test_a_prepared_model_of_another_format_is_named_as_such():
    prepared = prepare_model(yolov8())
    next(pair for pair in prepared.metadata_props if pair.key == "yolo.prepared").value = "0"
    with pytest.raises(UnsupportedModelError, match="prepared in format '0', and '1' is served: prepare the file"):
        prepare_model(prepared)


def external(tmp_path, location):
    """Save a network whose weights lie in a file beside it, then let it say they are at `location`."""
    model = yolov8()
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    bare = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    for tensor in bare.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (tmp_path / "net.onnx").write_bytes(bare.SerializeToString())
    return tmp_path / "net.onnx"


def test_weights_beside_the_model_are_taken_in(tmp_path):
    file = external(tmp_path, "net.bin")
    prepared = make(file, Order()).model
    assert is_prepared(prepared)
    data = file.read_bytes() + (tmp_path / "net.bin").read_bytes()
    assert read_card(prepared).digest == "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("location", ["../net.bin", "/etc/hostname", "link.bin", "", "a\\..\\b"])
def test_weights_outside_the_directory_are_not_read(tmp_path, location):
    inside = tmp_path / "inside"
    inside.mkdir()
    file = external(inside, location)
    (inside / "net.bin").rename(tmp_path / "net.bin")
    (inside / "link.bin").symlink_to(tmp_path / "net.bin")
    with pytest.raises(UnsupportedModelError, match="outside its directory"):
        make(file, Order())


def test_weights_beside_the_model_that_are_gone_are_named(tmp_path):
    file = external(tmp_path, "net.bin")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(DamagedModelError, match=r"'net.bin', which is not there"):
        make(file, Order())


def test_weights_in_other_files_are_refused_where_there_is_no_directory(tmp_path):
    with pytest.raises(UnsupportedModelError, match="save it as one file"):
        prepare_model(external(tmp_path, "net.bin").read_bytes())


@pytest.mark.parametrize("build", [yolov8, yolov5, yolox])
def test_damaged_bytes_raise_nothing_but_our_errors(build):
    data, chance, refused = build().SerializeToString(), random.Random(7), []
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            # The weights are most of the file; what matters lies before and behind them.
            broken[chance.choice([chance.randrange(1500), chance.randrange(len(data))])] = chance.randrange(256)
        try:
            prepare_model(bytes(broken[: chance.choice([len(data), chance.randrange(len(data))])]))
        except WeightsError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not [reason for reason in refused if "\n" in reason]
