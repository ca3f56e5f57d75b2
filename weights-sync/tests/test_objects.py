"""Objects from a real S3 server, a process of its own on loopback."""

import hashlib
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from weights_sync import objects, retry
from weights_sync.errors import DigestError, SourceError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.pull import pull_as_it_is

pytest.importorskip("moto", reason="the S3 server of these tests is moto")
obstore = pytest.importorskip("obstore")

DATA = bytes(range(256)) * 12000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def address():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while True:
        with closing(socket.socket()) as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                break
        assert server.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def bucket(address, monkeypatch):
    """Return a way to put bytes under a key of the bucket `models`."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_REGION": "us-east-1",
        "S3_ENDPOINT": address.partition("//")[2],
        "S3_USE_HTTPS": "0",
    }.items():
        monkeypatch.setenv(name, value)
    # A bucket is made by putting its name, which the store has no call for.
    site = obstore.store.HTTPStore.from_url(address, client_options={"allow_http": True})
    site.put("models", b"")
    store = obstore.store.S3Store("models", endpoint=address, client_options={"allow_http": True})
    return store.put


def test_an_object_is_fetched_and_not_again_while_it_is_the_same(bucket, tmp_path):
    bucket("yolo/net.onnx", DATA)
    assert pull_as_it_is("s3://models/yolo/net.onnx", tmp_path) == DIGEST
    before = (tmp_path / "model.onnx").stat().st_ino
    assert pull_as_it_is("s3://models/yolo/net.onnx", tmp_path) == DIGEST
    assert (tmp_path / "model.onnx").stat().st_ino == before
    bucket("yolo/net.onnx", DATA[::-1])
    assert pull_as_it_is("s3://models/yolo/net.onnx", tmp_path) != DIGEST
    assert (tmp_path / "model.onnx").read_bytes() == DATA[::-1]


def test_an_object_that_was_cut_goes_on_where_it_was(bucket, tmp_path, monkeypatch):
    bucket("yolo/net.onnx", DATA)
    whole, offsets = objects._pieces, []

    def cut(result, name):
        offsets.append(result.range[0])
        yield memoryview(bytes(next(whole(result, name))[:1_000_000]))

    monkeypatch.setattr(objects, "_pieces", cut)
    monkeypatch.setattr(objects, "_PIECE", 1 << 20)
    assert pull_as_it_is("s3://models/yolo/net.onnx", tmp_path) == DIGEST
    assert offsets == [0, 1_000_000, 2_000_000, 3_000_000]


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        ("s3://models/none.onnx", SourceError, "there is no s3://models/none.onnx"),
        ("s3://models/", SourceError, "named by its bucket and key"),
        ("s3://models", SourceError, "named by its bucket and key"),
        (f"s3://models/yolo/net.onnx#sha256={'0' * 64}", DigestError, "not 000"),
    ],
)
def test_what_can_not_be_fetched_is_named(bucket, tmp_path, uri, error, reason):
    bucket("yolo/net.onnx", DATA)
    with pytest.raises(error, match=reason):
        pull_as_it_is(uri, tmp_path, limits=Limits(attempts=2))


def test_an_object_over_the_limit_is_refused(bucket, tmp_path):
    bucket("yolo/net.onnx", DATA)
    with pytest.raises(TooLargeError, match=f"has {len(DATA)} bytes"):
        pull_as_it_is("s3://models/yolo/net.onnx", tmp_path, limits=Limits(max_bytes=100))


def test_a_store_that_is_not_there_is_named_after_some_tries(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT", "127.0.0.1:1")
    with pytest.raises(SourceError, match=r"can not download s3://models/yolo/net.onnx"):
        pull_as_it_is("s3://models/yolo/net.onnx", tmp_path, limits=Limits(attempts=2))
