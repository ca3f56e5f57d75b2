"""Archives, those that mean well and those that do not."""

import gzip
import hashlib
import io
import stat
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace

import pytest
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync import limits as limits_module
from weights_sync.archives import unpack
from weights_sync.errors import ArchiveError, DeadlineError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.pull import pull_as_it_is

DATA = yolov8().SerializeToString()


def zipped(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def tarred(file, members):
    with tarfile.open(file, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file


@pytest.mark.parametrize(("pack", "name"), [(zipped, "net.zip"), (tarred, "net.tar.gz"), (tarred, "net.tgz")])
def test_the_model_of_an_archive_is_placed(tmp_path, capsys, pack, name):
    archive = pack(tmp_path / name, {"README": b"hello", "yolo/net.onnx": DATA})
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert command.main(["pull", f"{archive}#sha256={digest}", str(tmp_path / "a")]) == 0
    assert hashlib.sha256(DATA).hexdigest() in capsys.readouterr().out
    archive.unlink()
    assert command.main(["pull", f"{archive}#sha256={digest}", str(tmp_path / "a")]) == 0


def test_the_model_of_an_archive_is_placed_as_it_is(tmp_path):
    archive = zipped(tmp_path / "net.zip", {"other.onnx": b"x", "model.onnx": DATA})
    for _ in range(2):
        pull_as_it_is(str(archive), tmp_path / "a")
        assert (tmp_path / "a" / "model.onnx").read_bytes() == DATA


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../net.onnx", "/srv/net.onnx", "a/../../net.onnx", "..\\net.onnx"])
def test_a_member_outside_the_folder_is_refused(tmp_path, pack, name):
    archive = pack(tmp_path / ("net.zip" if pack is zipped else "net.tgz"), {name: DATA})
    with pytest.raises(ArchiveError, match="reaches out"):
        pull_as_it_is(str(archive), tmp_path / "a")
    assert [path for path in tmp_path.rglob("*net.onnx") if path.is_file()] == []


def test_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("net.onnx")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    zipped(tmp_path / "a.zip", {entry: "/etc/passwd"})
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        link = tarfile.TarInfo("net.onnx")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for name in ("a.zip", "b.tar"):
        with pytest.raises(ArchiveError, match="link or device"):
            pull_as_it_is(str(tmp_path / name), tmp_path / "a")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_does_not_go_off(tmp_path, pack):
    archive = pack(tmp_path / ("net.zip" if pack is zipped else "net.tgz"), {"net.onnx": bytes(5_000_000)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(TooLargeError, match="more than 1000000 bytes"):
        pull_as_it_is(str(archive), tmp_path / "a", limits=Limits(max_bytes=1_000_000))
    many = pack(tmp_path / ("many.zip" if pack is zipped else "many.tgz"), {f"{n}": b"" for n in range(1001)})
    with pytest.raises(TooLargeError, match="1000 files"):
        pull_as_it_is(str(many), tmp_path / "a")


def test_folders_without_end_are_given_up_in_time_and_not_remembered(tmp_path):
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    with gzip.open(tmp_path / "net.tgz", "wb") as archive:
        archive.write(folder.tobuf() * 100_000)
    tracemalloc.start()
    try:
        with pytest.raises((ArchiveError, DeadlineError)):
            pull_as_it_is(str(tmp_path / "net.tgz"), tmp_path / "a", limits=Limits(deadline_s=10))
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_a_member_that_is_passed_over_is_passed_over_in_time(tmp_path):
    huge = tarfile.TarInfo("elsewhere")
    huge.size = 10 << 30
    with gzip.open(tmp_path / "layer.tgz", "wb", compresslevel=1) as archive:
        archive.write(huge.tobuf())
        archive.write(bytes(64 << 20))
    limits = Limits(deadline_s=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module.time, "monotonic", iter(range(100)).__next__)
        with pytest.raises(DeadlineError, match="the unpacking was not done in 1 seconds"):
            unpack(tmp_path / "layer.tgz", tmp_path / "a", replace(limits, started_s=0), under="models")


def test_a_zip_with_a_list_of_files_longer_than_any_models_is_not_read(tmp_path):
    archive = zipped(tmp_path / "net.zip", {"net.onnx": DATA})
    end = archive.read_bytes().rindex(b"PK\x05\x06")
    with archive.open("r+b") as file:
        file.seek(end + 12)
        file.write((1 << 30).to_bytes(4, "little"))
    with pytest.raises(TooLargeError, match="lists more files than any model needs"):
        pull_as_it_is(str(archive), tmp_path / "a")


def test_a_zip_with_a_comment_is_read(tmp_path):
    archive = zipped(tmp_path / "net.zip", {"net.onnx": DATA})
    with zipfile.ZipFile(archive, "a") as file:
        file.comment = b"x" * 60_000
    pull_as_it_is(str(archive), tmp_path / "a")
    assert (tmp_path / "a" / "model.onnx").read_bytes() == DATA


def test_a_member_that_is_larger_than_it_says_is_cut_off(tmp_path):
    archive = zipped(tmp_path / "net.zip", {"net.onnx": bytes(5_000_000)})
    data = archive.read_bytes().replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises((ArchiveError, TooLargeError)):
        pull_as_it_is(str(archive), tmp_path / "a", limits=Limits(max_bytes=1_000_000))


@pytest.mark.parametrize(
    ("members", "reason"), [({"a.onnx": b"", "b.onnx": b""}, "holds 2 models"), ({"README": b""}, "holds no models")]
)
def test_an_archive_without_the_one_model_is_refused(tmp_path, members, reason):
    with pytest.raises(ArchiveError, match=reason):
        pull_as_it_is(str(zipped(tmp_path / "net.zip", members)), tmp_path / "a")


@pytest.mark.parametrize("name", ["net.zip", "net.tar.gz"])
def test_a_damaged_archive_is_named(tmp_path, name):
    whole = (zipped if name == "net.zip" else tarred)(tmp_path / name, {"net.onnx": DATA}).read_bytes()
    for data in (b"no archive at all", whole[: len(whole) // 2], whole[:60] + b"xxxxxxxx" + whole[68:]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArchiveError, match="archive"):
            pull_as_it_is(str(tmp_path / name), tmp_path / "a")
