"""A watcher between a real source and a real predictor: what is new is served without a restart, what is bad is not."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from local.watching import (
    NEW,
    NEWER,
    OLD,
    UNLOADABLE,
    Callers,
    Predictor,
    Source,
    SourceHandler,
    Watcher,
    digest,
    placed,
)
from patience import PATIENCE_S, wait_for


@pytest.fixture
def source() -> Iterator[Source]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SourceHandler)
    server.source = source = Source(url=f"http://127.0.0.1:{server.server_port}/net.onnx")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield source
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def start_predictor(free_ports: Callable[[int], list[int]]) -> Iterator[Callable[..., Predictor]]:
    with contextlib.ExitStack() as stack:

        def start(directory: Path, model: str) -> Predictor:
            http_port, grpc_port = free_ports(2)
            command = [sys.executable, "-m", "yolo_predictor", "--model_dir", directory, "--model_name", model]
            command += ["--host", "127.0.0.1", "--http_port", http_port, "--grpc_port", grpc_port, "--drain_delay", 0]
            predictor = Predictor(directory, http_port, [str(word) for word in command])
            predictor.start()
            stack.callback(predictor.kill)
            return predictor

        yield start


@pytest.fixture(scope="module")
def predictor(start_predictor: Callable[..., Predictor], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Return a predictor with a folder of models, each test's model among them by its own name."""
    models = tmp_path_factory.mktemp("models")
    (models / "first").mkdir()
    (models / "first" / "model.onnx").write_bytes(OLD)
    predictor = start_predictor(models, "unused")
    wait_for(lambda: predictor.digest("first") == digest(OLD))
    return predictor


@pytest.fixture
def start_watcher(tmp_path: Path, predictor: Predictor) -> Iterator[Callable[..., Watcher]]:
    with contextlib.ExitStack() as stack:

        def start(
            source: str, directory: Path, *arguments: object, at: Predictor = predictor, **environment: str
        ) -> Watcher:
            places = [source] if source else []
            command = [sys.executable, "-m", "weights_sync", "watch", *places, directory, "--predictor", at.url]
            command += ["--model", directory.name, "--every", "0.3s", "--metrics_port", 0, *arguments]
            log = tmp_path / f"watcher-{len(list(tmp_path.glob('watcher-*')))}.log"
            watcher = Watcher([str(word) for word in command], log, environment=environment)
            watcher.start()
            stack.callback(watcher.kill)
            return watcher

        yield start


@pytest.fixture
def dest(predictor: Predictor, request: pytest.FixtureRequest) -> Path:
    """Return the directory of a model that is this test's own."""
    return predictor.directory / hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


