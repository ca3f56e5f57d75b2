"""What `weights-sync pull` of a large model costs beside `curl` and `sha256sum`: CPU seconds and the peak of memory.

Both read from a server on loopback and write to the folder of --directory. The model is the tests' smallest YOLOv8,
widened to --mebibytes of weights, or --model; it is prepared, unless --as-it-is.
"""

import argparse
import functools
import hashlib
import http.server
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "weights-sync" / "tests"
WIDENED = """
import sys
from tiny_networks import widened, yolov8
with open(sys.argv[1], "wb") as file:
    file.write(widened(yolov8(), int(sys.argv[2])).SerializeToString())
"""
SERVED = "net.onnx"


def main() -> None:
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--as-it-is", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for name in ("http_proxy", "HTTP_PROXY"):
        os.environ.pop(name, None)
    pull = [sys.executable, "-m", "weights_sync", "pull", *(["--as-it-is"] if options.as_it_is else [])]
    ours, theirs, peaks = [], [], []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        served = Path(folder, SERVED)
        _lay_out(options.model, options.mebibytes, served)
        address, digest = _serve(Path(folder)), _digest_of(served)
        for _ in range(options.rounds):
            file = Path(folder, "plain")
            cpu_s, _ = _run(["curl", "--silent", "--output", str(file), f"{address}/{SERVED}"])
            more_s, _ = _run(["sha256sum", str(file)])
            theirs.append(cpu_s + more_s)
            file.unlink()
            dest = Path(folder, "models")
            cpu_s, peak = _run([*pull, f"{address}/{SERVED}#sha256={digest}", str(dest)])
            ours.append(cpu_s)
            peaks.append(peak)
            shutil.rmtree(dest)
        size = served.stat().st_size
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    print(f"curl + sha256sum  {statistics.median(theirs):.2f} CPU s")
    print(f"weights-sync pull {statistics.median(ours):.2f} CPU s, at most {max(peaks) / 1e6:.0f} MB of memory")
    print(f"ratio             {ratio:.2f} (median of {options.rounds} rounds of {size / 1e6:.0f} MB)")


def _lay_out(model: Path | None, mebibytes: int, served: Path) -> None:
    """Copy the model, or make one; in another process, for what this one held at its most would count as a child's."""
    if model:
        shutil.copyfile(model, served)
        return
    command = [sys.executable, "-c", WIDENED, str(served), str(mebibytes)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(TESTS)}, check=True)  # noqa: S603 - our own


def _serve(folder: Path) -> str:
    """Serve the files of a folder; return the address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _run(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return its CPU seconds, user and system, and its peak of memory in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - what is measured
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
