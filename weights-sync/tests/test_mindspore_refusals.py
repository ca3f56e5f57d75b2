"""What MindSpore pairs are refused for, in one line, and what is let pass beside a network's parameters."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from mindspore_pair import NETWORK, Pair, detector

from weights_sync import __main__ as command
from weights_sync.errors import DamagedModelError, SourceError, TooLargeError, UnsupportedModelError, WeightsError
from weights_sync.make import make
from weights_sync.mindspore import read_network
from weights_sync.order import Order
from weights_sync.prepare import is_prepared, read_card

CONFIGS = Path(__file__).parent / "data" / "mindyolo"


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def test_the_pair_itself_is_read(pair):
    model, digest = pair.read()
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["output0"]
    assert len(digest) == 64


def test_another_yaml_is_another_digest(pair):
    assert pair.read()[1] != pair.read(img_size=320)[1]


def test_optimizer_state_and_averages_are_passed_over(pair):
    plain, _ = pair.read()
    extra = {f"moments.{name}": array for name, array in pair.tensors.items()}
    extra |= {f"ema.ema.{name}": array + 1 for name, array in pair.tensors.items()}
    pair.tensors = extra | pair.tensors | {"learning_rate": np.float32(0.1).reshape(()), "epoch_num": np.array([3])}
    crowded, _ = pair.read()
    assert crowded == plain


def test_half_precision_is_widened(pair):
    pair.tensors = {name: array.astype(np.float16) for name, array in pair.tensors.items()}
    model, _ = pair.read()
    assert {tensor.data_type for tensor in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_anchors_and_strides_that_were_trained_win(pair):
    before, _ = pair.read()
    grid = np.array(NETWORK["anchors"], np.float32).reshape(2, 1, 2, 1, 1, 2)
    pair.tensors |= {"model.model.2.anchor_grid": grid, "model.model.2.anchors": grid.reshape(2, 2, 2)}
    assert pair.read()[0] == before
    pair.tensors["model.model.2.anchor_grid"] = grid + 1
    assert pair.read()[0] != before
    pair.tensors["model.model.2.stride"] = np.array([8, 16, 32], np.int32)
    pair.refused("2 inputs and 3 strides")


def test_differing_parameters_are_named_the_first_few(pair):
    del pair.tensors["model.model.0.bn.beta"]
    pair.tensors["model.model.1.conv.weight"] = np.zeros((16, 8, 3, 3), np.float32)
    pair.tensors |= {f"model.model.7.part{number}": np.zeros(1, np.float32) for number in range(5)}
    pair.refused(
        r"do not fit net.yaml: it lacks 1, model.model.0.bn.beta; of other shapes are 1, model.model.1.conv.weight is"
        r" \[16, 8, 3, 3\], not \[16, 8, 2, 2\]; no row of the YAML has 5, model.model.7.part0, .*part2, …$"
    )


def test_names_of_others_are_refused(pair):
    pair.tensors = {"conv1.weight\n": np.zeros(1, np.float32), "fc.bias": np.zeros(1, np.float32)}
    pair.refused(r"no MindYOLO network: its 2 parameters are conv1.weight\\n, fc.bias, none of a numbered layer")


def test_the_lenet_checkpoint_is_refused_as_a_detector(assets, capsys, tmp_path):
    file = assets / "mindspore" / "lenet_real_nolzhou.ckpt"
    for rest in ([], ["--config", str(CONFIGS / "yolov5s.yaml")]):
        assert command.main(["prepare", str(file), str(tmp_path / "out"), *rest]) == 1
        line = capsys.readouterr().err
        assert "holds no MindYOLO network: its 18 parameters are conv1.weight, conv2.weight, fc1.weight, …" in line
        assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"backbone": [[-1, 1, "Mystery", [8]], *NETWORK["backbone"][1:]]},
            r"row 0 \(Mystery\).* there are Bottleneck",
        ),
        ({"backbone": [[-1, 1, "C3", [8, 1, 1, 1, 1, 1]]]}, r"row 0 \(C3\) of net.yaml"),
        ({"backbone": [[-3, 1, "ConvNormAct", [8]]]}, "it reads row"),
        ({"backbone": [[-1, 1, "ConvNormAct", [8, 8, 8, 0, 1, 1, "nn.Tanh()"]]]}, "activation is none of"),
        ({"backbone": [[-1, 1, "ConvNormAct", [10**9]]]}, "1000000000 channels"),
        ({"backbone": [[-1, 10**6, "ConvNormAct", [8]]]}, "1000000 repeats"),
        ({"backbone": [[-1, 1, "ConvNormAct"]]}, "no MindYOLO network"),
        ({"backbone": [[-1, 1, ["C3"], [8]]]}, "it holds list where a text belongs"),
        ({"backbone": 3}, "no MindYOLO network"),
        ({"head": []}, "rows of backbone and head"),
        (
            {"head": [[[0, 1], 1, "YOLOXHead", ["nc"]]]},
            "'YOLOXHead', which is no head known here: there are YOLOv3Head",
        ),
        ({"head": [[[0, 1], 1, "YOLOv5Head", []]]}, r"the head \(YOLOv5Head\)"),
        ({"head": [[[0], 1, "YOLOv5Head", ["nc", "anchors", "stride"]]]}, "1 inputs and 2 strides"),
        ({"anchors": [[1, 2, 3]]}, "anchor sides"),
        ({"width_multiple": 0}, "0.0 is no positive number"),
    ],
)
def test_a_yaml_that_makes_no_sense_is_refused(pair, change, reason):
    pair.network |= change
    pair.refused(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2", "is no YAML"),
        ("just text", "holds no keys and values"),
        ("", "holds no keys and values"),
        ("a: 1", "0 rows"),
        ("__BASE__: [gone.yaml]\nnetwork: {}", "0 rows"),
        ("__BASE__: [net.yaml]\n", "16 base files"),
        ("network: 3", "int where keys"),
        ("x: " + "y" * (1 << 20), "over 1048576 bytes"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_yaml_that_is_none_is_refused(pair, text, reason):
    pair.read()
    pair.config.write_text(text)
    with pytest.raises(UnsupportedModelError, match=reason):
        read_network(pair.file, pair.config)


LAUGHS = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
MERGES = [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 20)]


@pytest.mark.parametrize(
    "lines",
    [
        ["a0: &a0 [x, x]", *LAUGHS, "names: *a19"],
        ["a0: &a0 [x, x]", *LAUGHS, "network: {head: [[-1, 1, C3, *a19]]}"],
        ["a0: &a0 {x: 1}", *MERGES],
        ["network: {head: [[-1, 1, C3, ['k=[&a [x], *a]']]]}"],
        ["names: &a [*a]"],
    ],
)
def test_small_files_that_mean_endless_ones_are_refused_quickly(lines, pair):
    pair.read()
    pair.config.write_text("\n".join(lines))
    with pytest.raises(UnsupportedModelError, match=r"^net.yaml .*: has YAML aliases in it, which are not read$"):
        read_network(pair.file, pair.config)


def test_endless_settings_are_refused_in_a_base_file_too(pair):
    pair.read(__BASE__=["base.yaml"])
    pair.config.with_name("base.yaml").write_text("a: &a {x: 1}\nnc: *a\n")
    with pytest.raises(UnsupportedModelError, match="aliases"):
        read_network(pair.file, pair.config)


def test_missing_files_are_named_without_their_folder(pair):
    with pytest.raises(SourceError, match=r"^can not read net.ckpt: No such file"):
        read_network(pair.file, pair.config)
    pair.read()
    with pytest.raises(SourceError, match=r"^can not read none.yaml: No such file"):
        read_network(pair.file, pair.file.with_name("none.yaml"))


def test_a_checkpoint_over_the_limit_is_refused_before_it_is_read(pair):
    pair.read()
    with pytest.raises(TooLargeError, match="the limit is 100"):
        read_network(pair.file, pair.config, 100)


def test_the_yaml_beside_a_checkpoint_is_taken(pair, tmp_path, capsys):
    detector(pair)
    pair.read()
    assert command.main(["prepare", str(pair.file), str(tmp_path / "out")]) == 0
    assert is_prepared(onnx.load(tmp_path / "out" / "model.onnx"))
    pair.config.unlink()
    assert command.main(["prepare", str(pair.file), str(tmp_path / "out2")]) == 1
    assert "say with --config which YAML net.ckpt has" in capsys.readouterr().err


def test_labels_of_the_yaml_reach_the_card(pair):
    detector(pair)
    pair.read(data={"names": ["cat", "dog"], "nc": 2}, img_size=[320, 320])
    card = read_card(make(pair.file, Order(config=pair.config)).model)
    assert (card.labels, card.size, card.family) == (("cat", "dog"), (320, 320), "yolov5")


def test_damaged_pairs_raise_nothing_but_our_errors(pair):
    pair.read()
    data, text, chance = pair.file.read_bytes(), pair.config.read_bytes(), random.Random(11)
    refused = []
    for _ in range(200):
        spoilt = [bytearray(data), bytearray(text)]
        victim = spoilt[chance.randrange(2)]
        for _ in range(chance.randint(1, 3)):
            victim[chance.randrange(len(victim))] = chance.randrange(256)
        pair.file.write_bytes(spoilt[0])
        pair.config.write_bytes(spoilt[1])
        try:
            read_network(pair.file, pair.config)
        except WeightsError as error:
            refused.append(str(error))
    assert len(refused) > 60
    assert not [reason for reason in refused if "\n" in reason]


def test_a_damaged_checkpoint_is_named(pair):
    pair.read()
    pair.file.write_bytes(pair.file.read_bytes()[:-3])
    with pytest.raises(DamagedModelError, match="cut short"):
        read_network(pair.file, pair.config)
