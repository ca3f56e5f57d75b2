"""The command and where it reads from, over real files and a real server on loopback."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import onnx
import pytest
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync import catalogue as catalogue_module
from weights_sync import limits, metrics
from weights_sync.catalogue import Entry, catalogue
from weights_sync.prepare import checks, is_prepared

DATA = yolov8().SerializeToString()
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(DATA)
    return file


@pytest.fixture
def site(monkeypatch):
    """Serve DATA at /net.onnx; other paths misbehave as they say. Return the address."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", "/net.onnx" if self.path == "/moved" else "http://192.0.2.1/net.onnx")
                self.end_headers()
            elif self.path.startswith("/missing"):
                self.send_error(404)
            else:
                self.send_response(200)
                length = len(DATA) + (100 if self.path == "/broken" else 0)
                if self.path != "/endless":
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(DATA[: len(DATA) // 2] if self.path == "/stalled" else DATA)
                if self.path == "/stalled":
                    ended.wait(60)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    ended.set()
    server.shutdown()
    server.server_close()


def visible(directory):
    """Return the names of what a person and a predictor see in a model directory."""
    return sorted(file.name for file in directory.iterdir() if not file.name.startswith("."))


def fails(capsys, *arguments):
    """Run a command that must fail; return its one line."""
    assert command.main([str(argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_pull_places_a_prepared_model_and_says_what_it_found(model, tmp_path, capsys):
    assert command.main(["pull", str(model), str(tmp_path / "a"), model.as_uri(), str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "family", "task", "labels", "size", "versions", "digest"]
    for line, name in zip(lines[1:], "ab", strict=True):
        placed = tmp_path / name / "model.onnx"
        assert line.split() == [str(placed), "yolov8", "detect", "3", "64x64", "1", f"sha256:{DIGEST}"]
        assert is_prepared(onnx.load(placed))
        assert visible(placed.parent) == ["model.onnx"]


def test_pull_ends_with_a_summary_for_who_reads_the_log(site, tmp_path, capsys):
    metrics_file = tmp_path / "weights.prom"
    before = metrics.summary()["bytes"]
    pull = ["pull", f"{site}/net.onnx", str(tmp_path / "a"), "--metrics_file", str(metrics_file)]
    assert command.main(pull) == 0
    summary = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert summary["event"] == "pulled"
    assert summary["bytes"] == before + len(DATA)
    assert {"pull", "prepare"} <= set(summary["seconds"])
    assert summary["models"] == [
        {
            "model": str(tmp_path / "a" / "model.onnx"),
            "family": "yolov8",
            "task": "detect",
            "labels": "3",
            "size": "64x64",
            "versions": "1",
            "digest": f"sha256:{DIGEST}",
        }
    ]
    assert (
        f'yolo_weights_version_info{{digest="sha256:{DIGEST}",directory="{tmp_path / "a"}"' in metrics_file.read_text()
    )

    assert command.main([*pull[:1], f"{site}/missing", *pull[2:], "--attempts", "1"]) == 1
    assert 'yolo_weights_failures_total{reason="source"}' in metrics_file.read_text()
    nowhere = tmp_path / "none" / "x.prom"
    assert command.main([*pull[:3], "--metrics_file", str(nowhere)]) == 1
    assert f"can not write the metrics to {nowhere}" in capsys.readouterr().err.splitlines()[-1]


def test_a_pull_that_is_told_to_stop_ends_at_once_and_places_nothing(site, tmp_path):
    run = [sys.executable, "-m", "weights_sync", "pull", f"{site}/stalled", tmp_path / "a"]
    with subprocess.Popen(run, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("a/.weights-sync/incoming/*.part")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(25) == 128 + signal.SIGTERM
    assert visible(tmp_path / "a") == []


def test_watch_wants_to_know_what_to_watch(tmp_path, capsys):
    for arguments in ([str(tmp_path), "--model", "m"], [str(tmp_path), str(tmp_path)], ["a", "b", "c", "--model", "m"]):
        with pytest.raises(SystemExit):
            command.main(["watch", *arguments])
    err = capsys.readouterr().err
    assert "watch wants URI and DEST, or DEST and --follow" in err
    assert "required: --model" in err


@pytest.mark.parametrize("verb", ["pull", "prepare"])
def test_a_prepared_model_is_placed_as_it_is(verb, model, tmp_path):
    assert command.main(["prepare", str(model), str(tmp_path / "first.onnx")]) == 0
    prepared = tmp_path / "first.onnx"
    # As another writer of protobuf may leave it: this one's would put the producer elsewhere.
    prepared.write_bytes(prepared.read_bytes() + b"\x12\x05tests")
    assert command.main([verb, str(prepared), str(tmp_path / "dest")]) == 0
    assert (tmp_path / "dest" / "model.onnx").read_bytes() == prepared.read_bytes()


def test_pull_wants_pairs(model, capsys):
    with pytest.raises(SystemExit):
        command.main(["pull", str(model)])
    assert "stands alone" in capsys.readouterr().err


def test_bare_pairs_of_uri_and_destination_mean_pull(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["weights-sync", model.as_uri(), str(tmp_path / "a"), "yolo://shapes", str(tmp_path)]
    )
    assert command.main() == 0
    assert is_prepared(onnx.load(tmp_path / "a" / "model.onnx"))
    assert is_prepared(onnx.load(tmp_path / "model.onnx"))
    with pytest.raises(SystemExit):
        command.main([model.as_uri()])
    assert "stands alone" in capsys.readouterr().err


def test_a_failed_pull_leaves_the_model_before_it(model, tmp_path, capsys):
    command.main(["pull", str(model), str(tmp_path / "a")])
    capsys.readouterr()
    before = (tmp_path / "a" / "model.onnx").read_bytes()
    model.write_bytes(DATA[:500])
    assert "cut short" in fails(capsys, "pull", model, tmp_path / "a")
    assert (tmp_path / "a" / "model.onnx").read_bytes() == before
    assert visible(tmp_path / "a") == ["model.onnx"]


def test_the_sha256_in_a_uri_is_checked(model, tmp_path, capsys):
    assert command.main(["pull", f"{model}#sha256={DIGEST.upper()}", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    wrong = fails(capsys, "pull", f"{model}#sha256={'0' * 64}", tmp_path / "b")
    assert f"sha256 is {DIGEST}, not 000" in wrong
    assert visible(tmp_path / "b") == []
    assert "64 hexadecimal digits" in fails(capsys, "pull", f"{model}#sha256=12", tmp_path / "b")


def test_pull_downloads_and_follows_redirects(site, tmp_path, capsys):
    for path in ("/net.onnx", "/moved", "/endless"):
        assert command.main(["pull", f"{site}{path}#sha256={DIGEST}", str(tmp_path / "a")]) == 0
    assert DIGEST in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing.onnx?token=secret", "/missing.onnx answered 404 Not Found\n"),
        ("/broken", "can not download"),
        ("/moved-away", "http://192.0.2.1/net.onnx is not encrypted"),
    ],
)
def test_a_download_that_fails_says_why_and_keeps_secrets(site, tmp_path, capsys, path, reason):
    line = fails(capsys, "pull", f"{site}{path}", tmp_path / "a", "--attempts", 1)
    assert reason in line
    assert "secret" not in line
    assert visible(tmp_path / "a") == []


@pytest.mark.parametrize(("path", "reason"), [("/net.onnx", f"has {len(DATA)} bytes"), ("/endless", "has more than")])
def test_a_download_stops_at_the_limit(site, tmp_path, capsys, path, reason):
    assert f"{path} {reason}" in fails(capsys, "pull", f"{site}{path}", tmp_path / "a", "--max-bytes", len(DATA) - 1)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://192.0.2.1/net.onnx", "not encrypted: use https"),
        ("http://user:secret@192.0.2.1/net.onnx", "not encrypted: use https"),
        ("https://", "names no host"),
        ("https://127.0.0.1:1/net.onnx", "can not download https://127.0.0.1:1/net.onnx"),
        (
            "ftp://host/net.onnx",
            "can not read ftp: URIs; there are az, file, gs, hf, http, https, oci, package, pvc, s3",
        ),
        ("file://elsewhere/net.onnx", "of this machine"),
        ("pvc://claim/../../etc/passwd", "names a file on a claim"),
        ("pvc://claim/net.onnx", "no file /mnt/pvc/net.onnx"),
        ("package:../../net.onnx", "inside weights-sync"),
        ("package:models/none.onnx", "comes without models/none.onnx"),
        ("yolo://none", "no model 'none' in the catalogue; there are shapes, yolox-nano"),
        ("/nowhere/net.onnx", "no file /nowhere/net.onnx"),
        ("x" * 5000, "can not read"),
    ],
)
def test_a_source_that_can_not_be_read_is_named(tmp_path, capsys, uri, reason):
    line = fails(capsys, "pull", uri, tmp_path / "a", "--attempts", 1)
    assert reason in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("ALLOW_HTTP", "maybe", "WEIGHTS_SYNC_ALLOW_HTTP is 'maybe': say true or false"),
        ("ATTEMPTS", "many", "argument --attempts: invalid int value: 'many'"),
    ],
)
def test_a_setting_of_the_environment_that_is_none_is_refused_by_its_name(name, value, complaint, capsys, monkeypatch):
    monkeypatch.setenv(f"WEIGHTS_SYNC_{name}", value)
    with pytest.raises(SystemExit):
        command.main(["yolo://shapes", "served"])
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(("value", "prepared"), [("true", False), ("0", True)])
def test_the_environment_stands_for_the_flags_that_kserve_can_not_pass(value, prepared, model, tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_SYNC_AS_IT_IS", value)
    assert command.main([model.as_uri(), str(tmp_path / "served")]) == 0
    assert is_prepared(onnx.load(tmp_path / "served" / "model.onnx")) == prepared


def test_a_named_model_comes_from_the_first_source_that_has_it(model, site, tmp_path, capsys, monkeypatch):
    entry = Entry("mine", (f"{site}/missing", f"{site}/net.onnx"), "MIT", "yolov8", "detect", DIGEST, len(DATA))
    monkeypatch.setitem(catalogue(), "mine", entry)
    assert command.main(["pull", "yolo://mine", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    wrong = Entry("wrong", (f"{site}/net.onnx", f"{site}/missing"), "MIT", "yolov8", "detect", "0" * 64, len(DATA))
    monkeypatch.setitem(catalogue(), "wrong", wrong)
    line = fails(capsys, "pull", "yolo://wrong", tmp_path / "b")
    assert "no source of wrong gave it: the bytes are not the ones asked for" in line
    assert "answered 404" in line


def test_the_catalogue_is_listed_with_licences(capsys):
    assert command.main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["shapes", "yolov8", "segment", "Apache-2.0"],
        ["yolox-nano", "yolox", "detect", "Apache-2.0"],
    ]
    assert lines[2][4] == "3660092"


def test_every_catalogue_entry_from_the_web_has_a_digest_and_a_size():
    for entry in catalogue_module.catalogue().values():
        assert entry.sources
        if not entry.sources[0].startswith("package:"):
            assert len(entry.sha256) == 64
            assert entry.bytes > 0


def test_prepare_takes_options_and_writes_a_file_or_into_a_directory(model, tmp_path, capsys):
    arguments = ["prepare", str(model), str(tmp_path / "few.onnx"), "--candidates", "5", "--family", "yolov8"]
    assert command.main(arguments) == 0
    assert command.main(["prepare", str(model), str(tmp_path / "all")]) == 0
    capsys.readouterr()
    few, everything = onnx.load(tmp_path / "few.onnx"), onnx.load(tmp_path / "all" / "model.onnx")
    counts = [net.graph.output[0].type.tensor_type.shape.dim[1].dim_value for net in (few, everything)]
    assert counts == [5, 84]
    assert "no family" in fails(capsys, "prepare", model, tmp_path / "x", "--family", "resnet")


def test_verify_tells_a_prepared_model_from_another(model, tmp_path, capsys):
    command.main(["prepare", str(model), str(tmp_path / "a")])
    assert command.main(["verify", str(tmp_path / "a")]) == 0
    assert DIGEST in capsys.readouterr().out
    placed = tmp_path / "a" / "model.onnx"
    placed.write_bytes(DATA)
    assert "is not prepared" in fails(capsys, "verify", tmp_path / "a")
    placed.write_bytes(DATA[:400])
    assert "cut short" in fails(capsys, "verify", tmp_path / "a")
    assert "can not read model.onnx" in fails(capsys, "verify", tmp_path / "nowhere")


def test_a_destination_that_can_not_be_written_is_named(model, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "can not write" in fails(capsys, "pull", model, tmp_path / "file" / "a")
    (tmp_path / "folder.onnx").mkdir()
    before = set(tmp_path.iterdir())
    assert "can not write" in fails(capsys, "prepare", model, tmp_path / "folder.onnx")
    assert set(tmp_path.iterdir()) == before


def test_the_default_model_comes_with_the_package(tmp_path, capsys):
    assert command.main(["pull", "yolo://shapes", str(tmp_path / "a")]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    entry = catalogue()["shapes"]
    assert row[1:3] == [entry.family, entry.task]


def test_rollback_serves_the_version_before(model, tmp_path, capsys):
    assert command.main(["pull", str(model), str(tmp_path / "a")]) == 0
    first = (tmp_path / "a" / "model.onnx").read_bytes()
    capsys.readouterr()
    assert "no version before" in fails(capsys, "rollback", tmp_path / "a")
    assert command.main(["pull", str(model), str(tmp_path / "a"), "--candidates", "5"]) == 0
    assert (tmp_path / "a" / "model.onnx").read_bytes() != first
    assert command.main(["rollback", str(tmp_path / "a")]) == 0
    assert hashlib.sha256(first).hexdigest() in capsys.readouterr().out
    assert (tmp_path / "a" / "model.onnx").read_bytes() == first
    assert "there is no" in fails(capsys, "rollback", tmp_path / "nowhere")


def test_the_limits_of_fetching_and_preparing_are_the_same():
    assert limits.MAX_BYTES == checks.MAX_BYTES
