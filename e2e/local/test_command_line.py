"""The `yolo-kserve` command as a person meets it: what it prints, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import httpx2
import pytest

from yolo_client.client import Client, RequestFailed
from yolo_client.local import LocalOptions, LocalServers
from yolo_client.shapes import draw_scene

COMMAND = [sys.executable, "-m", "yolo_client"]
PORT_OPTIONS = ("--http-port", "--grpc-port", "--predictor-http-port", "--predictor-grpc-port")


@pytest.fixture
def ports(free_ports: Callable[[int], list[int]]) -> list[str]:
    """Return options that choose free ports."""
    return [word for pair in zip(PORT_OPTIONS, map(str, free_ports(4)), strict=True) for word in pair]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def test_the_demo_finds_every_shape_and_leaves_annotated_pictures(
    cache: Path, ports: list[str], tmp_path: Path
) -> None:
    done = run("demo", "--out", str(tmp_path / "out"), *ports)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every shape was found" in done.stdout
    pictures = sorted((tmp_path / "out").glob("*.jpg"))
    assert len(pictures) == 4
    for path in pictures:
        seed = int(path.stem.removeprefix("shapes-"))
        annotated, plain = cv2.imread(str(path)), draw_scene(seed, 480, 640).image
        assert annotated.shape == plain.shape
        changed = cv2.absdiff(annotated, cv2.cvtColor(plain, cv2.COLOR_RGB2BGR)).max(axis=2) > 60
        assert changed.any(), "nothing was drawn"


@pytest.mark.parametrize("option", PORT_OPTIONS)
def test_a_taken_port_ends_in_one_clear_line(cache: Path, ports: list[str], option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports[ports.index(option) + 1] = port
        done = run("up", *ports)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: port {port} is taken: stop what listens there, or choose another with the port options"
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_being_told_to_end_stops_both_servers_and_says_so(cache: Path, ports: list[str], number: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, "up", *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    url = f"http://127.0.0.1:{ports[1]}"
    wait_until_ready(url, process)
    children = child_pids(process.pid)
    assert len(children) == 2
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    with Client(url) as client:
        for _ in range(1200):
            if client.ready():
                return
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("not ready")


def child_pids(pid: int) -> list[int]:
    """Return the processes that a process started (proc(5): stat's fourth field is the parent)."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return children


@pytest.mark.parametrize(
    ("weights", "message"),
    [("yolo://no-such-model", "no-such-model"), ("/no/such/file.onnx", "file.onnx"), ("gopher://x/y.onnx", "gopher")],
)
def test_weights_that_can_not_be_had_end_in_one_line(cache: Path, ports: list[str], weights: str, message: str) -> None:
    done = run("up", "--weights", weights, *ports)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.fixture(scope="module")
def served(serve: Callable[..., LocalOptions]) -> LocalOptions:
    return serve()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(draw_scene(1, 480, 640).image, cv2.COLOR_RGB2BGR))
    return path


def test_detect_prints_a_table_and_draws(served: LocalOptions, picture: Path, tmp_path: Path) -> None:
    done = run("detect", str(picture), "--url", served.url, "--out", str(tmp_path / "drawn"))
    assert done.returncode == 0, done.stderr
    assert "heart" in done.stdout
    assert cv2.imread(str(tmp_path / "drawn" / "scene.jpg")).shape == (480, 640, 3)


def test_detect_prints_json(served: LocalOptions, picture: Path) -> None:
    done = run("detect", str(picture), "--url", served.url, "--json", "--conf", "0.5")
    (line,) = done.stdout.splitlines()
    document = json.loads(line)
    assert {found["label"] for found in document["detections"]} >= {"heart"}
    assert all(found["score"] >= 0.5 for found in document["detections"])


def test_detect_without_a_server_ends_in_one_line(picture: Path, free_ports: Callable[[int], list[int]]) -> None:
    done = run("detect", str(picture), "--url", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no server answers" in done.stderr


def test_detect_on_something_else_shows_the_servers_line(served: LocalOptions, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a picture at all")
    done = run("detect", str(text), "--url", served.url)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_predictor_that_goes_away_is_told_apart_from_a_bad_picture(
    start_servers: Callable[..., LocalServers], picture: Path
) -> None:
    servers = start_servers()
    predictor = next(process for name, process in servers.processes if name == "predictor")
    predictor.send_signal(signal.SIGINT)
    predictor.wait(60)
    with (
        Client(servers.options.url) as client,
        pytest.raises(RequestFailed, match="the predictor can't be reached") as e,
    ):
        client.detect(picture.read_bytes())
    assert e.value.status == 503
    response = httpx2.post(f"{servers.options.url}/inference/detect", content=picture.read_bytes())
    assert response.headers["retry-after"] == "1"
