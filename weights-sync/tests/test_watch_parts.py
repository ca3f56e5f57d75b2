"""The parts of a watcher that need no predictor: what it sees of a source, when it looks, what it remembers."""

import argparse
import json
import re
import shlex
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from weights_sync import __main__ as command
from weights_sync.catalogue import Site
from weights_sync.errors import FollowError, SourceError
from weights_sync.limits import Limits
from weights_sync.watch.cluster import Pod, connect
from weights_sync.watch.events import Events
from weights_sync.watch.follow import parse_reference
from weights_sync.watch.loop import Pace, Pulse
from weights_sync.watch.news import News
from weights_sync.watch.options import seconds
from weights_sync.watch.sighting import safe, sight
from weights_sync.watch.state import Refused, State

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POD = Pod("yolo-0", "models", "1234")


@contextmanager
def answering(answers):
    """Serve `answers`, from method and path to status, headers and body; yield the address and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path))
            status, headers, body = answers.get((self.command, self.path), (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def mark(uri, site=None):
    return sight(uri, Limits(attempts=1), site or Site()).mark


def test_a_web_file_is_known_by_its_tag_and_not_fetched():
    answers = {("HEAD", "/x.onnx"): (200, {"ETag": '"one"'}, b"12")}
    with answering(answers) as (url, asked):
        first = mark(f"{url}/x.onnx")
        assert mark(f"{url}/x.onnx") == first
        answers["HEAD", "/x.onnx"] = (200, {"ETag": '"two"'}, b"12")
        assert mark(f"{url}/x.onnx") != first
    assert {method for method, _ in asked} == {"HEAD"}


def test_a_server_that_refuses_head_is_asked_with_get():
    answers = {("HEAD", "/x.onnx"): (403, {}, b""), ("GET", "/x.onnx"): (200, {"ETag": '"one"'}, b"12")}
    with answering(answers) as (url, _):
        assert mark(f"{url}/x.onnx")


def test_a_web_file_without_a_tag_or_a_date_has_no_mark():
    with answering({("HEAD", "/x.onnx"): (200, {}, b"12")}) as (url, _):
        assert not mark(f"{url}/x.onnx")


def test_a_web_file_that_is_gone_is_named():
    with answering({}) as (url, _), pytest.raises(SourceError, match=r"/x\.onnx answered 404"):
        mark(f"{url}/x.onnx?token=secret")


def test_a_branch_of_the_hub_is_the_commit_that_it_is_at(monkeypatch):
    found = json.dumps({"sha": COMMIT}).encode()
    answers = {("GET", f"/api/models/me/yolo/revision/{branch}"): (200, {}, found) for branch in ("main", "next")}
    with answering(answers) as (url, asked):
        monkeypatch.setenv("HF_ENDPOINT", url)
        for uri in ("hf://me/yolo/x.onnx", "hf://me/yolo@next/x.onnx", f"hf://me/yolo@{COMMIT}/x.onnx"):
            sighting = sight(uri, Limits(attempts=1), Site())
            assert sighting.uri == f"hf://me/yolo@{COMMIT}/x.onnx"
            assert sighting.mark
        assert len(asked) == 2
        with pytest.raises(SourceError, match="the hub has no me/none at main"):
            sight("hf://me/none/x.onnx", Limits(attempts=1), Site())


def test_a_uri_with_a_digest_asks_nobody():
    uri = f"https://host.invalid/x.onnx#sha256={'a' * 64}"
    assert mark(uri) == "a" * 64
    assert sight(uri, Limits(), Site()).uri == uri


def test_a_file_is_known_by_its_size_and_time(tmp_path):
    file = tmp_path / "x.onnx"
    file.write_bytes(b"one")
    first = mark(str(file))
    assert mark(file.as_uri()) == first
    file.write_bytes(b"other")
    assert mark(str(file)) != first
    with pytest.raises(SourceError, match="can not read"):
        mark(str(tmp_path / "none.onnx"))


def test_a_named_model_changes_with_the_catalogue_and_its_file(tmp_path):
    file, catalogue = tmp_path / "x.onnx", tmp_path / "catalogue.yaml"
    file.write_bytes(b"one")
    site = Site(str(catalogue), "")
    catalogue.write_text("mine: {sources: [none.onnx, x.onnx]}")
    first = mark("yolo://mine", site)
    file.write_bytes(b"other")
    assert mark("yolo://mine", site) != first
    catalogue.write_text(f"mine: {{sources: [x.onnx], sha256: {'a' * 64}}}")
    assert mark("yolo://mine", site) == "a" * 64
    assert mark("yolo://shapes") == mark("yolo://shapes")


def test_what_is_said_of_a_uri_has_no_secrets():
    assert safe("https://user:secret@host/x.onnx?sig=secret#sha256=aa") == "https://host/x.onnx"
    assert safe("/mnt/x.onnx") == "/mnt/x.onnx"


def test_failures_slow_the_watcher_down_and_a_missing_predictor_is_asked_soon():
    pace = Pace(60)
    assert [pace.wait_s(failures, away=False) for failures in (0, 1, 2, 3, 9, 10_000)] == [60, 60, 120, 240, 900, 900]
    assert [pace.wait_s(failures, away=True) for failures in (1, 2, 3, 9, 10_000)] == [1, 2, 4, 60, 60]
    assert Pace(3600).wait_s(5, away=False) == 3600


def test_a_watcher_that_breaks_its_promise_is_not_alive():
    pulse = Pulse()
    pulse.expect(60)
    assert pulse.alive()
    pulse.expect(-1)
    assert not pulse.alive()


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("0.5s", 0.5), ("5m", 300), ("1.5h", 5400)])
def test_times_have_units(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "-1", "5d", "soon"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write 30s, 5m or 1h"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("configmap/weights", ("configmaps", "weights", "uri")),
        ("configmap/weights#street.v2", ("configmaps", "weights", "street.v2")),
        ("annotation", ("pods", "yolo-0", "yolo-kserve/weights")),
        ("annotation#example.com/uri", ("pods", "yolo-0", "example.com/uri")),
        ("annotation/street", ("inferenceservices", "street", "yolo-kserve/weights")),
    ],
)
def test_what_can_be_followed(text, expected):
    reference = parse_reference(text, POD)
    assert (reference.kind, reference.name, reference.key) == expected


@pytest.mark.parametrize("text", ["", "configmap", "configmap/", "secret/x", "configmap/../x", "annotation/x/y"])
def test_what_can_not_be_followed_is_refused(text):
    with pytest.raises(FollowError, match=r"name configmap/NAME\[#KEY\]"):
        parse_reference(text, POD)


def test_following_wants_to_know_the_namespace_and_the_pod():
    with pytest.raises(FollowError, match="set POD_NAMESPACE"):
        parse_reference("configmap/weights", Pod("", "", ""))
    with pytest.raises(FollowError, match="set POD_NAME"):
        parse_reference("annotation", Pod("", "models", ""))


def test_objects_without_the_key_name_no_uri():
    reference = parse_reference("configmap/weights", POD)
    assert reference.read({"data": {"uri": " s3://b/x.onnx\n"}}) == "s3://b/x.onnx"
    assert [reference.read(item) for item in ({}, {"data": None}, {"data": {"other": "x"}})] == ["", "", ""]


def test_the_state_outlives_a_restart_and_damage(tmp_path):
    file = tmp_path / "watch.json"
    state = State("a", "b", Refused("c", "d", "e"))
    state.write(file)
    assert State.read(file) == state
    for damaged in ("", "{}", "[]", '{"confirmed": "a", "broken": "", "refused": {"x": 1}}'):
        file.write_text(damaged)
        assert State.read(file) == State()


def test_news_is_one_line():
    news = News.of("refused", digest="sha256:aa", because="it is\n  no good")
    assert news.message == "sha256:aa is not tried again until the source changes: it is no good"
    assert (news.severity, news.reason) == ("Warning", "WeightsLoadFailed")


def test_the_commands_of_the_how_to_are_understood():
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    shells, yamls = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("sh", "yaml"))
    typed = [
        shlex.split(line)[1:] for block in shells for line in block.splitlines() if line.startswith("weights-sync")
    ]
    pods = [item for block in yamls for item in yaml.safe_load_all(block) if item["kind"] == "Pod"]
    given = [container["args"] for pod in pods for container in pod["spec"]["initContainers"]]
    assert {words[0] for words in typed} == {"pull", "watch"}
    assert given
    for words in typed + given:
        options = command._parser().parse_args(words)
        if words[0] == "watch":
            assert options.uri or parse_reference(options.follow, POD)


def test_without_the_kubernetes_client_a_watcher_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(FollowError, match=r"install weights-sync\[watch\]"):
        connect()
    events = Events(POD)
    for number in range(3):
        events.tell(News.of("failed", because=f"reason {number}"))
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "no events"


def test_outside_a_cluster_a_watcher_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(FollowError, match="there is no way to a cluster"):
        connect()


def test_outside_a_pod_there_are_no_events(capsys):
    Events(Pod("", "", "")).tell(News.of("failed", because="anything"))
    assert not capsys.readouterr().err
