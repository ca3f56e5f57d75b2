"""What a YAML beside a model, or named for it, says over the model's own metadata."""

import hashlib
import random
import tarfile
import zipfile

import onnx
import pytest
import yaml
from mindspore_pair import Pair, detector
from tiny_choosers import one_to_one
from tiny_networks import yolov8, yolox

from weights_sync import __main__ as command
from weights_sync.cache import Cache
from weights_sync.catalogue import Site
from weights_sync.errors import SidecarError, SignatureError, SourceError
from weights_sync.make import make
from weights_sync.order import Order
from weights_sync.prepare import read_card
from weights_sync.pull import pull
from weights_sync.sidecar import MAX_BYTES, read_sidecar
from weights_sync.signatures import Signatures

DATA = yolov8(names="{0: 'a', 1: 'b', 2: 'c'}").SerializeToString()
DIGEST = hashlib.sha256(DATA).hexdigest()
ANIMALS = {"names": ["cat", "dog", "cow"]}


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(DATA)
    return file


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    detector(pair)
    pair.read(data={"names": ["cat", "dog"], "nc": 2})
    return pair


def said(file, **fields):
    """Write a sidecar; return its path."""
    file.write_text(yaml.safe_dump(fields))
    return file


def card_of(directory):
    return read_card(onnx.load(directory / "model.onnx"))


def prepared(model, sidecar):
    return read_card(make(model, Order(sidecar=sidecar)).model)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("names: [cat, dog, cow]", ("cat", "dog", "cow")),
        ("labels:\n- cat\n- dog\n- 7\n", ("cat", "dog", "7")),
        ("nc: 3\nnames:\n  2: cow\n  0: cat\n  1: dog\n", ("cat", "dog", "cow")),
        ("{nc: 3}", ("a", "b", "c")),
        ("task: detect", ("a", "b", "c")),
    ],
)
def test_labels_are_those_of_the_sidecar_then_those_of_the_metadata(model, tmp_path, text, labels):
    (tmp_path / "other.yaml").write_text(text)
    assert prepared(model, tmp_path / "other.yaml").labels == labels


def test_stride_size_and_family_are_those_of_the_sidecar(tmp_path):
    file = tmp_path / "net.onnx"
    onnx.save(yolov8(dynamic=True, imgsz="[64, 64]", stride="32"), file)
    card = prepared(file, said(tmp_path / "a.yml", stride=[8, 16, 64], imgsz=[128, 192], family="yolo11"))
    assert (card.stride, card.size, card.family, card.labels) == (
        64,
        (128, 192),
        "yolo11",
        ("class0", "class1", "class2"),
    )
    assert prepared(file, said(tmp_path / "a.yml", size=320)).size == (320, 320)


def test_the_task_of_the_sidecar_overrules_that_of_the_metadata(tmp_path):
    file = tmp_path / "net.onnx"
    onnx.save(yolov8(masks=4, task="segment"), file)
    assert prepared(file, said(tmp_path / "a.yaml", nc=3)).task == "segment"
    onnx.save(yolov8(task="pose"), file)
    assert prepared(file, said(tmp_path / "a.yaml", task="detect")).task == "detect"


def test_a_flag_overrules_the_sidecar(model, tmp_path, capsys):
    sidecar = said(tmp_path / "other.yaml", family="resnet")
    assert command.main(["prepare", str(model), str(tmp_path / "a"), "--sidecar", str(sidecar)]) == 1
    assert "no family 'resnet'" in capsys.readouterr().err
    assert (
        command.main(["prepare", str(model), str(tmp_path / "a"), "--sidecar", str(sidecar), "--family", "yolo11"]) == 0
    )
    assert card_of(tmp_path / "a").family == "yolo11"


def test_the_sidecar_beside_a_model_is_taken_unless_another_is_named(model, tmp_path):
    said(tmp_path / "net.yml", **ANIMALS)
    other = said(tmp_path / "other.yaml", names=["x", "y", "z"])
    assert command.main(["prepare", str(model), str(tmp_path / "a")]) == 0
    assert command.main(["prepare", str(model), str(tmp_path / "b"), "--sidecar", str(other)]) == 0
    assert card_of(tmp_path / "a").labels == ("cat", "dog", "cow")
    assert card_of(tmp_path / "b").labels == ("x", "y", "z")


