"""Objects from real servers on loopback: moto for s3, fake-gcs-server for gs, Azurite for az."""

import base64
import hashlib
import hmac
import json
import sys
import urllib.request
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import urlsplit

import pytest
from servers import free_port, installed, running

from weights_sync import objects, retry
from weights_sync.catalogue import Site
from weights_sync.errors import DigestError, SourceError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.pull import pull_as_it_is
from weights_sync.watch.sighting import sight

pytest.importorskip("moto", reason="the S3 server of these tests is moto")
obstore = pytest.importorskip("obstore")

# A server may have to be built first.
pytestmark = pytest.mark.timeout(1800)

DATA = bytes(range(256)) * 12000
DIGEST = hashlib.sha256(DATA).hexdigest()
ACCOUNT = "devstoreaccount1"
# Azurite's, as its documents have it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
HTTP = {"allow_http": True}


@dataclass(frozen=True)
class Bucket:
    """A bucket `models` of a server."""

    uri: str
    put: object
    environment: dict
    elsewhere: dict
    """Variables that name a server which is not there."""


@pytest.fixture(scope="module")
def s3():
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        address = f"http://127.0.0.1:{port}"
        # A bucket is made by putting its name, which the store has no call for.
        ask("PUT", f"{address}/models")
        keys = {"access_key_id": "id", "secret_access_key": "key", "region": "us-east-1"}
        store = obstore.store.S3Store("models", endpoint=address, client_options=HTTP, **keys)
        environment = {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_REGION": "us-east-1",
            "S3_ENDPOINT": f"127.0.0.1:{port}",
            "S3_USE_HTTPS": "0",
        }
        yield Bucket("s3://models/", store.put, environment, {"S3_ENDPOINT": "127.0.0.1:1"})


@pytest.fixture(scope="module")
def gs(tmp_path_factory):
    program = installed([["go", "install", "github.com/fsouza/fake-gcs-server@v1.56.1"]]) / "fake-gcs-server"
    port = free_port()
    at = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with running([program, *at, "-backend", "memory"], port):
        address = f"http://127.0.0.1:{port}"
        ask("POST", f"{address}/storage/v1/b", json.dumps({"name": "models"}).encode(), "application/json")

        def put(key, data):
            ask("POST", f"{address}/upload/storage/v1/b/models/o?uploadType=media&name={key}", data)

        yield Bucket("gs://models/", put, {"STORAGE_EMULATOR_HOST": address}, {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"})


@pytest.fixture(scope="module")
def az(tmp_path_factory):
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
    folder = installed([["node", "--version"], ["npm", "install", *options, "azurite@3.37.0"]])
    port = free_port()
    server = folder / "node_modules/azurite/dist/src/blob/main.js"
    place = tmp_path_factory.mktemp("azurite")
    quiet = ["--silent", "--skipApiVersionCheck", "--location", place]
    with running(["node", server, "--blobHost", "127.0.0.1", "--blobPort", str(port), *quiet], port):
        address = f"http://127.0.0.1:{port}/{ACCOUNT}"
        make_container(address, "models")
        store = obstore.store.AzureStore(
            "models", account_name=ACCOUNT, account_key=KEY, endpoint=address, client_options=HTTP
        )
        connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint="
        yield Bucket(
            "az://models/",
            store.put,
            {"AZURE_STORAGE_CONNECTION_STRING": f"{connection}{address};"},
            {"AZURE_STORAGE_CONNECTION_STRING": f"{connection}http://127.0.0.1:1/{ACCOUNT};"},
        )


def ask(method, url, data=b"", kind="application/octet-stream", **headers):
    request = urllib.request.Request(url, data, {"Content-Type": kind, **headers}, method=method)  # noqa: S310 - of here
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return answer.read()


def make_container(address, name):
    """Make a container, signed as Azure's shared key authorisation has it, for the store has no call for it."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    stated = "\n".join(f"{key}:{value}" for key, value in headers.items())
    kind = "application/octet-stream"
    text = f"PUT\n\n\n\n\n{kind}\n\n\n\n\n\n\n{stated}\n/{ACCOUNT}{urlsplit(address).path}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    ask("PUT", f"{address}/{name}?restype=container", None, kind, **headers)


@pytest.fixture(params=["s3", "gs", "az"])
def bucket(request, monkeypatch, tmp_path):
    found = request.getfixturevalue(request.param)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


def test_an_object_is_fetched_and_not_again_while_it_is_the_same(bucket, tmp_path):
    bucket.put("yolo/net.onnx", DATA)
    assert pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path) == DIGEST
    before = (tmp_path / "model.onnx").stat().st_ino
    assert pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path) == DIGEST
    assert (tmp_path / "model.onnx").stat().st_ino == before
    bucket.put("yolo/net.onnx", DATA[::-1])
    assert pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path) != DIGEST
    assert (tmp_path / "model.onnx").read_bytes() == DATA[::-1]


def test_an_object_that_was_cut_goes_on_where_it_was(bucket, tmp_path, monkeypatch):
    bucket.put("yolo/net.onnx", DATA)
    whole, offsets = objects._pieces, []

    def cut(result, name):
        offsets.append(result.range[0])
        yield memoryview(bytes(next(whole(result, name))[:1_000_000]))

    monkeypatch.setattr(objects, "_pieces", cut)
    monkeypatch.setattr(objects, "_PIECE", 1 << 20)
    assert pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path) == DIGEST
    assert offsets == [0, 1_000_000, 2_000_000, 3_000_000]


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        ("none.onnx", SourceError, "there is no .*://models/none.onnx"),
        ("", SourceError, "named by its bucket and key"),
        (f"yolo/net.onnx#sha256={'0' * 64}", DigestError, "not 000"),
    ],
)
def test_what_can_not_be_fetched_is_named(bucket, tmp_path, uri, error, reason):
    bucket.put("yolo/net.onnx", DATA)
    with pytest.raises(error, match=reason):
        pull_as_it_is(bucket.uri + uri, tmp_path, limits=Limits(attempts=2))


def test_an_object_over_the_limit_is_refused(bucket, tmp_path):
    bucket.put("yolo/net.onnx", DATA)
    with pytest.raises(TooLargeError, match=f"has {len(DATA)} bytes"):
        pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path, limits=Limits(max_bytes=100))


def test_a_store_that_is_not_there_is_named_after_some_tries(bucket, tmp_path, monkeypatch):
    for name, value in bucket.elsewhere.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=f"can not download {bucket.uri}yolo/net.onnx"):
        pull_as_it_is(f"{bucket.uri}yolo/net.onnx", tmp_path, limits=Limits(attempts=2))


def test_an_object_is_seen_to_change_without_its_bytes(bucket):
    uri = f"{bucket.uri}yolo/seen.onnx"
    bucket.put("yolo/seen.onnx", DATA)
    first = sight(uri, Limits(attempts=1), Site()).mark
    assert first
    assert sight(uri, Limits(attempts=1), Site()).mark == first
    bucket.put("yolo/seen.onnx", DATA[::-1])
    assert sight(uri, Limits(attempts=1), Site()).mark != first
    with pytest.raises(SourceError, match="there is no"):
        sight(f"{bucket.uri}yolo/none.onnx", Limits(attempts=1), Site())
