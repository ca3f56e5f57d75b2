"""A server with its work timed where it is done: `python timed.py ours|stock predictor|transformer ARGUMENTS`.

A piece of work costs more among a server's other work than in a loop of its own, where memory and caches are warm. So
its CPU time is taken from the clock of the thread that does it, and counted in the server's own /metrics.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from prometheus_client import Counter

import yolo_predictor.session
import yolo_transformer.images
import yolo_transformer.letterbox
import yolo_transformer.nms

WORK_CPU_SECONDS = Counter("bench_work_cpu_seconds", "CPU time of a piece of work.", ["piece"])
PIECES = {
    "decode": (yolo_transformer.images, "decode"),
    "letterbox": (yolo_transformer.letterbox, "letterbox_into"),
    "graph (hollow)": (yolo_predictor.session.Session, "run"),
    "NMS": (yolo_transformer.nms, "select"),
}


def _timed(function: Callable[..., Any], piece: str) -> Callable[..., Any]:
    counter = WORK_CPU_SECONDS.labels(piece)

    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        begun = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            counter.inc(time.thread_time() - begun)

    return timed


def main() -> None:
    """Put the clocks where the work is, before anything else takes the functions' names; then run the server."""
    for piece, (owner, name) in PIECES.items():
        setattr(owner, name, _timed(getattr(owner, name), piece))
    _, whose, server, *arguments = sys.argv
    if whose == "ours":
        sys.argv = [server, *arguments]
        runpy.run_module(f"yolo_{server}", run_name="__main__")
    else:
        sys.argv = ["stock.py", server, *arguments]
        runpy.run_path(str(Path(__file__).with_name("stock.py")), run_name="__main__")


if __name__ == "__main__":
    main()