def test_labels_for_a_head_that_chooses_itself_are_as_many_as_it_chose_from(tmp_path):
    file = tmp_path / "net.onnx"
    onnx.save(one_to_one(), file)
    assert prepared(file, said(tmp_path / "o.yaml", **ANIMALS)).labels == ("cat", "dog", "cow")
    with pytest.raises(SidecarError, match=r"o\.yaml says 2 classes, but the model's head has 3"):
        prepared(file, said(tmp_path / "o.yaml", nc=2))


def test_other_labels_are_another_digest(model, tmp_path):
    plain, named = (make(model, Order(sidecar=file)).model for file in (None, said(tmp_path / "o.yaml", **ANIMALS)))
    assert read_card(plain).digest == f"sha256:{DIGEST}" != read_card(named).digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nmes: [a]", "unknown key 'nmes': did you mean 'names'?"),
        ("network: {}", "unknown key 'network': there are names, nc, task, stride, imgsz, family, labels, size"),
        ("1: 2", "unknown key '1'"),
        ("names: [a]\nlabels: [a]", "two keys for one thing: labels is names"),
        ("names: [a, b]\nnc: 3", "names 2 classes, and its nc is 3"),
        ("names: [a, no]", "class 1 whose name is no text: put it in quotes"),
        ("names: [a, 1.0]", "class 1 whose name is no text"),
        ("names: [a, ~]", "class 1 whose name is no text"),
        ("names: ['']", "class 0 whose name is no text"),
        ("names: {1: a, 2: b}", "not numbered 0, 1, 2"),
        ("names: cat", "names that are no list"),
        ("labels: []", "labels that are no list"),
        ("nc: 0", "nc that is no whole number of 1 to"),
        ("nc: true", "nc that is no whole number"),
        ("task: pose", "a task that is none of detect, segment"),
        ("task: [detect]", "a task that is none of"),
        ("stride: 32.0", "stride that is no whole number"),
        ("stride: []", "stride that is no whole number"),
        ("imgsz: 640x640", "imgsz that is no whole number"),
        ("size: [1, 2, 3]", "size that is no number of pixels"),
        ("imgsz: 10000", "imgsz that is no whole number of 1 to 8192"),
        ("family: 8", "a family that is no text"),
        ("names: [a, b", "is no YAML"),
        ("a: 1\n---\nb: 2", "is no YAML"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("\x00", "is no YAML"),
        ("", "holds no keys and values"),
        ("- names", "holds no keys and values"),
        ("x: &a [1]\nnames: *a", "aliases"),
        ("? [a]\n: 1", "is no YAML"),
        ("names: 2001-99-99", "is no YAML"),
    ],
)
def test_a_sidecar_that_makes_no_sense_is_refused_in_one_line(tmp_path, text, reason):
    file = tmp_path / "net.yaml"
    file.write_text(text)
    with pytest.raises(SidecarError, match=reason) as caught:
        read_sidecar(file)
    assert "net.yaml" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sidecar_that_is_no_text_too_large_or_gone_is_named(tmp_path):
    file = tmp_path / "net.yaml"
    with pytest.raises(SourceError, match=r"^can not read net.yaml: No such file"):
        read_sidecar(file)
    file.write_bytes(b"names: [\xff\xfe]")
    with pytest.raises(SidecarError, match="is no YAML"):
        read_sidecar(file)
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SidecarError, match=f"more than {MAX_BYTES} bytes"):
        read_sidecar(file)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"names": ["a", "b"]}, "other.yaml says 2 classes, but the model's head has 3"),
        ({"nc": 80}, "other.yaml says 80 classes, but the model's head has 3"),
        ({"imgsz": 640}, "other.yaml says pictures of 640x640, and the graph takes those of 64x64"),
        ({"stride": 48}, "64x64 is no multiple of the stride 48"),
    ],
)
def test_a_sidecar_that_does_not_fit_the_graph_is_refused(model, tmp_path, fields, reason):
    with pytest.raises(SidecarError, match=reason):
        prepared(model, said(tmp_path / "other.yaml", **fields))


