"""The images do their work: weights arrive, and a picture's shapes are found and drawn."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from container import Container, Image

from yolo_client.client import Client
from yolo_client.demo import generated_samples, mistakes

_STARTUP_S = 240


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers in containers; their logs are JSON lines in files."""

    predictor: Container
    transformer: Container
    url: str
    logs: dict[str, Path]


@pytest.fixture(scope="module")
def volume(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the pods of a model share: a folder that the init container filled."""
    volume = tmp_path_factory.mktemp("mnt")
    volume.chmod(0o755)
    (volume / "models").mkdir()
    (volume / "models").chmod(0o777)
    done = images["weights-sync"].run("yolo://shapes", "/mnt/models", volume=volume)
    assert done.returncode == 0, done.stderr
    return volume


@pytest.fixture(scope="module")
def servers(
    images: dict[str, Image],
    volume: Path,
    free_ports: Callable[[int], list[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    """Return both servers, ready."""
    http, grpc, predictor_http, predictor_grpc = free_ports(4)
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("logs")

        def start(name: str, *arguments: str, **options: object) -> Container:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            container = images[name].start(
                "--host=127.0.0.1", *arguments, stdout=log, stderr=subprocess.STDOUT, **options
            )
            stack.callback(container.stop)
            return container

        predictor = start(
            "predictor",
            "--model_name=shapes",
            f"--http_port={predictor_http}",
            f"--grpc_port={predictor_grpc}",
            volume=volume,
        )
        transformer = start(
            "transformer", f"--http_port={http}", f"--grpc_port={grpc}", f"--predictor_host=127.0.0.1:{predictor_grpc}"
        )
        logs = {name: folder / f"{name}.log" for name in ("predictor", "transformer")}
        servers = Servers(predictor, transformer, f"http://127.0.0.1:{http}", logs)
        _wait_until_ready(servers)
        yield servers


def test_weights_arrive_where_the_predictor_reads_them(volume):
    assert (volume / "models" / "model.onnx").stat().st_size > 100_000


def test_pictures_are_answered_and_drawn(servers):
    with Client(servers.url) as client:
        for sample in generated_samples():
            answer = client.detect(sample.data, return_image=True, confidence_threshold=0.5)
            assert mistakes(sample.scene, answer) == []
            drawn = cv2.imdecode(np.frombuffer(answer.annotated, np.uint8), cv2.IMREAD_COLOR)
            assert drawn.shape[2] == 3


def test_sigterm_ends_the_first_process_orderly_and_its_log_is_json(servers):
    assert [servers.transformer.terminate(), servers.predictor.terminate()] == [0, 0]
    for log in servers.logs.values():
        events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        assert events[-1] == "stopped"
        assert "ready" in events


def _wait_until_ready(servers: Servers) -> None:
    deadline = time.monotonic() + _STARTUP_S
    with Client(servers.url) as client:
        while not client.ready():
            ended = [c.process.poll() for c in (servers.predictor, servers.transformer)]
            text = "\n".join(log.read_text() for log in servers.logs.values())
            assert ended == [None, None], text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
