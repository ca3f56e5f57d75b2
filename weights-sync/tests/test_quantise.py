"""Quantising: what stays in the graph, what the report says, and what is refused."""

import json
import subprocess
import sys
from importlib import resources

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny_networks import yolov5, yolov8, yolox

from weights_sync import __main__ as command
from weights_sync.errors import AccuracyError, SourceError, UnsupportedModelError
from weights_sync.prepare import is_prepared, prepare_model, read_card
from weights_sync.prepare.graph import constants
from weights_sync.quantise import quantise
from weights_sync.quantise.half import halve
from weights_sync.quantise.parts import with_float_weights
from weights_sync.quantise.pictures import MOST, fit, read_pictures
from weights_sync.quantise.running import Running
from yolo_client.shapes import draw_scene

TINY = {
    "yolov8": yolov8(stem=True),
    "yolov8-seg": yolov8(masks=5, stem=True),
    "yolov8-dynamic": yolov8(dynamic=True, stem=True, opset=11),
    "yolov5": yolov5(),
    "yolox": yolox(opset=11),
}
SHAPES = resources.files("weights_sync").joinpath("models", "shapes.onnx").read_bytes()
"""A trained network, which finds what there is in the pictures."""


@pytest.fixture
def folder(tmp_path):
    """Folder of six pictures of many sizes."""
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        scene = draw_scene(number, 200 + 10 * number, 260 - 30 * number)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), scene.image[:, :, ::-1])
    return tmp_path / "pictures"


def types(model):
    return {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}


def weights(model):
    """Return the element types of the convolutions' weights, behind DequantizeLinear where there is one."""
    stored = constants(model.graph)
    scaled = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convs = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return {stored[scaled.get(name, name)].data_type for name in convs}


@pytest.mark.parametrize("kind", ["fp16", "int8"])
@pytest.mark.parametrize("name", TINY)
def test_inputs_and_outputs_keep_their_types(name, kind, folder):
    prepared = prepare_model(TINY[name])
    small, _ = quantise(prepared, kind, folder, 1.0)
    assert is_prepared(small)
    assert types(small) == types(prepared)
    # In the networks without a stem every layer is a last one.
    last = {TensorProto.FLOAT} if kind == "int8" else {TensorProto.FLOAT16}
    assert weights(small) == last | ({TensorProto.INT8} if kind == "int8" and "yolov8" in name else set())


def test_half_precision_finds_what_there_was(folder):
    _, report = quantise(prepare_model(SHAPES), "fp16", folder, 0.01)
    agreement = report.agreement
    assert agreement.wanted == agreement.found > 10
    assert agreement.extra == 0
    assert agreement.overlap > 0.99
    assert report.mask_overlap > 0.99
    assert (report.calibrated_on, report.measured_on, report.seen_before) == (0, 6, False)


def test_integers_find_most_of_what_there_was_in_half_the_bytes(folder):
    _, report = quantise(prepare_model(SHAPES), "int8", folder, 0.5)
    agreement = report.agreement
    assert agreement.found > 0.9 * agreement.wanted
    assert agreement.overlap > 0.9
    assert report.mask_overlap > 0.8
    assert report.after.bytes < report.before.bytes / 2
    assert (report.calibrated_on, report.measured_on, report.seen_before) == (3, 3, False)


def test_boxes_of_half_precision_are_decoded_in_single_precision(folder):
    prepared = with_float_weights(prepare_model(SHAPES))
    (canvas, *_) = read_pictures(folder, read_card(prepared)).canvases
    one, other = (
        Running(model).run(canvas[None])[0][0, :3].astype(np.float64) for model in (prepared, halve(prepared))
    )
    assert np.abs(one - other).max() < 0.5
    # Numbers of half precision are multiples of an eighth from 128 on.
    large = other[other > 128] * 8
    assert np.abs(large - large.round()).max() > 0.01


def test_the_card_says_what_was_done_and_the_digest_is_another(folder):
    prepared = prepare_model(yolov8(stem=True, license="AGPL-3.0"))
    small, report = quantise(prepared, "int8", folder, 1.0)
    pairs = {pair.key: pair.value for pair in small.metadata_props}
    assert json.loads(pairs["yolo.quantisation"]) == {
        "kind": "int8",
        "loss": round(report.loss, 4),
        "pictures": 3,
        "calibrated_on": 3,
    }
    assert pairs["license"] == "AGPL-3.0"
    first, second = read_card(prepared), read_card(small)
    assert first.digest != second.digest
    assert first.labels == second.labels


def test_one_picture_is_calibrated_and_measured_on_and_that_is_said(folder):
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()
    _, report = quantise(prepare_model(yolov8(stem=True)), "int8", folder, 1.0)
    assert (report.calibrated_on, report.measured_on, report.seen_before) == (1, 1, True)
    assert ("measured on", "1 pictures, the same") in report.rows()


def test_a_loss_over_the_limit_is_refused_and_named(folder):
    with pytest.raises(AccuracyError, match=r"int8 loses 0\.\d{4} of the .* on 3 pictures, and --max-loss is 0.0"):
        quantise(prepare_model(yolov8(stem=True)), "int8", folder, 0.0)


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_what_is_quantised_already_is_refused(kind, folder):
    half = prepare_model(yolov8(dtype=TensorProto.FLOAT16))
    once, _ = quantise(prepare_model(yolov8(stem=True)), kind, folder, 1.0)
    for model in (half, once):
        with pytest.raises(UnsupportedModelError, match="quantised already"):
            quantise(model, kind, folder, 1.0)