def test_damaged_sidecars_raise_nothing_but_our_errors(tmp_path):
    whole = said(tmp_path / "net.yaml", names={0: "a", 1: "b"}, task="detect", stride=32, imgsz=[64, 64]).read_bytes()
    chance, refused = random.Random(7), []
    for _ in range(300):
        spoilt = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        (tmp_path / "net.yaml").write_bytes(spoilt)
        try:
            read_sidecar(tmp_path / "net.yaml")
        except SidecarError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not [reason for reason in refused if "\n" in reason]


def test_a_prepared_model_takes_no_sidecar(model, tmp_path):
    onnx.save(make(model, Order()).model, tmp_path / "ready.onnx")
    with pytest.raises(SidecarError, match="prepared already"):
        prepared(tmp_path / "ready.onnx", said(tmp_path / "other.yaml", **ANIMALS))


def test_without_names_eighty_classes_are_those_of_coco(tmp_path):
    file = tmp_path / "net.onnx"
    onnx.save(yolox(classes=80), file)
    assert prepared(file, said(tmp_path / "other.yaml", stride=32)).labels[79] == "toothbrush"


@pytest.fixture
def preparings(monkeypatch):
    """Count the files that are prepared, each of which really is."""
    counted = []

    def counting(source, *rest):
        counted.append(source)
        return make(source, *rest)

    monkeypatch.setattr("weights_sync.make.make", counting)
    return counted


@pytest.mark.parametrize("pinned", [True, False])
def test_a_pull_takes_the_sidecar_beside_and_its_changes(model, tmp_path, preparings, pinned):
    uri = f"{model.as_uri()}#sha256={DIGEST}" if pinned else model.as_uri()
    assert pull(uri, tmp_path / "a").labels == ("a", "b", "c")
    said(tmp_path / "net.yaml", **ANIMALS)
    assert pull(uri, tmp_path / "a").labels == ("cat", "dog", "cow")
    count = len(preparings)
    assert pull(uri, tmp_path / "a").labels == ("cat", "dog", "cow")
    assert len(preparings) == count + (not pinned)
    said(tmp_path / "net.yaml", names=["x", "y", "z"])
    assert pull(uri, tmp_path / "a").labels == ("x", "y", "z")


def test_a_named_sidecar_counts_by_its_bytes_and_not_by_its_place(model, tmp_path, preparings):
    uri = f"{model}#sha256={DIGEST}"
    first, second = said(tmp_path / "x.yaml", **ANIMALS), said(tmp_path / "y.yaml", **ANIMALS)
    for file in (first, first, second):
        assert pull(uri, tmp_path / "a", order=Order(sidecar=file)).labels == ("cat", "dog", "cow")
    assert len(preparings) == 1
    said(second, names=["x", "y", "z"])
    assert pull(uri, tmp_path / "a", order=Order(sidecar=second)).labels == ("x", "y", "z")
    assert len(preparings) == 2


def zipped(file, *members):
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.write(member, f"yolo/{member.name}")
    return file


def tarred(file, *members):
    with tarfile.open(file, "w:gz") as archive:
        for member in members:
            archive.add(member, f"yolo/{member.name}")
    return file


@pytest.mark.parametrize(("pack", "name"), [(zipped, "it.zip"), (tarred, "it.tgz")])
def test_the_sidecar_in_an_archive_comes_with_its_model(model, tmp_path, pack, name):
    archive = pack(tmp_path / name, model, said(tmp_path / "net.yaml", **ANIMALS))
    assert pull(str(archive), tmp_path / "a").labels == ("cat", "dog", "cow")
    named = said(tmp_path / "other.yaml", names=["x", "y", "z"])
    assert pull(str(archive), tmp_path / "a", order=Order(sidecar=named)).labels == ("x", "y", "z")


