"""Placing, going back and locking, over real files and real processes that are killed."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from weights_sync.errors import BusyError, NoSpaceError, NoVersionError, SourceError
from weights_sync.place import digest_of, written
from weights_sync.versions import Record, Versions

# Serves the bytes of argument 2 in the directory of argument 1, and dies at the audited step of argument 3.
WRITER = """
import hashlib, os, signal, sys
from pathlib import Path
from weights_sync.versions import Record, Versions
versions, data, last = Versions(Path(sys.argv[1])), sys.argv[2].encode() * 50000, int(sys.argv[3])
steps = 0
def step(event, _):
    global steps
    if event == "open" or event.startswith(("os.", "shutil.")):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
with versions.lock(5):
    versions.incoming.joinpath("new").write_bytes(data)
    versions.serve(versions.incoming / "new", hashlib.sha256(data).hexdigest(), Record(source=sys.argv[2]))
"""
HOLDER = """
import sys, time
from pathlib import Path
from weights_sync.versions import Versions
with Versions(Path(sys.argv[1])).lock(5):
    print("held", flush=True)
    sys.stdin.read()
"""


def serve(directory: Path, text: str) -> None:
    versions = Versions(directory)
    with versions.lock(5):
        file = versions.incoming / "new"
        file.write_text(text)
        versions.serve(file, digest_of(file), Record(source=text, recipe="as it is"))


def rollback(directory: Path) -> None:
    with Versions(directory).lock(5):
        Versions(directory).rollback()


def served(directory: Path) -> str:
    return (directory / "model.onnx").read_text()


def test_the_version_before_comes_back_and_only_that_one_is_kept(tmp_path):
    for text in "abc":
        serve(tmp_path, text)
    assert len(list((tmp_path / ".weights-sync" / "versions").iterdir())) == 2
    rollback(tmp_path)
    assert served(tmp_path) == "b"
    with pytest.raises(NoVersionError):
        rollback(tmp_path)


def test_a_version_that_is_served_twice_does_not_push_out_the_one_before(tmp_path):
    for text in "abb":
        serve(tmp_path, text)
    rollback(tmp_path)
    assert served(tmp_path) == "a"


def test_a_version_that_is_still_there_is_served_without_its_bytes(tmp_path):
    serve(tmp_path, "a")
    serve(tmp_path, "b")
    versions = Versions(tmp_path)
    with versions.lock(5):
        assert versions.serve_again(Record(source="a", recipe="as it is"))
        assert not versions.serve_again(Record(source="a", recipe="another"))
    assert served(tmp_path) == "a"
    rollback(tmp_path)
    assert served(tmp_path) == "b"


def test_a_model_that_came_by_other_hands_can_be_gone_back_to(tmp_path):
    (tmp_path / "model.onnx").write_text("found")
    serve(tmp_path, "a")
    rollback(tmp_path)
    assert served(tmp_path) == "found"


def test_a_reader_that_has_the_old_model_open_keeps_it(tmp_path):
    serve(tmp_path, "a")
    with (tmp_path / "model.onnx").open() as reader:
        serve(tmp_path, "b")
        assert reader.read() == "a"


def test_a_damaged_version_is_never_gone_back_to(tmp_path):
    for text in "ab":
        serve(tmp_path, text)
    (tmp_path / "model.onnx").write_text("damaged")
    assert Versions(tmp_path).served() == Record()
    serve(tmp_path, "c")
    rollback(tmp_path)
    assert served(tmp_path) == "a"
    serve(tmp_path, "c")
    Versions(tmp_path).file(hashlib.sha256(b"a").hexdigest()).write_text("damaged")
    with pytest.raises(NoVersionError, match="not whole"):
        rollback(tmp_path)
    assert served(tmp_path) == "c"


def test_a_volume_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("weights_sync.place.os.link", refuse)
    for text in "ab":
        serve(tmp_path, text)
    assert Versions(tmp_path).served().source == "b"
    rollback(tmp_path)
    assert served(tmp_path) == "a"


def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_model(tmp_path):
    old, new = "old" * 50000, "new" * 50000
    serve(tmp_path, old)
    outcomes = []
    for step in range(1, 1000):
        # From the same start each time: the old model is served, the new one unknown.
        serve(tmp_path, "between")
        serve(tmp_path, old)
        killed = subprocess.run([sys.executable, "-c", WRITER, tmp_path, "new", str(step)], check=False).returncode
        outcomes.append(served(tmp_path))
        assert outcomes[-1] in {old, new}
        if outcomes[-1] == new:
            rollback(tmp_path)
            assert served(tmp_path) == old
        if not killed:
            break
        assert killed == -signal.SIGKILL
    assert outcomes[0] == old
    assert outcomes[-1] == new
    assert len(outcomes) > 20
    serve(tmp_path, "after")
    assert not list(tmp_path.glob(".model*"))
    assert len(list((tmp_path / ".weights-sync" / "versions").iterdir())) == 2


def test_a_second_writer_waits_and_a_dead_one_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="still at work"), Versions(tmp_path).lock(0):
            pass
        holder.kill()
        with Versions(tmp_path).lock(60):
            assert holder.wait() == -signal.SIGKILL


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(NoSpaceError, match="the disk is full"), written(tmp_path):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(SourceError, match="can not write"), written(tmp_path):
        (tmp_path / "none" / "x").write_bytes(b"x")