def test_folders_without_pictures_are_named(folder, tmp_path):
    card = read_card(prepare_model(yolov8()))
    with pytest.raises(SourceError, match=r"can not read the calibration pictures in .*nowhere: No such file"):
        read_pictures(tmp_path / "nowhere", card)
    with pytest.raises(SourceError, match="Not a directory"):
        read_pictures(folder / "0.png", card)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no picture in .*empty to calibrate with \(bmp, jpeg"):
        read_pictures(tmp_path / "empty", card)
    (tmp_path / "empty" / "notes.txt").write_text("none")
    (tmp_path / "empty" / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (tmp_path / "empty" / "nothing.jpg").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no picture in .*; 2 are damaged"):
        read_pictures(tmp_path / "empty", card)


def test_damaged_pictures_are_left_out_and_counted(folder):
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    pictures = read_pictures(folder, read_card(prepare_model(yolov8())))
    assert (len(pictures.canvases), pictures.damaged) == (6, 1)


def test_of_very_many_pictures_some_are_taken_from_all_over(tmp_path):
    data = cv2.imencode(".bmp", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    for number in range(MOST + 50):
        (tmp_path / f"{number:04}.bmp").write_bytes(data if number > 20 else b"damaged")
    pictures = read_pictures(tmp_path, read_card(prepare_model(yolov8())))
    assert len(pictures.canvases) + pictures.damaged == MOST
    assert pictures.damaged < 21


def test_pictures_are_upright_rgb_and_where_the_card_says(tmp_path):
    picture = np.zeros((40, 20, 3), np.uint8)
    picture[:, :, 2] = 200
    cv2.imwrite(str(tmp_path / "red.png"), picture)
    center, corner = (read_card(prepare_model(model)) for model in (yolov8(), yolox()))
    (canvas,) = read_pictures(tmp_path, center).canvases
    assert canvas[0, 0].tolist() == canvas[63, 63].tolist() == [114] * 3
    assert canvas[0, 16].tolist() == canvas[63, 47].tolist() == [200, 0, 0]
    (canvas,) = read_pictures(tmp_path, corner).canvases
    assert canvas[0, 0].tolist() == canvas[63, 31].tolist() == [200, 0, 0]
    assert canvas[0, 32].tolist() == [114] * 3


def test_the_canvas_is_the_transformers():
    letterbox = pytest.importorskip("yolo_transformer.letterbox")
    random = np.random.default_rng(2)
    for model, placement in ((yolov8(), "center"), (yolox(), "top-left")):
        card = read_card(prepare_model(model))
        for height, width in ((90, 31), (64, 64), (17, 200), (1, 300)):
            picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            canvas = np.empty((*card.size, 3), np.uint8)
            placed = letterbox.plan(height, width, *card.size, letterbox.Placement(placement))
            letterbox.letterbox_into(picture, canvas, placed)
            np.testing.assert_array_equal(fit(picture, card), canvas)


def run(*arguments):
    return command.main([str(argument) for argument in arguments])


def test_the_command_places_the_model_its_report_and_a_table(folder, tmp_path, capsys):
    file = tmp_path / "net.onnx"
    file.write_bytes(TINY["yolov8"].SerializeToString())
    wanted = ("--quantise", "int8", "--calibrate", folder, "--max-loss", 1)
    assert run("prepare", file, tmp_path / "out", *wanted) == 0
    table = capsys.readouterr().out
    assert "3 pictures, others" in table
    report = json.loads((tmp_path / "out" / "model.quantisation.json").read_text())
    assert report["kind"] == "int8"
    assert f"{report['loss']:.4f}" in table
    assert TensorProto.INT8 in weights(onnx.load(tmp_path / "out" / "model.onnx"))


def test_the_command_places_nothing_over_the_limit(folder, tmp_path, capsys):
    file = tmp_path / "net.onnx"
    file.write_bytes(TINY["yolov8"].SerializeToString())
    assert run("prepare", file, tmp_path / "out", "--quantise", "int8", "--calibrate", folder, "--max-loss", 0) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing was placed" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("half", [("--quantise", "fp16"), ("--calibrate", ".")])
def test_quantising_and_pictures_go_together(tmp_path, capsys, half):
    with pytest.raises(SystemExit):
        run("prepare", tmp_path / "net.onnx", tmp_path / "out", *half)
    assert "go together" in capsys.readouterr().err


@pytest.mark.parametrize("absent", ["onnxruntime", "cv2"])
def test_without_the_extra_one_line_says_what_to_install(absent, folder, tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(TINY["yolov8"].SerializeToString())
    code = f"import sys; sys.modules[{absent!r}] = None; from weights_sync.__main__ import main; sys.exit(main())"
    arguments = ["prepare", str(file), str(tmp_path / "out")]
    plain = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        [*plain, "--quantise", "fp16", "--calibrate", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "install weights-sync with its extra, weights-sync[quantise]" in done.stderr
    assert subprocess.run(plain, capture_output=True, check=False).returncode == 0