def test_a_yaml_that_nobody_signed_is_not_taken_where_signatures_are_wanted(model, tmp_path):
    key = tmp_path / "key.pub"
    key.write_bytes(b"some key")
    said(tmp_path / "net.yaml", **ANIMALS)
    with pytest.raises(SignatureError, match=r"nobody signed net.yaml beside the model: name it with --sidecar"):
        pull(str(model), tmp_path / "a", site=Site(signatures=Signatures(key=str(key))))


def test_as_it_is_and_a_sidecar_do_not_go_together(model, tmp_path, capsys):
    sidecar = said(tmp_path / "other.yaml", **ANIMALS)
    arguments = ["pull", str(model), str(tmp_path / "a"), "--as-it-is", "--sidecar", str(sidecar)]
    assert command.main(arguments) == 1
    assert "no server reads --sidecar" in capsys.readouterr().err


def test_the_environment_names_a_sidecar_too(model, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_SYNC_SIDECAR", str(said(tmp_path / "other.yaml", **ANIMALS)))
    assert command.main([model.as_uri(), str(tmp_path / "a")]) == 0
    assert card_of(tmp_path / "a").labels == ("cat", "dog", "cow")


def test_a_checkpoint_is_pulled_with_the_yaml_beside_it_and_prepared_once(pair, tmp_path, preparings):
    uri = f"{pair.file.as_uri()}#sha256={hashlib.sha256(pair.file.read_bytes()).hexdigest()}"
    for _ in range(2):
        assert pull(uri, tmp_path / "a").labels == ("cat", "dog")
    assert len(preparings) == 1
    pair.read(data={"names": ["x", "y"], "nc": 2})
    assert pull(uri, tmp_path / "a").labels == ("x", "y")


@pytest.mark.parametrize("cached", [True, False])
def test_a_checkpoint_is_pulled_with_a_named_yaml_and_prepared_once(pair, tmp_path, preparings, cached):
    uri = f"{pair.file}#sha256={hashlib.sha256(pair.file.read_bytes()).hexdigest()}"
    elsewhere = pair.config.rename(tmp_path / "elsewhere.yaml")
    site = Site(cache=Cache(tmp_path / "cache") if cached else None)
    for _ in range(2):
        assert pull(uri, tmp_path / "a", order=Order(config=elsewhere), site=site).labels == ("cat", "dog")
        elsewhere = elsewhere.rename(tmp_path / "moved.yaml")
    assert len(preparings) == 1
    elsewhere.write_text(elsewhere.read_text().replace("cat", "cow"))
    assert pull(uri, tmp_path / "a", order=Order(config=elsewhere), site=site).labels == ("cow", "dog")


def test_the_yaml_that_a_checkpoints_yaml_is_based_on_counts_too(pair, tmp_path, preparings):
    base = pair.config.rename(tmp_path / "base.yaml")
    pair.config.write_text("__BASE__: [base.yaml]\nimg_size: 64\n")
    uri = f"{pair.file}#sha256={hashlib.sha256(pair.file.read_bytes()).hexdigest()}"
    assert pull(uri, tmp_path / "a").labels == ("cat", "dog")
    base.write_text(base.read_text().replace("cat", "cow"))
    assert pull(uri, tmp_path / "a").labels == ("cow", "dog")
    assert len(preparings) == 2


@pytest.mark.parametrize(("pack", "name"), [(zipped, "it.zip"), (tarred, "it.tgz")])
def test_a_checkpoint_comes_in_an_archive_with_its_yaml(pair, tmp_path, capsys, pack, name):
    archive = pack(tmp_path / name, pair.file, pair.config)
    assert command.main(["pull", str(archive), str(tmp_path / "a")]) == 0
    assert card_of(tmp_path / "a").labels == ("cat", "dog")
    capsys.readouterr()
    assert command.main(["pull", str(archive), str(tmp_path / "b"), "--as-it-is"]) == 1
    assert "no server prepares a checkpoint" in capsys.readouterr().err


def test_a_sidecar_names_the_classes_of_a_checkpoint_too(pair, tmp_path):
    order = Order(sidecar=said(tmp_path / "other.yaml", names=["x", "y"]))
    assert pull(str(pair.file), tmp_path / "a", order=order).labels == ("x", "y")
