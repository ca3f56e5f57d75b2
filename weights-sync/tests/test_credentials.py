"""What KServe makes of a service account's secrets, and what servers on loopback are told then."""

import base64
import json
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from certificates import Authority, private_pem
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from weights_sync import retry
from weights_sync.errors import SourceError
from weights_sync.limits import Limits
from weights_sync.pull import pull_as_it_is
from weights_sync.stores import gcs
from weights_sync.stores.azure import azure_config, needs_azure
from weights_sync.stores.gcs import gcs_config
from weights_sync.stores.s3 import s3_config

DATA = b"weights" * 100
CLOUDS = ("AWS_", "S3_", "AZURE_", "AZ_", "GOOGLE_", "STORAGE_", "CA_BUNDLE_", "HF_", "GCE_")


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Nothing of the clouds' in the environment but what the test sets through this."""
    for name in list(os.environ):
        if name.startswith(CLOUDS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    return monkeypatch.setenv


class Recorder(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(200 if not self.path.endswith(".sha256") else 404)
        for name, value in (("Content-Length", len(DATA)), ("ETag", '"1"')):
            self.send_header(name, str(value))
        self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server that gives DATA for everything and writes down what it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.asked = []
    server.address = f"http://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def encrypted(server, tmp_path):
    """Put the server behind a certificate of an authority of its own; return the file of that."""
    authority = Authority()
    (tmp_path / "server.pem").write_bytes(b"".join(authority.signed("localhost")))
    (tmp_path / "cabundle.crt").write_bytes(authority.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.address = f"https://localhost:{server.server_port}"
    return tmp_path / "cabundle.crt"


def pull(uri, directory):
    pull_as_it_is(uri, directory, limits=Limits(attempts=1))
    assert (directory / "model.onnx").read_bytes() == DATA


def test_a_secret_of_s3_signs_for_its_endpoint_and_region(environment, server, tmp_path):
    environment("AWS_ACCESS_KEY_ID", "someone")
    environment("AWS_SECRET_ACCESS_KEY", "secret")
    environment("S3_USE_HTTPS", "0")
    environment("S3_ENDPOINT", urlsplit(server.address).netloc)
    environment("AWS_ENDPOINT_URL", server.address)
    environment("AWS_DEFAULT_REGION", "eu-central-1")
    pull("s3://models/yolo/net.onnx", tmp_path / "a")
    path, headers = server.asked[-1]
    assert path == "/models/yolo/net.onnx"
    assert "Credential=someone/" in headers["authorization"]
    assert "/eu-central-1/s3/" in headers["authorization"]


def test_the_storage_of_an_inference_service_goes_before_the_secret(environment, server, tmp_path):
    environment("AWS_ACCESS_KEY_ID", "someone")
    environment("AWS_SECRET_ACCESS_KEY", "secret")
    stored = {"type": "s3", "endpoint_url": "http://127.0.0.1:1", "access_key_id": "stored", "region": "eu-west-1"}
    environment("STORAGE_CONFIG", json.dumps({**stored, "secret_access_key": "secret"}))
    environment("STORAGE_OVERRIDE_CONFIG", json.dumps({"endpoint_url": server.address, "bucket": "models"}))
    pull("s3://models/net.onnx", tmp_path / "a")
    assert "Credential=stored/" in server.asked[-1][1]["authorization"]
    assert "/eu-west-1/" in server.asked[-1][1]["authorization"]
    environment("STORAGE_OVERRIDE_CONFIG", json.dumps({"endpoint_url": server.address, "anonymous": "true"}))
    pull("s3://models/other.onnx", tmp_path / "a")
    assert "authorization" not in server.asked[-1][1]


def test_a_storage_that_is_no_json_is_named_without_what_is_in_it(environment, tmp_path):
    environment("STORAGE_CONFIG", '{"secret_access_key": "secret"')
    with pytest.raises(SourceError, match="STORAGE_CONFIG is no JSON object") as caught:
        pull("s3://models/net.onnx", tmp_path / "a")
    assert "secret_access_key" not in str(caught.value)


def test_an_anonymous_secret_signs_nothing(environment, server, tmp_path):
    environment("AWS_ENDPOINT_URL", server.address)
    environment("awsAnonymousCredential", "true")
    pull("s3://models/net.onnx", tmp_path / "a")
    assert "authorization" not in server.asked[-1][1]


def test_a_certificate_is_checked_against_the_bundle_of_the_secret_or_of_the_cluster(
    environment, server, encrypted, tmp_path, monkeypatch
):
    environment("AWS_ENDPOINT_URL", server.address)
    environment("awsAnonymousCredential", "true")
    with pytest.raises(SourceError, match="can not download"):
        pull("s3://models/net.onnx", tmp_path / "a")
    environment("AWS_CA_BUNDLE", str(encrypted))
    pull("s3://models/net.onnx", tmp_path / "a")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    environment("CA_BUNDLE_CONFIGMAP_NAME", "authorities")
    environment("CA_BUNDLE_VOLUME_MOUNT_POINT", str(encrypted.parent))
    pull("s3://models/net.onnx", tmp_path / "b")
    pull(f"{server.address}/net.onnx", tmp_path / "c")
    environment("CA_BUNDLE_VOLUME_MOUNT_POINT", str(tmp_path / "none"))
    for uri in ("s3://models/net.onnx", f"{server.address}/net.onnx"):
        with pytest.raises(SourceError, match="can not read the certificate authorities"):
            pull(uri, tmp_path / "d")
    monkeypatch.delenv("CA_BUNDLE_CONFIGMAP_NAME")
    environment("S3_VERIFY_SSL", "0")
    pull("s3://models/net.onnx", tmp_path / "e")


@pytest.mark.parametrize(
    ("stated", "config"),
    [
        ({"S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0"}, {"endpoint": "http://minio:9000"}),
        ({"S3_ENDPOINT": "minio:9000"}, {"endpoint": "https://minio:9000"}),
        ({"AWS_ENDPOINT_URL": "https://s3.example", "S3_ENDPOINT": "x"}, {"endpoint": "https://s3.example"}),
        ({"AWS_ENDPOINT_URL": "https://s3.amazonaws.com", "AWS_REGION": "eu-west-1"}, {"region": "eu-west-1"}),
        ({"awsAnonymousCredential": "True"}, {"skip_signature": True}),
        ({"S3_USER_VIRTUAL_BUCKET": "true"}, {"virtual_hosted_style_request": True}),
        (
            {"S3_USER_VIRTUAL_BUCKET": "true", "S3_ENDPOINT": "minio:9000"},
            {"virtual_hosted_style_request": True, "endpoint": "https://models.minio:9000"},
        ),
        (
            {"S3_USE_ACCELERATE": "true"},
            {"virtual_hosted_style_request": True, "endpoint": "https://models.s3-accelerate.amazonaws.com"},
        ),
        ({}, {}),
    ],
)
def test_the_variables_of_s3_are_understood(tmp_path, stated, config):
    assert s3_config({"HOME": str(tmp_path), **stated}, "models") == config


def test_the_files_of_aws_are_read_where_the_environment_says_nothing(tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n[lab]\naws_access_key_id = c\n"
        "aws_secret_access_key = d%e\naws_session_token = f\n"
    )
    (tmp_path / ".aws" / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    home = {"HOME": str(tmp_path)}
    assert s3_config(home, "x") == {"access_key_id": "a", "secret_access_key": "b"}
    lab = {"access_key_id": "c", "secret_access_key": "d%e", "session_token": "f", "region": "eu-north-1"}
    assert s3_config({**home, "AWS_PROFILE": "lab"}, "x") == lab
    stated = {"AWS_ACCESS_KEY_ID": "g", "AWS_SECRET_ACCESS_KEY": "h"}
    assert s3_config({**home, **stated}, "x") == {"access_key_id": "g", "secret_access_key": "h"}
    assert s3_config({**home, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, "x") == {}
    (tmp_path / ".aws" / "credentials").write_text("no section")
    with pytest.raises(SourceError, match="can not read the credentials"):
        s3_config(home, "x")


def test_the_file_of_a_secret_of_google_says_who_asks(environment, server, tmp_path):
    key = rsa.generate_private_key(65537, 2048)
    pem = private_pem(key).decode()
    account = {"type": "service_account", "client_email": "yolo@lab.example", "private_key": pem, "private_key_id": "1"}
    file = tmp_path / "gcloud-application-credentials.json"
    file.write_text(json.dumps(account))
    environment("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    environment("GOOGLE_BASE_URL", server.address)
    pull("gs://models/net.onnx", tmp_path / "a")
    path, headers = server.asked[-1]
    assert urlsplit(path).path == "/models/net%2Eonnx"
    text, _, signature = headers["authorization"].removeprefix("Bearer ").rpartition(".")
    claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
    assert claims["iss"] == "yolo@lab.example"
    signed = base64.urlsafe_b64decode(signature + "==")
    key.public_key().verify(signed, text.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_without_a_way_to_credentials_google_is_read_without(tmp_path, monkeypatch):
    monkeypatch.setattr(gcs, "_has_metadata_server", lambda: False)
    assert gcs_config({"HOME": str(tmp_path)}) == {"skip_signature": True}
    (tmp_path / ".config" / "gcloud").mkdir(parents=True)
    (tmp_path / ".config" / "gcloud" / "application_default_credentials.json").write_text("{}")
    assert gcs_config({"HOME": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    ("stated", "config"),
    [
        ({"AZURE_STORAGE_ACCESS_KEY": "a2V5"}, {}),
        ({"AZ_CLIENT_ID": "a", "AZ_TENANT_ID": "b", "AZ_CLIENT_SECRET": "c"}, "abc"),
        ({"AZURE_ACCESS_TOKEN": "t", "AZURE_ACCOUNT_NAME": "lab"}, {"token": "t", "account_name": "lab"}),
        ({"AZURE_CLIENT_ID": "a", "AZURE_SERVICE_URL": "https://x"}, {"endpoint": "https://x"}),
        ({"AZURE_ACCOUNT_NAME": "lab"}, {"account_name": "lab", "skip_signature": True}),
    ],
)
def test_the_variables_of_azure_are_understood(stated, config):
    if config == "abc":
        config = {"client_id": "a", "tenant_id": "b", "client_secret": "c"}
    assert azure_config(stated, urlsplit("az://models/net.onnx")) == config


def test_a_key_of_azure_opens_the_addresses_that_kserve_knows(environment, server, tmp_path):
    place = urlsplit("https://lab.blob.core.windows.net/models/net.onnx")
    assert not needs_azure(place, {})
    assert needs_azure(place, {"AZURE_STORAGE_ACCESS_KEY": "a2V5"})
    assert not needs_azure(urlsplit("https://lab.example/models/net.onnx"), {"AZURE_STORAGE_ACCESS_KEY": "a2V5"})
    config = azure_config({"AZURE_STORAGE_ACCESS_KEY": "a2V5"}, place)
    assert config == {"account_name": "lab", "endpoint": "https://lab.blob.core.windows.net"}
    environment("AZURE_STORAGE_ACCESS_KEY", base64.b64encode(b"key").decode())
    environment("AZURE_ACCOUNT_NAME", "lab")
    environment("AZURE_SERVICE_URL", server.address)
    pull("az://models/net.onnx", tmp_path / "a")
    assert server.asked[-1][1]["authorization"].startswith("SharedKey lab:")


def test_a_token_of_azure_is_shown(environment, server, tmp_path):
    environment("AZURE_ACCESS_TOKEN", "opens")
    environment("AZURE_ACCOUNT_NAME", "lab")
    environment("AZURE_SERVICE_URL", server.address)
    pull("az://models/net.onnx", tmp_path / "a")
    assert server.asked[-1][1]["authorization"] == "Bearer opens"


def test_the_headers_of_a_secret_go_to_its_host_and_to_no_other(environment, server, tmp_path):
    environment("localhost-headers", json.dumps({"Authorization": "Bearer opens", "X-Project": "yolo"}))
    pull(f"{server.address}/net.onnx", tmp_path / "a")
    assert all(headers["Authorization"] == "Bearer opens" for _, headers in server.asked)
    assert [path for path, headers in server.asked if headers["X-Project"] == "yolo"] == [
        "/net.onnx",
        "/net.onnx.sha256",
    ]
    pull(server.address.replace("localhost", "127.0.0.1") + "/net.onnx", tmp_path / "b")
    assert "Authorization" not in server.asked[-2][1]
    environment("localhost-headers", "X-Project: yolo")
    with pytest.raises(SourceError, match="localhost-headers is no JSON object"):
        pull(f"{server.address}/net.onnx", tmp_path / "c")
