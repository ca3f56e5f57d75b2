"""What serving costs beside the work itself: CPU-ms an image of both servers, less decode, letterbox, graph and NMS.

A client sends one JPEG over gRPC again and again, one request at a time and eight at a time. The predictor's graph is
hollow: its tensors have the real sizes (640x640x3 in, 1000 candidates out) and next to nothing is computed between
them, so that what is measured is not lost in a network's noise. The work is timed in the same run by calling the same
functions in this process. Only loopback is used.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import grpc
import numpy as np
from hollow import candidates, hollow_graph

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

REQUESTS = int(os.environ.get("BENCH_REQUESTS", "400"))
CALLERS = (1, 8)
SIDE = 640
CANDIDATES = 1000
OBJECTS = 50


def main() -> None:
    """Print the table."""
    jpeg = _picture()
    with tempfile.TemporaryDirectory() as folder:
        graph = hollow_graph(CANDIDATES, OBJECTS, SIDE)
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        os.environ["XDG_CACHE_HOME"] = folder
        work = _work(jpeg, graph)
        options = LocalOptions("hollow", str(path), log_directory=Path(folder) / "logs")
        with LocalServers(options) as servers:
            for callers in CALLERS:
                _report(callers, work, _served(servers, jpeg, callers))


def _report(callers: int, work: dict[str, float], served: dict[str, float]) -> None:
    images_per_s = served.pop("images_per_s")
    plumbing = sum(served.values()) - sum(work.values())
    sys.stdout.write(f"\n{callers} at a time ({images_per_s:.0f} images/s)          CPU-ms an image\n")
    for name, value in served.items():
        sys.stdout.write(f"  {name:<34}{value:8.2f}\n")
    for name, value in work.items():
        sys.stdout.write(f"  less {name:<29}{value:8.2f}\n")
    sys.stdout.write(f"  {'plumbing':<34}{plumbing:8.2f}\n")


def _picture() -> bytes:
    scene = draw_scene(7, 720, 1280)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(encoded)


def _work(jpeg: bytes, graph: bytes) -> dict[str, float]:
    """Return the CPU-ms of each piece of work, called as functions."""
    cv2.setNumThreads(1)
    limits = PictureLimits()
    image = decode(jpeg, limits)
    placed = plan(image.shape[0], image.shape[1], SIDE, SIDE, Placement.CENTER)
    canvas = np.empty((1, SIDE, SIDE, 3), np.uint8)
    session = Session(graph, SessionOptions("cpu", 1))
    boxes, scores, class_ids = (array[0] for array in candidates(CANDIDATES, OBJECTS, SIDE).values())
    return {
        "decode": _cpu_ms(lambda: decode(jpeg, limits)),
        "letterbox": _cpu_ms(lambda: letterbox_into(image, canvas[0], placed)),
        "graph (hollow)": _cpu_ms(lambda: session.run(canvas)),
        "NMS": _cpu_ms(lambda: select(boxes, scores, class_ids, confidence=0.25, iou=0.65, max_detections=300)),
    }


def _cpu_ms(function: Callable[[], object], repeat: int = 200) -> float:
    for _ in range(10):
        function()
    begun = time.process_time()
    for _ in range(repeat):
        function()
    return (time.process_time() - begun) / repeat * 1000


def _served(servers: LocalServers, jpeg: bytes, callers: int) -> dict[str, float]:
    """Return each server's CPU-ms an image, and the images a second."""
    request = encode_request(InferenceRequest("hollow", (Tensor("image", bytes_array([jpeg])),), RequestContext()))
    with grpc.insecure_channel(f"127.0.0.1:{servers.options.grpc_port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        def send(_: int) -> int:
            response = decode_response(infer(request, timeout=30))
            return int(response.outputs[0].array[0])

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(send, range(50)))
            before = {name: _cpu_s(process.pid) for name, process in servers.processes}
            begun = time.perf_counter()
            found = list(pool.map(send, range(REQUESTS)))
            elapsed_s = time.perf_counter() - begun
            after = {name: _cpu_s(process.pid) for name, process in servers.processes}
    if min(found) == 0:
        raise SystemExit("error: a request came back without detections")
    costs = {name: (after[name] - before[name]) / REQUESTS * 1000 for name in before}
    return {**costs, "images_per_s": REQUESTS / elapsed_s}


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its threads, from its stat file (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
