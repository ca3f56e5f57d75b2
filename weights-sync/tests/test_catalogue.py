"""A site's own models and mirror."""

import hashlib

import pytest
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync.catalogue import Entry, Site, catalogue, find
from weights_sync.errors import CatalogueError

DATA = yolov8().SerializeToString()
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_a_site_adds_models_and_replaces_those_of_the_package(tmp_path, capsys):
    file = tmp_path / "site.yaml"
    file.write_text(f"ours:\n  sources: [net.onnx]\n  sha256: {DIGEST}\nshapes:\n  sources: [file:///other.onnx]\n")
    (tmp_path / "net.onnx").write_bytes(DATA)
    assert command.main(["pull", "yolo://ours", str(tmp_path / "a"), "--catalogue", str(file)]) == 0
    assert DIGEST in capsys.readouterr().out
    assert find("shapes", Site(catalogue=str(file))).sources == ("file:///other.onnx",)
    assert command.main(["list", "--catalogue", str(file)]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["name", "ours", "shapes", "yolox-nano"]


def test_the_mirror_is_asked_first_and_the_source_after_it(tmp_path, monkeypatch, capsys):
    mirrored = tmp_path / "mirror" / "weights.invalid" / "x" / "net.onnx"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(DATA)
    entry = Entry("far", ("https://weights.invalid/x/net.onnx",), sha256=DIGEST)
    monkeypatch.setitem(catalogue(), "far", entry)
    monkeypatch.setenv("WEIGHTS_SYNC_MIRROR", (tmp_path / "mirror").as_uri())
    assert command.main(["pull", "yolo://far", str(tmp_path / "a")]) == 0
    assert DIGEST in capsys.readouterr().out
    assert Site(mirror="s3://ours/models/").sources(entry) == (
        "s3://ours/models/weights.invalid/x/net.onnx",
        "https://weights.invalid/x/net.onnx",
    )


def test_a_mirror_that_gives_other_bytes_is_passed_over(tmp_path, monkeypatch):
    mirrored = tmp_path / "mirror" / "weights.invalid" / "net.onnx"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"other")
    (tmp_path / "net.onnx").write_bytes(DATA)
    sources = ("https://weights.invalid/net.onnx", str(tmp_path / "net.onnx"))
    monkeypatch.setitem(catalogue(), "far", Entry("far", sources, sha256=DIGEST))
    arguments = ["pull", "yolo://far", str(tmp_path / "a"), "--mirror", str(tmp_path / "mirror"), "--attempts", "1"]
    assert command.main(arguments) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a]", "must map names to models"),
        ("a: {", "is no YAML"),
        ("a: 3", "needs `sources`"),
        ("a: {sources: []}", "needs `sources`"),
        ("a: {sources: [yolo://b]}", "not another name"),
        ("a: {sources: [x], sha265: 1}", "there is no 'sha265'"),
        ("a: {sources: [x], bytes: many}", "bytes must be of type int"),
    ],
)
def test_a_catalogue_that_is_none_says_why(tmp_path, text, reason):
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=reason):
        catalogue(Site(catalogue=str(file)))
    with pytest.raises(CatalogueError, match="can not read"):
        catalogue(Site(catalogue=str(tmp_path / "none.yaml")))
