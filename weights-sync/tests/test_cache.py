"""The cache of a node, over real files and real processes that race and are killed."""

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync.cache import Cache
from weights_sync.catalogue import Site
from weights_sync.limits import Limits
from weights_sync.order import Order
from weights_sync.pull import pull, pull_as_it_is
from weights_sync.web import download

DATA = yolov8().SerializeToString()
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """Serve DATA, slowly where that is asked for, and count."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked[self.path] += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA[:1000])
            time.sleep(self.server.pause_s)
            self.wfile.write(DATA[1000:])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.pause_s = Counter(), 0
    server.uri = f"http://127.0.0.1:{server.server_port}/net.onnx#sha256={DIGEST}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(tmp_path):
    return Site(cache=Cache(tmp_path / "cache"))


def blob(site, digest=DIGEST):
    return site.cache.directory / "blobs" / digest


def pulled(server, directory, *options):
    return [sys.executable, "-m", "weights_sync", "pull", server.uri, str(directory), *options]


def test_a_second_pod_gets_the_same_file_without_a_request(server, site, tmp_path):
    for name in "abc":
        assert pull_as_it_is(server.uri, tmp_path / name, site=site) == DIGEST
    assert server.asked.total() == 1
    assert (tmp_path / "a" / "model.onnx").samefile(tmp_path / "c" / "model.onnx")
    assert (tmp_path / "c" / "model.onnx").read_bytes() == DATA


def test_what_was_prepared_once_is_not_prepared_again(server, site, tmp_path, monkeypatch):
    first = pull(server.uri, tmp_path / "a", site=site)
    monkeypatch.setattr("weights_sync.make.make", None)
    assert pull(server.uri, tmp_path / "b", site=site) == first
    assert (tmp_path / "a" / "model.onnx").samefile(tmp_path / "b" / "model.onnx")
    monkeypatch.undo()
    assert pull(server.uri, tmp_path / "c", site=site, order=Order(candidates=5)).digest == first.digest
    assert not (tmp_path / "a" / "model.onnx").samefile(tmp_path / "c" / "model.onnx")
    assert server.asked.total() == 1


def test_two_processes_fetch_and_prepare_once(server, tmp_path):
    server.pause_s = 2
    commands = [pulled(server, tmp_path / name, "--cache", str(tmp_path / "cache")) for name in "ab"]
    processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert server.asked.total() == 1
    assert (tmp_path / "a" / "model.onnx").samefile(tmp_path / "b" / "model.onnx")


def test_a_process_that_is_killed_at_work_leaves_the_cache_to_the_next(server, site, tmp_path):
    server.pause_s = 60
    with subprocess.Popen(pulled(server, tmp_path / "a", "--cache", str(site.cache.directory))) as process:
        while not any(part.stat().st_size for part in tmp_path.rglob("*.part")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    server.pause_s = 0
    assert not blob(site).exists()
    pull(server.uri, tmp_path / "b", site=site, limits=Limits(deadline_s=60))
    assert hashlib.sha256(blob(site).read_bytes()).hexdigest() == DIGEST


def test_a_damaged_entry_is_noticed_and_fetched_anew(server, site, tmp_path):
    pull_as_it_is(server.uri, tmp_path / "a", site=site)
    blob(site).unlink()
    blob(site).write_bytes(DATA[:-1] + b"?")
    assert pull_as_it_is(server.uri, tmp_path / "b", site=site) == DIGEST
    assert (tmp_path / "b" / "model.onnx").read_bytes() == DATA
    assert server.asked.total() == 2
    assert blob(site).read_bytes() == DATA


def test_a_note_about_what_is_gone_or_damaged_is_passed_over(server, site, tmp_path):
    pull(server.uri, tmp_path / "a", site=site)
    for entry in (site.cache.directory / "blobs").iterdir():
        entry.unlink()
    pull(server.uri, tmp_path / "b", site=site)
    for note in (site.cache.directory / "made").iterdir():
        note.write_text("[")
    pull(server.uri, tmp_path / "c", site=site)
    assert server.asked.total() == 2
    assert (tmp_path / "c" / "model.onnx").read_bytes() == (tmp_path / "a" / "model.onnx").read_bytes()


def test_where_there_is_no_room_the_least_recently_used_goes(tmp_path):
    cache = Cache(tmp_path / "cache", max_bytes=250)
    digests = []
    for text in "abc":
        file = tmp_path / text
        file.write_text(text * 100)
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
        cache.add(file, digests[-1])
        time.sleep(0.01)
        if text == "b":
            assert cache.take(digests[0], tmp_path, Limits())
            time.sleep(0.01)
    assert [bool(cache.take(digest, tmp_path, Limits())) for digest in digests] == [True, False, True]
    (tmp_path / "big").write_text("x" * 300)
    cache.add(tmp_path / "big", "0" * 64)
    assert cache.take("0" * 64, tmp_path, Limits()) is None
    assert [bool(cache.take(digest, tmp_path, Limits())) for digest in digests] == [True, False, True]


def test_an_entry_that_is_pushed_out_stays_with_who_serves_it(server, tmp_path):
    site = Site(cache=Cache(tmp_path / "cache", max_bytes=len(DATA)))
    pull_as_it_is(server.uri, tmp_path / "a", site=site)
    (tmp_path / "other").write_bytes(b"x" * len(DATA))
    other = hashlib.sha256(b"x" * len(DATA)).hexdigest()
    site.cache.add(tmp_path / "other", other)
    assert not blob(site).exists()
    assert (tmp_path / "a" / "model.onnx").read_bytes() == DATA


def test_a_cache_on_another_file_system_gives_copies(server, site, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("weights_sync.place.os.link", refuse)
    for name in "ab":
        assert pull_as_it_is(server.uri, tmp_path / name, site=site) == DIGEST
    assert server.asked.total() == 1
    assert not (tmp_path / "b" / "model.onnx").samefile(blob(site))
    assert (tmp_path / "b" / "model.onnx").read_bytes() == DATA


def test_a_model_that_changes_does_not_change_in_the_cache(server, site, tmp_path):
    """What a broken pull left of a file that the cache holds too is not written over."""
    pull_as_it_is(server.uri, tmp_path / "a", site=site)
    part = tmp_path / "b.part"
    part.hardlink_to(blob(site))
    download(server.uri.partition("#")[0], part, Limits())
    assert not part.samefile(blob(site))
    assert blob(site).read_bytes() == DATA


def test_the_command_and_the_environment_name_the_cache(server, tmp_path, monkeypatch, capsys):
    assert command.main(["pull", server.uri, str(tmp_path / "a"), "--cache", str(tmp_path / "one")]) == 0
    assert list((tmp_path / "one" / "blobs").iterdir())
    monkeypatch.setenv("WEIGHTS_SYNC_CACHE", str(tmp_path / "two"))
    assert command.main(["pull", server.uri, str(tmp_path / "b"), "--cache-bytes", "10"]) == 0
    assert not list((tmp_path / "two" / "blobs").iterdir())
    monkeypatch.setenv("WEIGHTS_SYNC_CACHE_BYTES", "many")
    with pytest.raises(SystemExit):
        command.main(["pull", server.uri, str(tmp_path / "b")])
    assert "argument --cache-bytes: invalid int value: 'many'" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    capsys.readouterr()
    monkeypatch.delenv("WEIGHTS_SYNC_CACHE_BYTES")
    assert command.main(["pull", server.uri, str(tmp_path / "c"), "--cache", str(tmp_path / "file")]) == 1
    assert "can not write" in capsys.readouterr().err


def test_a_file_of_this_machine_stays_its_owners(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"one")
    file.chmod(0o600)
    uri = f"{file}#sha256={hashlib.sha256(b'one').hexdigest()}"
    for name in "ab":
        assert command.main(["pull", uri, str(tmp_path / name), "--cache", str(tmp_path / "cache"), "--as-it-is"]) == 0
    assert (file.stat().st_mode & 0o777, file.stat().st_nlink) == (0o600, 1)
    file.write_bytes(b"two")
    assert [(tmp_path / name / "model.onnx").read_bytes() for name in "ab"] == [b"one", b"one"]
