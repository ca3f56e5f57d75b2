"""A source of weights, a watcher, a predictor and its callers, each as real as it gets, and what they deal in."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

import httpx2
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from patience import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("tiny_networks", ROOT / "weights-sync" / "tests" / "tiny_networks.py")
tiny_networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny_networks)


def network(author: str, *, side: int = 64) -> ModelProto:
    """Return a small detector; another author is another file."""
    return tiny_networks.yolov8(size=side, author=author)


def unloadable() -> bytes:
    """Return a network that prepares well, and that ONNX Runtime has no kernel for: a convolution of doubles."""
    model = network("unloadable")
    for node in model.graph.node:
        node.input[:] = ["narrow" if name == "images" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3).reshape(3, 3, 1, 1), "eye"))
    wide = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Conv", ["wide", "eye"], ["mixed"]),
        helper.make_node("Cast", ["mixed"], ["narrow"], to=TensorProto.FLOAT),
    ]
    for place, node in enumerate(wide):
        model.graph.node.insert(place, node)
    return model.SerializeToString()


OLD, NEW, NEWER = (network(author).SerializeToString() for author in ("old", "new", "newer"))
UNLOADABLE = unloadable()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def placed(directory: Path) -> str:
    """Return the digest on the card of the model in a directory."""
    file = directory / "model.onnx"
    spelled = file.read_bytes() if file.is_file() else b""
    return next((name for data in (OLD, NEW, NEWER, UNLOADABLE) if (name := digest(data)).encode() in spelled), "")


@dataclass
class Source:
    """A web server with one file, whose ETag is what it holds."""

    data: bytes = OLD
    pause_s: float = 0
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""


class SourceHandler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(self.server.source)

    def do_GET(self) -> None:
        source = self.server.source
        if self.path.endswith(".sha256"):
            self.send_error(404)
            return
        data = source.data
        if self._answer(source) == 200:
            for at in range(0, len(data), 4096):
                self.wfile.write(data[at : at + 4096])
                time.sleep(source.pause_s)

    def _answer(self, source: Source) -> int:
        tag = f'"{digest(source.data)}"'
        status = 304 if self.headers["If-None-Match"] == tag else 200
        source.asked[f"{self.command} {status}"] += 1
        self.send_response(status)
        self.send_header("ETag", tag)
        if status == 200:
            self.send_header("Content-Length", str(len(source.data)))
        self.end_headers()
        return status

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


@dataclass
class Predictor:
    """A predictor's process on a directory of models."""

    directory: Path
    port: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL, start_new_session=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def digest(self, model: str) -> str:
        try:
            answer = httpx2.get(f"{self.url}/v2/models/{model}", timeout=10)
        except httpx2.TransportError:
            return ""
        return answer.json().get("properties", {}).get("model.digest", "")


@dataclass
class Watcher:
    """A watcher's process, and its log."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log, env=environment)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what it said of something."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def get(self, path: str) -> httpx2.Response:
        wait_for(lambda: self.lines("answering"))
        return httpx2.get(f"http://127.0.0.1:{self.lines('answering')[-1]['port']}{path}", timeout=10)

    def metric(self, sample: str) -> float:
        found = [line for line in self.get("/metrics").text.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0


@dataclass
class Callers:
    """Clients that ask a model without a pause: which weights answered, and what was lost."""

    url: str
    digests: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask(self) -> None:
        picture = {"name": "images", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": [0] * (64 * 64 * 3)}
        with httpx2.Client(timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self.url}/infer", json={"inputs": [picture]})
                except httpx2.HTTPError as error:
                    self.lost.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.digests.append(answer.json()["parameters"]["model.digest"])
                else:
                    self.lost.append(answer.text)
