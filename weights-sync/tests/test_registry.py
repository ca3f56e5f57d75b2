"""Models from a real registry of containers: Docker's, as Debian packages it, or built from its Go module."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates import Authority
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from servers import free_port, installed, running
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync import retry
from weights_sync.cache import Cache
from weights_sync.catalogue import Site
from weights_sync.errors import ArchiveError, DigestError, SourceError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.login import stored_login
from weights_sync.pull import pull, pull_as_it_is
from weights_sync.watch.sighting import sight

# The registry may have to be built first.
pytestmark = pytest.mark.timeout(1800)

DATA = bytes(range(256)) * 12000
DIGEST = hashlib.sha256(DATA).hexdigest()
USER = "reader:secret"
HTPASSWD = "reader:$2b$04$m1ZI1vFmXLXJWWD.3KZvXO/4xBT6Jl.LD4K0nqAIHjHCO9VRHHt9O"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="module")
def program():
    folder = installed(
        [["apt-get", "download", "docker-registry"], ["sh", "-c", "dpkg-deb -x docker-registry*.deb ."]],
        [["go", "install", "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"]],
    )
    return next(file for file in (folder / "usr/bin/docker-registry", folder / "registry") if file.is_file())


@contextmanager
def registry(program, folder, **auth):
    port = free_port()
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": auth,
    }
    file = folder / "registry.yml"
    file.write_text(json.dumps({key: value for key, value in config.items() if value}))
    with running([program, "serve", file], port):
        yield Repository(f"127.0.0.1:{port}")


class Repository:
    """Puts things into a registry, as `oras` and `docker` do."""

    def __init__(self, host, user=""):
        self.host = host
        self.headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}

    def ask(self, method, url, data=None, kind="application/octet-stream"):
        url = url if "://" in url else f"http://{self.host}/v2/models/yolo{url}"
        headers = {"Content-Type": kind, **self.headers}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - of a registry here
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.headers

    def blob(self, data, kind, title=""):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        upload = self.ask("POST", "/blobs/uploads/", b"")["Location"]
        self.ask("PUT", f"{upload}{'&' if '?' in upload else '?'}digest={digest}", data)
        annotations = {"org.opencontainers.image.title": title} if title else {}
        return {"mediaType": kind, "digest": digest, "size": len(data), "annotations": annotations}

    def manifest(self, tag, layers, kind=MANIFEST):
        config = self.blob(b"{}", "application/vnd.oci.empty.v1+json")
        return self.put(tag, {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})

    def put(self, tag, manifest):
        data = json.dumps(manifest).encode()
        kind = manifest["mediaType"]
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.ask("PUT", f"/manifests/{tag or digest}", data, kind)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def artefact(self, tag, data=DATA, title="net.onnx"):
        return self.manifest(tag, [self.blob(data, "application/octet-stream", title)])

    def uri(self, reference=":v1"):
        return f"oci://{self.host}/models/yolo{reference}"


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """No proxy, no login of the person who runs the tests, no long waits."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)


@pytest.fixture(scope="module")
def open_registry(program, tmp_path_factory):
    with registry(program, tmp_path_factory.mktemp("open")) as repository:
        yield repository


