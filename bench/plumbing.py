"""What serving costs beside the work itself: CPU-ms an image of both servers, less decode, letterbox, graph and NMS.

A client sends one JPEG over gRPC again and again, one request at a time and eight at a time. The predictor's graph is
hollow: its tensors have the real sizes (640x640x3 in, 1000 candidates out) and next to nothing is computed between
them, so that what is measured is not lost in a network's noise. KServe's stock servers, which call the same functions
for the same work, get the same requests in turns with ours. The work is timed where it is done (see timed.py).
Only loopback is used.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import grpc
from hollow import CANDIDATES, OBJECTS, SIDE, hollow_graph
from prometheus_client.parser import text_string_to_metric_families

from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import decode_response, encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.shapes import draw_scene

REQUESTS = int(os.environ.get("BENCH_REQUESTS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
WARM_UP = 50
CALLERS = (1, 8)
STARTUP_S = 180
WORK = ("decode", "letterbox", "graph (hollow)", "NMS")
FIRST_PORTS = {"ours": 17080, "stock": 18080}


@dataclass(frozen=True)
class Server:
    """One of the four processes."""

    name: str
    process: subprocess.Popen[bytes]
    http_port: int

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process and its threads, from its stat file (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def work_s(self) -> dict[str, float]:
        """Return the CPU seconds of each piece of work that is done here."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics") as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        name = "bench_work_cpu_seconds_total"
        samples = [each for family in families for each in family.samples if each.name == name]
        return {sample.labels["piece"]: sample.value for sample in samples}


def main() -> None:
    """Print the tables."""
    jpeg = _picture()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(hollow_graph(CANDIDATES, OBJECTS, SIDE))
        with _started("ours", folder) as ours, _started("stock", folder) as stock:
            for callers in CALLERS:
                # In turns, so that a busy moment of the machine meets both.
                rounds = [[_cpu_ms(servers, jpeg, callers) for servers in (ours, stock)] for _ in range(ROUNDS)]
                _report(callers, *(_medians([each[index] for each in rounds]) for index in range(2)))


def _report(callers: int, ours: dict[str, float], stock: dict[str, float]) -> None:
    heading = (f"{callers} at a time, CPU-ms an image", "ours", "stock SDK", "ratio")
    rows = [(name, f"{mine:.2f}", f"{stock[name]:.2f}", f"{mine / stock[name]:.2f}") for name, mine in ours.items()]
    lines = [f"{name:<34}{mine:>10}{theirs:>12}{ratio:>8}\n" for name, mine, theirs, ratio in (heading, *rows)]
    sys.stdout.write("\n" + "".join(lines))
    sys.stdout.flush()


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _picture() -> bytes:
    scene = draw_scene(7, 720, 1280)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(encoded)


@contextmanager
def _started(whose: str, model_directory: str) -> Iterator[list[Server]]:
    first = FIRST_PORTS[whose]
    protocol = [] if whose == "ours" else ["--predictor_protocol", "grpc-v2"]
    model = ["--model_dir", model_directory] if whose == "ours" else []
    more = {
        "predictor": [*model, "--model_name", "hollow"],
        "transformer": ["--model_name", "hollow", "--predictor_host", f"127.0.0.1:{first + 1}", *protocol],
    }
    servers: list[Server] = []
    try:
        for number, (name, arguments) in enumerate(more.items()):
            ports = ["--http_port", str(first + 2 * number), "--grpc_port", str(first + 2 * number + 1)]
            command = [sys.executable, str(Path(__file__).with_name("timed.py")), whose, name, *ports, *arguments]
            environment = {**os.environ, "KSERVE_LOGLEVEL": "ERROR"}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(command, env=environment, **quiet)  # noqa: S603 (our own)
            servers.append(Server(name, process, first + 2 * number))
            with grpc.insecure_channel(f"127.0.0.1:{first + 2 * number + 1}") as channel:
                grpc.channel_ready_future(channel).result(timeout=STARTUP_S)
        yield servers
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


def _cpu_ms(servers: list[Server], jpeg: bytes, callers: int) -> dict[str, float]:
    """Return the CPU-ms an image of each server, of each piece of work, and of what is left: the plumbing."""
    request = encode_request(InferenceRequest("hollow", (Tensor("image", bytes_array([jpeg])),), RequestContext()))
    with grpc.insecure_channel(f"127.0.0.1:{servers[-1].http_port + 1}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        def send(_: int) -> int:
            return len(decode_response(infer(request, timeout=30, wait_for_ready=True)).outputs)

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(send, range(WARM_UP)))
            before = _clocks(servers)
            answers = list(pool.map(send, range(REQUESTS)))
            after = _clocks(servers)
    if min(answers) == 0:
        raise SystemExit("error: a request came back empty")
    spent = {name: (after[name] - before[name]) / REQUESTS * 1000 for name in before}
    return {**spent, "plumbing": sum(spent[server.name] for server in servers) - sum(spent[piece] for piece in WORK)}


def _clocks(servers: list[Server]) -> dict[str, float]:
    work = {piece: seconds for server in servers for piece, seconds in server.work_s().items() if seconds}
    return {**{server.name: server.cpu_s() for server in servers}, **{piece: work[piece] for piece in WORK}}


if __name__ == "__main__":
    main()
