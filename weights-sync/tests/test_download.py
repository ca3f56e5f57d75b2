"""Downloads from a real server on loopback that breaks, lies and wanders."""

import contextlib
import hashlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from weights_sync import authorities, exchange, retry, web
from weights_sync.addresses import is_public
from weights_sync.errors import (
    DeadlineError,
    DigestError,
    NoSpaceError,
    SourceError,
    TooLargeError,
    UnsupportedModelError,
)
from weights_sync.hub import hub_login
from weights_sync.limits import Limits
from weights_sync.manifest import in_manifest
from weights_sync.pull import pull_as_it_is

DATA = bytes(range(256)) * 12000
DIGEST = hashlib.sha256(DATA).hexdigest()


@dataclass
class Site:
    """What a server does."""

    data: bytes = DATA
    etag: str = '"one"'
    ranges: bool = True
    cut: int = 0
    """Bytes after which each answer breaks; 0: none does."""
    more: int = 0
    """How many bytes more than there are Content-Length promises."""
    pause_s: float = 0
    failures: list[int] = field(default_factory=list)
    location: str = ""
    manifest: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asked: Counter = field(default_factory=Counter)
    tokens: list[str | None] = field(default_factory=list)
    sent: int = 0
    address: str = ""
    trickle_s: float = 0
    """Seconds between two bytes of a manifest."""
    total: str = ""
    """What a range says of the file's size in place of the truth."""
    stubborn: bool = False
    """Whether If-Range is not understood."""
    later: str = "0"
    """What Retry-After says."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        path = self.path.partition("?")[0]
        site.asked[path] += 1
        site.tokens.append(self.headers["Authorization"])
        if path.endswith(".sha256"):
            self.answer(200 if site.manifest else 404, site.manifest.encode())
        elif site.failures:
            self.answer(site.failures.pop(0), b"later", {"Retry-After": site.later})
        elif site.location and path == "/away":
            self.answer(302, b"", {"Location": site.location})
        elif site.etag and self.headers["If-None-Match"] == site.etag:
            self.answer(304, None)
        else:
            self.file(site)

    def file(self, site):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = (
            int(wanted[1])
            if wanted and site.ranges and (site.stubborn or self.headers["If-Range"] in {None, site.etag})
            else 0
        )
        headers = {"ETag": site.etag, **site.headers} if site.etag else dict(site.headers)
        if start >= len(site.data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(site.data)}", **headers})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(site.data) - 1}/{site.total or len(site.data)}"
        body = site.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) + site.more))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = body[: site.cut] if site.cut else body
        for at in range(0, len(body), 1 << 16):
            self.wfile.write(body[at : at + (1 << 16)])
            site.sent += min(1 << 16, len(body) - at)
            time.sleep(site.pause_s)

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body or b"" if self.server.site.trickle_s else ():
            self.wfile.write(bytes([byte]))
            time.sleep(self.server.site.trickle_s)
        if not self.server.site.trickle_s:
            self.wfile.write(body or b"")

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()


def served(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = site
    site.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def site(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    site = Site()
    server = served(site)
    yield site
    server.shutdown()
    server.server_close()


def pull(site, directory, path="/net.onnx", **limits):
    pull_as_it_is(f"{site.address}{path}", directory, limits=Limits(**limits))
    return (directory / "model.onnx").read_bytes() == site.data


@pytest.mark.parametrize(("etag", "path"), [('"one"', "/net.onnx"), ("", f"/net.onnx#sha256={DIGEST}")])
def test_a_download_that_breaks_goes_on_where_it_broke(site, tmp_path, etag, path):
    site.cut, site.etag = 700_000, etag
    assert pull(site, tmp_path, path)
    assert site.asked["/net.onnx"] == 5
    assert site.sent == len(DATA)


def test_without_an_etag_or_a_digest_bytes_of_two_answers_are_never_joined(site, tmp_path):
    site.cut, site.etag = 700_000, ""
    with pytest.raises(SourceError, match="ended 2372000 bytes before the end"):
        pull(site, tmp_path, attempts=2)
    assert not (tmp_path / "model.onnx").exists()


def test_a_server_without_ranges_is_asked_for_all_of_it_again(site, tmp_path):
    site.ranges, site.cut = False, 700_000
    with pytest.raises(SourceError, match="bytes before the end"):
        pull(site, tmp_path, attempts=2, deadline_s=1)
    site.cut = 0
    assert pull(site, tmp_path)


def test_a_file_that_changes_between_two_tries_is_fetched_anew(site, tmp_path):
    site.cut = 700_000
    with pytest.raises(SourceError):
        pull(site, tmp_path, deadline_s=1e-3)
    site.cut, site.data, site.etag = 0, DATA[::-1], '"two"'
    assert pull(site, tmp_path)


def test_joined_bytes_that_do_not_fit_the_digest_are_fetched_once_more(site, tmp_path):
    site.etag, site.cut, site.data = "", 700_000, DATA[::-1]
    with pytest.raises(SourceError):
        pull(site, tmp_path, f"/net.onnx#sha256={DIGEST}", deadline_s=1e-3)
    site.cut, site.data = 0, DATA
    assert pull(site, tmp_path, f"/net.onnx#sha256={DIGEST}")


def test_a_wrong_digest_is_refused_and_leaves_nothing_to_resume(site, tmp_path):
    with pytest.raises(DigestError, match=f"sha256 is {DIGEST}, not 000"):
        pull(site, tmp_path, f"/net.onnx#sha256={'0' * 64}")
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "model.onnx").exists()


def test_a_length_that_promises_too_much_is_no_whole_file(site, tmp_path):
    site.more, site.ranges = 1000, False
    with pytest.raises(SourceError, match="ended 1000 bytes before the end"):
        pull(site, tmp_path, attempts=2)
    site.ranges = True
    assert pull(site, tmp_path)


def test_answers_that_may_pass_are_tried_again_and_others_not(site, tmp_path):
    site.failures = [503, 429, 500]
    assert pull(site, tmp_path)
    site.failures = [403, 403]
    with pytest.raises(SourceError, match="answered 403 Forbidden"):
        pull(site, tmp_path, "/other.onnx")
    assert site.failures == [403]
    site.failures = [503] * 9
    with pytest.raises(SourceError, match="it answered 503 Service Unavailable"):
        pull(site, tmp_path, "/other.onnx", attempts=3)
    assert len(site.failures) == 6


def test_the_deadline_ends_a_download_that_only_trickles(site, tmp_path):
    site.pause_s = 0.1
    with pytest.raises(DeadlineError, match=r"not done in 0.2 seconds"):
        pull(site, tmp_path, deadline_s=0.2)


def test_the_deadline_ends_a_manifest_that_only_trickles(site, tmp_path):
    site.manifest, site.trickle_s = DIGEST, 0.05
    with pytest.raises(DeadlineError, match=r"not done in 1 seconds"):
        pull(site, tmp_path, deadline_s=1)


def test_a_range_of_a_file_without_an_end_is_not_joined(site, tmp_path):
    site.cut = 700_000
    with pytest.raises(SourceError):
        pull(site, tmp_path, attempts=1)
    site.cut, site.total = 0, "*"
    assert pull(site, tmp_path)
    assert site.asked["/net.onnx"] == 3


def test_a_file_that_changed_to_one_of_the_same_size_as_what_is_here_is_fetched_anew(site, tmp_path):
    site.more, site.ranges = 1000, False
    with pytest.raises(SourceError):
        pull(site, tmp_path, attempts=1)
    site.more, site.ranges, site.data, site.etag = 0, True, DATA[::-1], '"two"'
    site.stubborn = True
    assert pull(site, tmp_path)


@pytest.mark.parametrize("digits", ["9" * 5000, "²"])
def test_a_wait_that_is_no_number_is_no_wait(site, tmp_path, digits):
    site.failures, site.later = [503], digits
    assert pull(site, tmp_path)


def test_a_redirect_to_no_address_is_named(site, tmp_path):
    site.location = "http://["
    with pytest.raises(SourceError, match="redirects to what is no web address"):
        pull(site, tmp_path, "/away")


def test_a_redirect_to_a_private_address_is_refused_where_a_proxy_would_follow_it(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    site.location = "https://169.254.169.254/latest/meta-data"
    with pytest.raises(SourceError, match=r"169\.254\.169\.254 is private: allow it"):
        pull(site, tmp_path, "/away")


def test_a_proxy_that_is_no_address_is_named_without_its_password(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:se/cret@proxy:80")
    with pytest.raises(SourceError, match="the proxy that the environment names for https is no address") as caught:
        pull_as_it_is("https://host.example/net.onnx", tmp_path, limits=Limits())
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("fragment", [f"#SHA256={DIGEST}", f"#sha256:{DIGEST}", "#sha512=00", "#main"])
def test_a_fragment_that_would_be_passed_over_is_refused(site, tmp_path, fragment):
    with pytest.raises(DigestError, match="must be sha256= and 64 hexadecimal digits"):
        pull(site, tmp_path, f"/net.onnx{fragment}")


def test_a_checkpoint_of_the_web_is_not_placed_as_a_model(site, tmp_path):
    with pytest.raises(UnsupportedModelError, match="no server prepares a checkpoint"):
        pull(site, tmp_path, "/net.ckpt")
    assert not site.asked


def test_the_sizes_are_checked_before_a_byte_is_kept(site, tmp_path, monkeypatch):
    with pytest.raises(TooLargeError, match=f"has {len(DATA)} bytes; the limit is 100"):
        pull(site, tmp_path, max_bytes=100)
    monkeypatch.setattr("weights_sync.transfer.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(NoSpaceError, match="where 1000 are free"):
        pull(site, tmp_path)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a9fe:a9fe]"],
)
def test_a_redirect_to_a_private_address_is_refused(site, tmp_path, host):
    site.location = f"http://{host}:9/latest/meta-data"
    with pytest.raises(SourceError, match="private: allow it"):
        pull(site, tmp_path, "/away", allow_http=True)


def test_a_redirect_on_the_same_server_or_one_that_is_allowed_is_followed(site, tmp_path):
    site.location = "/net.onnx"
    assert pull(site, tmp_path / "a", "/away")
    other = Site(data=DATA[::-1])
    server = served(other)
    site.location = f"{other.address}/net.onnx"
    with pytest.raises(SourceError, match="private: allow it"):
        pull(site, tmp_path / "b", "/away")
    pull_as_it_is(f"{site.address}/away", tmp_path / "b", limits=Limits(allow_private=True))
    assert (tmp_path / "b" / "model.onnx").read_bytes() == other.data
    server.shutdown()
    server.server_close()


def test_redirects_in_a_circle_end(site, tmp_path):
    site.location = "/away"
    with pytest.raises(SourceError, match="redirects more than 10 times"):
        pull(site, tmp_path, "/away")


def test_a_manifest_beside_the_file_is_checked(site, tmp_path):
    site.manifest = f"{'0' * 64}  other.onnx\n{DIGEST} *net.onnx\n"
    assert pull(site, tmp_path)
    site.manifest = f"{'0' * 64}\n"
    site.etag = '"two"'
    with pytest.raises(DigestError):
        pull(site, tmp_path)


def test_unchanged_content_is_not_sent_again(site, tmp_path):
    assert pull(site, tmp_path)
    assert pull(site, tmp_path)
    assert site.sent == len(DATA)
    site.data, site.etag = DATA[::-1], '"two"'
    assert pull(site, tmp_path)


def test_a_known_digest_that_is_here_is_not_asked_for(site, tmp_path):
    assert pull(site, tmp_path, f"/net.onnx#sha256={DIGEST}")
    asked = site.asked.total()
    assert pull(site, tmp_path, f"/elsewhere.onnx#sha256={DIGEST}")
    assert site.asked.total() == asked


def test_two_processes_fetch_once(site, tmp_path):
    site.pause_s = 0.02
    command = [sys.executable, "-m", "weights_sync", "pull", "--as-it-is", f"{site.address}/net.onnx", str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert site.sent == len(DATA)


def test_a_pull_that_is_killed_goes_on_where_it_was(site, tmp_path):
    site.pause_s = 0.05
    command = [sys.executable, "-m", "weights_sync", "pull", "--as-it-is", f"{site.address}/net.onnx", str(tmp_path)]
    with subprocess.Popen(command) as process:
        while not any(part.stat().st_size > 500_000 for part in tmp_path.rglob("*.part")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "model.onnx").exists()
    site.pause_s, before = 0, site.sent
    assert pull(site, tmp_path)
    assert site.sent - before < len(DATA) - 400_000


def test_an_encoding_that_was_not_asked_for_is_refused(site, tmp_path):
    site.headers["Content-Encoding"] = "gzip"
    with pytest.raises(SourceError, match="encoding"):
        pull(site, tmp_path)


def test_a_pull_goes_through_the_proxy_of_the_environment(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.address)
    monkeypatch.setenv("no_proxy", "")
    pull_as_it_is("http://weights.invalid/net.onnx", tmp_path, limits=Limits(allow_http=True))
    assert site.asked["http://weights.invalid/net.onnx"] == 1


def test_secrets_in_addresses_are_not_shown():
    assert exchange.shown("https://user:secret@host/net.onnx?token=secret") == "https://host/net.onnx"


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1", True), ("100.64.0.1", False), ("0.0.0.1", False), ("224.0.0.1", False)],
)
def test_public_addresses_are_told_from_others(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{DIGEST}\n", DIGEST),
        (f"{DIGEST.upper()}  net.onnx\n", DIGEST),
        (f"SHA256 (net.onnx) = {DIGEST}\n", DIGEST),
        (f"{'0' * 64}  a.onnx\n{DIGEST} *./models/net.onnx\n", DIGEST),
        (f"{'0' * 64}  a.onnx\n{DIGEST}  b.onnx\n", ""),
        ("<html>404</html>", ""),
        ("", ""),
    ],
)
def test_a_manifest_names_the_digest_of_a_file(text, found):
    assert in_manifest(text, "net.onnx") == found


def test_a_file_of_the_hub_is_fetched_at_its_commit_with_the_token(site, tmp_path, monkeypatch):
    other = Site()
    server = served(other)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    monkeypatch.setenv("HF_TOKEN", "secret")
    commit = "0123456789" * 4
    assert pull_as_it_is(f"hf://someone/yolo@{commit}/onnx/net.onnx", tmp_path / "a") == DIGEST
    assert site.asked[f"/someone/yolo/resolve/{commit}/onnx/net.onnx"] == 1
    assert site.tokens == ["Bearer secret"]
    site.location = f"{other.address}/net.onnx"
    web.download(f"{site.address}/away", tmp_path / "x.part", Limits(allow_private=True), login=hub_login())
    assert site.tokens[-1] == "Bearer secret"
    assert other.tokens == [None]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("uri", ["hf://someone/yolo/net.onnx", "hf://someone/yolo@main/net.onnx"])
def test_a_file_of_the_hub_is_pinned_by_a_commit_or_a_digest(site, tmp_path, monkeypatch, uri):
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    with pytest.raises(SourceError, match=r"may change: pin it, as hf://someone/yolo@COMMIT/net.onnx"):
        pull_as_it_is(uri, tmp_path)
    assert pull_as_it_is(f"{uri}#sha256={DIGEST}", tmp_path) == DIGEST
    with pytest.raises(SourceError, match="is named as hf://"):
        pull_as_it_is("hf://someone", tmp_path)


@pytest.fixture
def certificate(tmp_path):
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make a certificate with")
    file = tmp_path / "own.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", file)
    made = subprocess.run(
        [openssl, "req", "-x509", *key, *names, "-out", f"{file}.crt"], check=True, capture_output=True
    )
    assert not made.returncode
    file.write_bytes(file.read_bytes() + file.with_name("own.pem.crt").read_bytes())
    return file


def test_https_is_spoken_with_servers_that_prove_who_they_are(site, tmp_path, monkeypatch, certificate):
    authorities._trust.cache_clear()
    server = served(site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site.address = f"https://localhost:{server.server_port}"
    with pytest.raises(SourceError, match=r"self.signed certificate"):
        pull(site, tmp_path)
    authorities._trust.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    site.cut = 700_000
    assert pull(site, tmp_path)
    assert site.sent == len(DATA)
    site.address = f"https://127.0.0.1:{server.server_port}"
    with pytest.raises(SourceError, match="IP address mismatch"):
        pull(site, tmp_path)
    authorities._trust.cache_clear()
    server.shutdown()
    server.server_close()