def test_new_weights_are_served_without_a_restart_and_no_request_is_lost(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    with Callers(f"{predictor.url}/v2/models/{dest.name}") as callers:
        wait_for(lambda: len(callers.digests) > 10)
        source.data = NEW
        wait_for(lambda: callers.digests[-1:] == [digest(NEW)])
    assert not callers.lost
    assert set(callers.digests) == {digest(OLD), digest(NEW)}
    wait_for(lambda: len(watcher.lines("serving")) == 2)
    assert watcher.lines("serving")[-1]["digest"] == digest(NEW)
    assert placed(dest) == digest(NEW)
    assert len(list((dest / ".weights-sync" / "versions").iterdir())) == 2
    assert watcher.stop() == 0


def test_a_source_that_does_not_change_is_asked_for_its_tag_alone(predictor, source, start_watcher, dest):
    start_watcher(source.url, dest)
    wait_for(lambda: source.asked["HEAD 200"] > 4)
    assert source.asked["GET 200"] == 1
    assert predictor.digest(dest.name) == digest(OLD)


def test_a_damaged_version_is_left_alone_until_the_source_changes(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    source.data = NEW[:1000]
    wait_for(lambda: watcher.lines("failed"))
    fetched, heads = source.asked["GET 200"], source.asked["HEAD 200"]
    wait_for(lambda: source.asked["HEAD 200"] > heads + 3)
    assert source.asked["GET 200"] == fetched
    assert watcher.metric('yolo_weights_failures_total{reason="damaged_model"}') == 1
    assert predictor.digest(dest.name) == placed(dest) == digest(OLD)
    source.data = NEW
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


def test_a_version_that_the_predictor_refuses_is_taken_back_and_not_tried_again(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    with Callers(f"{predictor.url}/v2/models/{dest.name}") as callers:
        source.data = UNLOADABLE
        wait_for(lambda: watcher.lines("rolled back"))
        wait_for(lambda: len(callers.digests) > 10)
    assert not callers.lost
    assert set(callers.digests) == {digest(OLD)}
    assert placed(dest) == digest(OLD)
    (refused,) = watcher.lines("refused")
    assert refused["digest"] == digest(UNLOADABLE)
    assert "Could not find an implementation for Conv" in refused["because"]
    assert watcher.lines("rolled back")[0]["digest"] == digest(OLD)
    assert watcher.metric('yolo_weights_failures_total{reason="refused"}') == 1

    # Neither by this watcher nor by the next.
    fetched = source.asked["GET 200"]
    for _ in range(2):
        heads = source.asked["HEAD 200"]
        wait_for(lambda heads=heads: source.asked["HEAD 200"] > heads + 3)
        assert source.asked["GET 200"] == fetched
        assert len(watcher.lines("refused")) == 1
        assert watcher.stop() == 0
        watcher.start()
    source.data = NEW
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


def test_weights_left_as_they_are_and_refused_by_the_predictor_are_taken_back(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest, "--as-it-is")
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    source.data = b"this is no model" * 100
    wait_for(lambda: watcher.lines("rolled back"))
    assert predictor.digest(dest.name) == digest(OLD)
    assert (dest / "model.onnx").read_bytes() == OLD
    source.data = NEW
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


def test_a_first_version_that_is_refused_waits_for_a_better_one(predictor, source, start_watcher, dest):
    source.data = UNLOADABLE
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: watcher.lines("refused"))
    heads = source.asked["HEAD 200"]
    wait_for(lambda: source.asked["HEAD 200"] > heads + 2)
    assert len(watcher.lines("refused")) == 1
    source.data = NEW
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


def test_a_file_on_a_volume_is_followed(predictor, tmp_path, start_watcher, dest):
    file = tmp_path / "net.onnx"
    file.write_bytes(OLD)
    start_watcher(file.as_uri(), dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    file.with_suffix(".next").write_bytes(NEW)
    file.with_suffix(".next").replace(file)
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


@pytest.mark.parametrize("event", ["answering", "pulled", "serving"])
def test_a_watcher_that_is_killed_goes_on_where_things_are(predictor, source, start_watcher, dest, event):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    assert watcher.stop() == 0
    for data in (NEW, NEWER):
        source.data = data
        said = len(watcher.lines(event))
        watcher.start()
        wait_for(lambda said=said: len(watcher.lines(event)) > said)
        assert watcher.stop(signal.SIGKILL) == -signal.SIGKILL
        assert placed(dest) in {digest(OLD), digest(NEW), digest(NEWER)}
        watcher.start()
        wait_for(lambda data=data: predictor.digest(dest.name) == placed(dest) == digest(data))
        watcher.kill()


def test_weights_on_trial_do_not_stay_on_the_disk_while_the_predictor_is_away(
    tmp_path, start_predictor, start_watcher, source
):
    dest = tmp_path / "alone"
    nothing = Predictor(dest, 1, [])
    first = start_watcher(source.url, dest, at=nothing)
    wait_for(lambda: first.get("/readyz").status_code == 200)
    assert first.get("/healthz").status_code == 200
    assert first.stop() == 0
    predictor = start_predictor(dest, "alone")
    watcher = start_watcher(source.url, dest, at=predictor)
    wait_for(lambda: predictor.digest("alone") == digest(OLD))
    wait_for((dest / ".weights-sync" / "watch.json").is_file)  # the watcher has seen it too

    # Placed by a hand that the predictor was not told of, and both die.
    assert watcher.stop(signal.SIGKILL) == -signal.SIGKILL
    predictor.kill()
    subprocess.run([sys.executable, "-m", "weights_sync", "pull", _file(tmp_path), dest], check=True)
    assert placed(dest) == digest(UNLOADABLE)
    watcher.start()
    wait_for(lambda: watcher.lines("held"))
    assert placed(dest) == digest(OLD)
    predictor.start()
    wait_for(lambda: predictor.digest("alone") == digest(OLD))
    source.data = NEW
    wait_for(lambda: predictor.digest("alone") == placed(dest) == digest(NEW))


def _file(folder: Path) -> str:
    file = folder / "unloadable.onnx"
    file.write_bytes(UNLOADABLE)
    return str(file)


def test_sigterm_ends_a_watcher_at_once_in_the_middle_of_a_download(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    source.pause_s, source.data = 3600, NEW
    got = source.asked["GET 200"]
    wait_for(lambda: source.asked["GET 200"] > got)
    assert watcher.stop() == 0
    assert placed(dest) == predictor.digest(dest.name) == digest(OLD)
    source.pause_s = 0
    watcher.start()
    wait_for(lambda: predictor.digest(dest.name) == digest(NEW))


def test_two_watchers_on_one_volume_agree(predictor, source, start_watcher, dest):
    watchers = [start_watcher(source.url, dest) for _ in range(2)]
    for data in (OLD, NEW, UNLOADABLE, NEWER):
        source.data = data
        wanted = digest(NEW if data is UNLOADABLE else data)
        if data is UNLOADABLE:
            wait_for(lambda: any(watcher.lines("refused") for watcher in watchers))
        wait_for(lambda wanted=wanted: predictor.digest(dest.name) == placed(dest) == wanted)
    assert [watcher.stop() for watcher in watchers] == [0, 0]


def test_the_metrics_tell_what_it_cost_and_which_weights_there_are(predictor, source, start_watcher, dest):
    watcher = start_watcher(source.url, dest)
    wait_for(lambda: predictor.digest(dest.name) == digest(OLD))
    labels = f'digest="{digest(OLD)}",directory="{dest}",family="yolov8",task="detect"'
    wait_for(lambda: watcher.metric(f"yolo_weights_version_info{{{labels}}}") == 1)
    assert watcher.metric("yolo_weights_bytes_total") == len(OLD)
    for stage in ("check", "pull", "prepare", "load"):
        assert watcher.metric(f'yolo_weights_seconds_count{{stage="{stage}"}}') >= 1
    assert watcher.metric("yolo_weights_last_success_timestamp_seconds") > time.time() - PATIENCE_S
    assert watcher.get("/healthz").status_code == 200
    assert watcher.get("/nothing").status_code == 404
    source.data = NEW
    labels = labels.replace(digest(OLD), digest(NEW))
    wait_for(lambda: watcher.metric(f"yolo_weights_version_info{{{labels}}}") == 1)
    assert watcher.get("/metrics").text.count("yolo_weights_version_info{") == 1
