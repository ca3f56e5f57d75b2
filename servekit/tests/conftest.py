"""Servers as processes of their own, spoken to over sockets as clients do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from hypothesis import HealthCheck, settings

from servekit.rpc.messages import SERVICE, message_class

_HERE = Path(__file__).parent
_PATIENCE_S = 60.0

# The machines that run this are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """A server under test; `http` and `rpc` talk to it, `log` reads what it wrote."""

    def __init__(self, program: str, log_path: Path, options: dict[str, Any]) -> None:
        self.options = options
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log_path = log_path
        self.log_file = log_path.open("wb")
        command = [sys.executable, str(_HERE / program), str(self.http_port), str(self.grpc_port)]
        command += [json.dumps(options)] if options else []
        # Most of a start is imports, and most of those is compiling: once is enough.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.process = subprocess.Popen(command, stdout=self.log_file, stderr=self.log_file, env=environment)
        self.url = f"http://127.0.0.1:{self.http_port}"
        # The stock server hangs up after an error, which would fail the next request on a pooled connection.
        pooled = 0 if program == "stock_server.py" else 20
        limits = httpx2.Limits(max_keepalive_connections=pooled)
        self.http = httpx2.Client(base_url=self.url, timeout=_PATIENCE_S, limits=limits)
        self.channel = self.open_channel()

    def open_channel(self) -> grpc.Channel:
        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if condition():
                    return
            assert self.process.poll() is None, self.log_path.read_text()[-2000:]
            assert time.monotonic() < end, self.log_path.read_text()[-2000:]
            time.sleep(0.05)

    def wait_live(self) -> ServerProcess:
        self.wait_until(lambda: self.http.get("/v2/health/live").status_code == 200)
        return self

    def wait_ready(self) -> ServerProcess:
        self.wait_until(lambda: self.http.get("/v2/health/ready").status_code == 200)
        return self

    def rpc(self, call: str, data: bytes | None = None, metadata: Any = None, timeout_s: float = 60, **fields: Any):
        """Answer of a gRPC call; the request is `data` as it is, or a message of `fields`."""
        request = message_class(f"{call}Request")(**fields).SerializeToString() if data is None else data
        method = self.channel.unary_unary(
            f"/{SERVICE}/{call}", response_deserializer=message_class(f"{call}Response").FromString
        )
        return method(request, timeout=timeout_s, metadata=metadata)

    def rpc_error(self, call: str, data: bytes | None = None, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.rpc(call, data, **fields)
        return caught.value.code(), caught.value.details()

    def infer(self, *inputs: dict[str, Any], model: str = "echo", **document: Any) -> httpx2.Response:
        return self.http.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs), **document})

    def infer_binary(self, *tensors: tuple[str, str, list[int], bytes], **document: Any) -> httpx2.Response:
        """Infer with binary inputs: name, datatype, shape and raw bytes of each."""
        inputs = [
            {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
            for name, datatype, shape, raw in tensors
        ]
        head = json.dumps({"inputs": inputs, **document}).encode()
        headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
        body = head + b"".join(raw for *_, raw in tensors)
        return self.http.post("/v2/models/echo/infer", content=body, headers=headers)

    def in_flight(self) -> float:
        return self.metric("yolo_requests_in_flight{") - 1  # the scrape itself

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def log_of(self, request_id: str) -> list[dict[str, Any]]:
        """Return the lines of one request, once it has any."""
        self.wait_until(lambda: request_id in self.log_path.read_text())
        return [line for line in self.log() if line.get("request_id") == request_id]

    def metric(self, line_begin: str) -> float:
        found = [line for line in self.http.get("/metrics").text.splitlines() if line.startswith(line_begin)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Signal the process and return its exit code."""
        self.process.send_signal(sig)
        return self.process.wait(_PATIENCE_S)

    def close(self) -> None:
        self.http.close()
        self.channel.close()
        self.process.kill()
        self.process.wait()
        self.log_file.close()


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Iterator[Callable[..., ServerProcess]]:
    """Starts an echo server with options; it ends with the session at the latest."""
    folder = tmp_path_factory.mktemp("servers")
    started: list[ServerProcess] = []

    def begin(program: str = "echo_server.py", **options: Any) -> ServerProcess:
        started.append(ServerProcess(program, folder / f"{len(started)}.log", options))
        return started[-1]

    yield begin
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def gate(tmp_path_factory) -> Path:
    """The file that the server "loading" waits for."""
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="session")
def servers(start, gate) -> dict[str, ServerProcess]:
    """Those that several tests share, begun together: most of their start is imports."""
    return {
        "server": start(max_body_bytes=16 << 20, drain_delay=0, workers=8),
        "stock": start("stock_server.py"),
        "loading": start(gate=str(gate)),
        "draining": start(drain_delay=30, grace_period=30),
        "overdue": start(drain_delay=0, grace_period=1),
        "endless": start(gate="/there/is/no/such/file"),
    }


@pytest.fixture(scope="session")
def server(servers) -> ServerProcess:
    """The echo server that most tests share: 16 MiB of body, one computing thread, four may wait."""
    return servers["server"].wait_ready()


@pytest.fixture(scope="session")
def stock(servers) -> ServerProcess:
    """KServe's own `ModelServer` with a model of the same kind: what servekit mends must fail there."""
    return servers["stock"].wait_live()


@pytest.fixture
def x() -> dict[str, Any]:
    """An input that any test can send."""
    return {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}
