"""What serving costs beside the work itself: CPU-ms an image of both servers, less decode, letterbox, graph and NMS.

A client sends one JPEG over gRPC again and again, one request at a time and eight at a time. The predictor's graph is
hollow: its tensors have the real sizes (640x640x3 in, 1000 candidates out) and next to nothing is computed between
them, so that what is measured is not lost in a network's noise. The work is timed in the same run by calling the same
functions in this process, and KServe's stock servers, which do none of it, get the same requests in turns with ours.
Only loopback is used.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import grpc
import numpy as np
from hollow import candidates, hollow_graph

from servekit.cpus import available_cpus
from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import decode_response, encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.local import LocalOptions, LocalServers
from yolo_client.shapes import draw_scene
from yolo_predictor.session import Session, SessionOptions
from yolo_transformer.images import PictureLimits, decode
from yolo_transformer.letterbox import Placement, letterbox_into, plan
from yolo_transformer.nms import select

REQUESTS = int(os.environ.get("BENCH_REQUESTS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CALLERS = (1, 8)
SIDE = 640
CANDIDATES = 1000
OBJECTS = 50
STOCK_PORTS = {"transformer": (18080, 18081), "predictor": (19080, 19081)}


def main() -> None:
    """Print the tables."""
    jpeg = _picture()
    graph = hollow_graph(CANDIDATES, OBJECTS, SIDE)
    with tempfile.TemporaryDirectory() as folder, _ours(graph, Path(folder)) as ours, _stock() as stock:
        for callers in CALLERS:
            # In turns, so that a busy moment of the machine meets all of them.
            rounds = [
                (
                    _work(jpeg, graph, callers),
                    _served(ours, 8081, jpeg, callers),
                    _served(stock, STOCK_PORTS["transformer"][1], jpeg, callers),
                )
                for _ in range(ROUNDS)
            ]
            work, mine, theirs = (_medians([each[index] for each in rounds]) for index in range(3))
            _report(callers, work, mine, theirs)


def _report(callers: int, work: dict[str, float], mine: dict[str, float], theirs: dict[str, float]) -> None:
    plumbing, stock = sum(mine.values()) - sum(work.values()), sum(theirs.values())
    rows = [(f"{callers} at a time", "CPU-ms an image"), *((name, f"{value:.2f}") for name, value in mine.items())]
    rows += [(f"less {name}", f"{value:.2f}") for name, value in work.items()]
    rows += [("plumbing", f"{plumbing:.2f}"), ("stock SDK, plumbing alone", f"{stock:.2f}")]
    rows += [("plumbing / stock SDK", f"{plumbing / stock:.2f}")]
    sys.stdout.write("\n" + "".join(f"{name:<30}{value:>16}\n" for name, value in rows))
    sys.stdout.flush()


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _picture() -> bytes:
    scene = draw_scene(7, 720, 1280)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(encoded)


@contextmanager
def _ours(graph: bytes, folder: Path) -> Iterator[dict[str, int]]:
    path = folder / "hollow.onnx"
    path.write_bytes(graph)
    os.environ["XDG_CACHE_HOME"] = str(folder)
    with LocalServers(LocalOptions("hollow", str(path), log_directory=folder / "logs")) as servers:
        yield {name: process.pid for name, process in servers.processes}


@contextmanager
def _stock() -> Iterator[dict[str, int]]:
    predictor = f"127.0.0.1:{STOCK_PORTS['predictor'][1]}"
    more = {"transformer": ["--predictor_host", predictor, "--predictor_protocol", "grpc-v2"], "predictor": []}
    processes = {}
    for name, (http_port, grpc_port) in STOCK_PORTS.items():
        command = [sys.executable, str(Path(__file__).with_name("stock.py")), name, "--http_port", str(http_port)]
        command += ["--grpc_port", str(grpc_port), *more[name]]
        environment = {**os.environ, "KSERVE_LOGLEVEL": "ERROR"}
        processes[name] = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 (our own)
    try:
        _wait_for_stock()
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _wait_for_stock() -> None:
    for _, grpc_port in STOCK_PORTS.values():
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)


def _work(jpeg: bytes, graph: bytes, callers: int) -> dict[str, float]:
    """Return the CPU-ms of each piece of work, called as functions in as many threads as the servers use."""
    cv2.setNumThreads(1)
    limits = PictureLimits()
    image = decode(jpeg, limits)
    placed = plan(image.shape[0], image.shape[1], SIDE, SIDE, Placement.CENTER)
    session = Session(graph, SessionOptions("cpu", 1))
    boxes, scores, class_ids = (array[0] for array in candidates(CANDIDATES, OBJECTS, SIDE).values())

    def letterbox() -> None:
        letterbox_into(image, _canvas()[0], placed)

    pieces: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(jpeg, limits),
        "letterbox": letterbox,
        "graph (hollow)": lambda: session.run(_canvas()),
        "NMS": lambda: select(boxes, scores, class_ids, confidence=0.25, iou=0.65, max_detections=300),
    }
    return {name: _cpu_ms(piece, min(callers, available_cpus())) for name, piece in pieces.items()}


_canvases = threading.local()


def _canvas() -> np.ndarray:
    if not hasattr(_canvases, "array"):
        _canvases.array = np.empty((1, SIDE, SIDE, 3), np.uint8)
    return _canvases.array


def _cpu_ms(function: Callable[[], object], threads: int, repeat: int = 100) -> float:
    def many(_: int) -> None:
        for _ in range(repeat):
            function()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(many, range(threads)))
        begun = time.process_time()
        list(pool.map(many, range(threads)))
        return (time.process_time() - begun) / repeat / threads * 1000


def _served(pids: dict[str, int], grpc_port: int, jpeg: bytes, callers: int) -> dict[str, float]:
    """Return each server's CPU-ms an image."""
    request = encode_request(InferenceRequest("hollow", (Tensor("image", bytes_array([jpeg])),), RequestContext()))
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        def send(_: int) -> int:
            return len(decode_response(infer(request, timeout=30)).outputs)

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(send, range(50)))
            before = {name: _cpu_s(pid) for name, pid in pids.items()}
            answers = list(pool.map(send, range(REQUESTS)))
            after = {name: _cpu_s(pid) for name, pid in pids.items()}
    if min(answers) == 0:
        raise SystemExit("error: a request came back empty")
    return {name: (after[name] - before[name]) / REQUESTS * 1000 for name in before}


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its threads, from its stat file (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