def tarred(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def placed(directory):
    return (directory / "model.onnx").read_bytes()


def test_an_artefact_is_fetched_by_tag_and_by_digest_and_not_again(open_registry, tmp_path):
    manifest = open_registry.artefact("v1")
    assert pull_as_it_is(open_registry.uri(), tmp_path) == DIGEST
    assert placed(tmp_path) == DATA
    before = (tmp_path / "model.onnx").stat().st_ino
    assert pull_as_it_is(open_registry.uri(), tmp_path) == DIGEST
    assert (tmp_path / "model.onnx").stat().st_ino == before
    pinned = open_registry.uri(f"@{manifest['digest']}")
    assert pull_as_it_is(pinned, tmp_path / "b") == DIGEST
    open_registry.artefact("v1", DATA[::-1])
    pull_as_it_is(open_registry.uri(), tmp_path)
    assert placed(tmp_path) == DATA[::-1]
    assert pull_as_it_is(pinned, tmp_path) == DIGEST


def test_the_default_tag_is_latest_and_a_tag_beside_a_digest_is_passed_over(open_registry, tmp_path):
    manifest = open_registry.artefact("latest")
    assert pull_as_it_is(open_registry.uri(""), tmp_path / "a") == DIGEST
    assert pull_as_it_is(open_registry.uri(f":none@{manifest['digest']}"), tmp_path / "b") == DIGEST


@pytest.mark.parametrize("kind", [MANIFEST, DOCKER_MANIFEST])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_model_of_an_image_is_the_one_in_its_topmost_layer_that_has_one(open_registry, tmp_path, kind, zipped):
    base = tarred({"bin/sh": "/bin/busybox", "models/net.onnx": b"old", "etc/x.onnx": b"x"})
    top = tarred({"./models/1/net.onnx": DATA, "models/labels.txt": b"person", "x.onnx": b"x"})
    last = tarred({"etc/passwd": b"root", "dev/link": "/etc/passwd"})
    pack = gzip.compress if zipped else bytes
    layers = [open_registry.blob(pack(data), LAYER + "+gzip" * zipped) for data in (base, top, last)]
    open_registry.manifest("image", layers, kind)
    for directory in (tmp_path / "a", tmp_path / "a"):
        pull_as_it_is(open_registry.uri(":image"), directory)
        assert placed(directory) == DATA
    assert sorted(file.name for file in (tmp_path / "a").iterdir() if file.name[0] != ".") == ["model.onnx"]


def test_of_an_image_for_many_platforms_the_one_for_this_machine_is_taken_and_else_the_first(
    open_registry, tmp_path, monkeypatch
):
    arm, amd = (
        open_registry.manifest("", [open_registry.blob(tarred({"models/net.onnx": data}), LAYER)])
        for data in (DATA[::-1], DATA)
    )
    provenance = open_registry.manifest("", [open_registry.blob(b"{}", "application/vnd.in-toto+json")])
    entries = [
        {**provenance, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
        {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    open_registry.put("many", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    for machine, data in (("x86_64", DATA), ("aarch64", DATA[::-1]), ("riscv64", DATA[::-1])):
        monkeypatch.setattr("weights_sync.oci.platform.machine", lambda machine=machine: machine)
        pull_as_it_is(open_registry.uri(":many"), tmp_path / machine)
        assert placed(tmp_path / machine) == data


def test_the_sha256_of_a_uri_is_that_of_the_layer(open_registry, tmp_path):
    open_registry.artefact("v1")
    assert pull_as_it_is(open_registry.uri(f":v1#sha256={DIGEST}"), tmp_path) == DIGEST
    with pytest.raises(DigestError, match="not 000"):
        pull_as_it_is(open_registry.uri(f":v1#sha256={'0' * 64}"), tmp_path)
    layer = tarred({"models/net.onnx": DATA})
    open_registry.manifest("image", [open_registry.blob(layer, LAYER)])
    with pytest.raises(DigestError, match="not 000"):
        pull_as_it_is(open_registry.uri(f":image#sha256={'0' * 64}"), tmp_path)
    pull_as_it_is(open_registry.uri(f":image#sha256={hashlib.sha256(layer).hexdigest()}"), tmp_path)
    assert placed(tmp_path) == DATA


def test_a_folder_of_an_artefact_is_unpacked(open_registry, tmp_path):
    data = gzip.compress(tarred({"yolo/net.onnx": DATA}))
    open_registry.manifest("folder", [open_registry.blob(data, f"{LAYER}+gzip", "yolo")])
    pull_as_it_is(open_registry.uri(":folder"), tmp_path)
    assert placed(tmp_path) == DATA


@pytest.mark.parametrize(
    ("layers", "error", "reason"),
    [
        ([(b"a", "x", "a.onnx"), (b"b", "x", "b.onnx")], SourceError, "holds 2 models"),
        ([(b"a", "x", "a.txt"), (b"b", "x", "b.txt")], ArchiveError, "holds no model"),
        ([(tarred({"etc/net.onnx": DATA}), LAYER, "")], ArchiveError, "in /models of an image"),
        ([(tarred({"models/net.onnx": "/etc/passwd"}), LAYER, "")], ArchiveError, "link or device"),
        ([(tarred({"models/../../net.onnx": DATA}), LAYER, "")], ArchiveError, "reaches out"),
        ([(gzip.compress(tarred({"models/a.onnx": bytes(9_000_000)})), LAYER, "")], TooLargeError, "unpacks to more"),
        ([(b"no tape", LAYER, "")], ArchiveError, "is damaged"),
        ([(b"(\xb5/\xfd", f"{LAYER}+zstd", "")], ArchiveError, "zstd"),
    ],
)
def test_what_is_no_one_model_is_refused(open_registry, tmp_path, layers, error, reason):
    open_registry.manifest("bad", [open_registry.blob(*layer) for layer in layers])
    with pytest.raises(error, match=reason):
        pull_as_it_is(open_registry.uri(":bad"), tmp_path, limits=Limits(max_bytes=8_000_000))
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("oci://HOST/models/yolo:none", "there is no oci://HOST/models/yolo:none"),
        ("oci://HOST/nobody/nothing", "there is no oci://"),
        (f"oci://HOST/models/yolo@sha256:{'0' * 64}", "there is no oci://"),
        ("oci://HOST", "is named as oci://REGISTRY"),
        ("oci://HOST/UPPER/../x", "is named as oci://REGISTRY"),
        ("oci://HOST/models/yolo@sha256:12", "is named as oci://REGISTRY"),
        ("oci://127.0.0.1:1/models/yolo", "can not download"),
    ],
)
def test_what_is_not_there_is_named(open_registry, tmp_path, uri, reason):
    host = open_registry.host
    with pytest.raises(SourceError, match=reason.replace("HOST", host)):
        pull_as_it_is(uri.replace("HOST", host), tmp_path, limits=Limits(attempts=1))


def test_a_registry_without_encryption_is_spoken_to_on_this_machine_or_where_that_is_allowed(tmp_path, open_registry):
    port = open_registry.host.rpartition(":")[2]
    open_registry.artefact("v1")
    assert pull_as_it_is(f"oci://localhost:{port}/models/yolo:v1", tmp_path / "a") == DIGEST
    with pytest.raises(SourceError, match=r"can not download https://0.0.0.0"):
        pull_as_it_is(f"oci://0.0.0.0:{port}/models/yolo:v1", tmp_path / "b", limits=Limits(attempts=1))
    allowed = Limits(attempts=1, allow_http=True)
    assert pull_as_it_is(f"oci://0.0.0.0:{port}/models/yolo:v1", tmp_path / "b", limits=allowed) == DIGEST


def log_in(folder, host, name="config.json", **entry):
    (folder / "docker").mkdir(exist_ok=True)
    entry = entry or {"auth": base64.b64encode(USER.encode()).decode()}
    (folder / "docker" / name).write_text(json.dumps({"auths": {host: entry}}))


def test_a_registry_with_a_password_wants_the_login_that_docker_keeps(program, tmp_path, capsys):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with registry(program, tmp_path, htpasswd={"realm": "models", "path": str(tmp_path / "htpasswd")}) as repository:
        repository.headers = Repository("", USER).headers
        repository.artefact("v1")
        assert command.main(["pull", "--as-it-is", repository.uri(), str(tmp_path / "a")]) == 1
        assert "is not for these credentials: log in" in capsys.readouterr().err
        log_in(tmp_path, repository.host, username="reader", password="wrong")  # noqa: S106
        with pytest.raises(SourceError, match="not for these credentials"):
            pull_as_it_is(repository.uri(), tmp_path / "a")
        log_in(tmp_path, f"https://{repository.host}/v2/")
        assert pull_as_it_is(repository.uri(), tmp_path / "a") == DIGEST


class Realm:
    """A token server, as the Docker registry's specification has it."""

    def __init__(self):
        authority = Authority()
        self.key, self.certificate = authority.key, authority.certificate
        self.asked = []
        self.free = False
        realm = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers["Authorization"] or ""
                query = parse_qs(urlsplit(self.path).query)
                realm.asked.append((given.partition(" ")[0], query.get("scope")))
                known = base64.b64encode(USER.encode()).decode() in given
                body = json.dumps({"token": realm.token(query)}).encode() if known or realm.free else b"{}"
                self.send_response(200 if known or realm.free else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, query):
        access = []
        for scope in query.get("scope", ()):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "realm", "aud": query["service"][0], "sub": "reader", "access": access, "jti": str(now)}
        der = base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        parts = [head, {**claims, "nbf": now - 10, "iat": now - 10, "exp": now + 60}]
        text = b".".join(unpadded(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
        return (text + b"." + unpadded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def guarded(program, tmp_path):
    """Yield a registry with a token server, and that."""
    realm = Realm()
    bundle = tmp_path / "realm.pem"
    bundle.write_bytes(realm.certificate.public_bytes(serialization.Encoding.PEM))
    token = {"realm": realm.address, "service": "models", "issuer": "realm", "rootcertbundle": str(bundle)}
    with registry(program, tmp_path, token=token) as repository:
        push = realm.token({"service": ["models"], "scope": ["repository:models/yolo:pull,push"]})
        repository.headers = {"Authorization": f"Bearer {push}"}
        repository.artefact("v1")
        yield repository, realm
    realm.server.shutdown()
    realm.server.server_close()


def test_a_login_is_traded_for_a_token_where_the_registry_wants_one(guarded, tmp_path):
    repository, realm = guarded
    with pytest.raises(SourceError, match=r"gives no token for 127.0.0.1"):
        pull_as_it_is(repository.uri(), tmp_path / "a")
    log_in(tmp_path, f"{repository.host}/models", name=".dockerconfigjson")
    assert pull_as_it_is(repository.uri(), tmp_path / "a") == DIGEST
    assert realm.asked[-1] == ("Basic", ["repository:models/yolo:pull"])


def test_a_token_for_all_needs_no_login(guarded, tmp_path):
    repository, realm = guarded
    realm.free = True
    assert pull_as_it_is(repository.uri(), tmp_path / "a") == DIGEST
    assert realm.asked[-1] == ("", ["repository:models/yolo:pull"])


@contextmanager
def in_front_of(host, cut=0, realm=""):
    """Serve what a registry says; answers break after `cut` bytes, and challenges name another realm."""
    sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            names = ("Accept", "Authorization", "Range")
            headers = {name: self.headers[name] for name in names if self.headers[name]}
            request = urllib.request.Request(f"http://{host}{self.path}", headers=headers)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                answer = opener.open(request, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with closing(answer):
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, f'Bearer realm="{realm}"' if name == "Www-Authenticate" and realm else value)
                self.end_headers()
                body = body[: cut or None]
                sent.append(len(body))
                with suppress(ConnectionError):
                    self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()


def test_a_layer_that_breaks_goes_on_where_it_was_with_a_token_of_its_own(guarded, tmp_path):
    repository, realm = guarded
    realm.free = True
    with in_front_of(repository.host, cut=1_000_000) as (host, sent):
        assert pull_as_it_is(f"oci://{host}/models/yolo:v1", tmp_path) == DIGEST
    assert sum(size for size in sent if size > 10_000) == len(DATA)
    assert len(realm.asked) > 3


def test_a_challenge_does_not_lead_into_the_network(guarded, tmp_path):
    repository, realm = guarded
    realm.free = True
    port = realm.server.server_port
    with in_front_of(repository.host, realm=f"http://localhost:{port}/token") as (host, _):
        with pytest.raises(SourceError, match=r"localhost, whose address .* is private"):
            pull_as_it_is(f"oci://{host}/models/yolo:v1", tmp_path)
        assert realm.asked == []


@pytest.mark.parametrize(
    ("name", "registry_name", "found"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("ghcr.io/models", "ghcr.io", True),
        ("ghcr.io/other", "ghcr.io", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("quay.io", "ghcr.io", False),
    ],
)
def test_a_login_is_for_its_registry_or_a_part_of_it(tmp_path, name, registry_name, found):
    log_in(tmp_path, name)
    assert stored_login(registry_name, "models/yolo") == (("reader", "secret") if found else ("", ""))


@pytest.mark.parametrize("text", ["[]", "{", '{"auths": {"ghcr.io": {"auth": "%"}}}', '{"auths": {"ghcr.io": 3}}'])
def test_a_damaged_login_is_named(tmp_path, text):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(text)
    with pytest.raises(SourceError, match="login"):
        stored_login("ghcr.io", "models/yolo")


def test_a_tag_is_seen_to_move_without_its_layers(open_registry, tmp_path):
    manifest = open_registry.artefact("moving")
    uri = open_registry.uri(":moving")
    assert sight(uri, Limits(), Site()).mark == manifest["digest"]
    moved = open_registry.artefact("moving", DATA[::-1])
    assert sight(uri, Limits(), Site()).mark == moved["digest"] != manifest["digest"]
    pinned = open_registry.uri(f"@{manifest['digest']}")
    assert sight(pinned, Limits(), Site()).mark == manifest["digest"]


def test_the_sidecar_of_an_artefact_comes_with_its_model(open_registry, tmp_path):
    def artefact(tag, *sidecar):
        model = open_registry.blob(yolov8().SerializeToString(), "application/octet-stream", "yolo/net.onnx")
        layers = [open_registry.blob(data, "application/yaml", "yolo/net.yaml") for data in sidecar]
        open_registry.manifest(tag, [model, *layers])

    uri, site = open_registry.uri(":moving"), Site(cache=Cache(tmp_path / "cache"))
    for sidecar, labels in (
        ((), ("class0", "class1", "class2")),
        ((b"names: [cat, dog, cow]",), ("cat", "dog", "cow")),
        ((b"names: [x, y, z]",), ("x", "y", "z")),
        ((), ("class0", "class1", "class2")),
    ):
        artefact("moving", *sidecar)
        assert pull(uri, tmp_path / "a", site=site).labels == labels
        before = (tmp_path / "a" / "model.onnx").stat().st_mtime_ns
        assert pull(uri, tmp_path / "a", site=site).labels == labels
        assert (tmp_path / "a" / "model.onnx").stat().st_mtime_ns == before
