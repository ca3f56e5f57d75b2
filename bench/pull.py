"""What `weights-sync pull` of a large file costs beside `curl` and `sha256sum`: CPU seconds and the peak of memory.

Both read from a server on loopback and write to the folder of --directory. The model is left as it is: what preparing
costs is the model's.
"""

import argparse
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

PIECE = bytes(range(256)) * 4096


def main() -> None:
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for name in ("http_proxy", "HTTP_PROXY"):
        os.environ.pop(name, None)
    ours, theirs, peaks = [], [], []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        address, digest = _serve(options.mebibytes)
        for _ in range(options.rounds):
            file = Path(folder) / "plain"
            cpu_s, peak = _run(["curl", "--silent", "--output", str(file), f"{address}/net.onnx"])
            more_s, _ = _run(["sha256sum", str(file)])
            theirs.append(cpu_s + more_s)
            file.unlink()
            dest = Path(folder) / "models"
            uri = f"{address}/net.onnx#sha256={digest}"
            cpu_s, peak = _run([sys.executable, "-m", "weights_sync", "pull", "--as-it-is", uri, str(dest)])
            ours.append(cpu_s)
            peaks.append(peak)
            shutil.rmtree(dest)
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    print(f"curl + sha256sum  {statistics.median(theirs):.2f} CPU s")
    print(f"weights-sync pull {statistics.median(ours):.2f} CPU s, at most {max(peaks) / 1e6:.0f} MB of memory")
    print(f"ratio             {ratio:.2f} (median of {options.rounds} rounds of {options.mebibytes} MiB)")


def _serve(mebibytes: int) -> tuple[str, str]:
    """Serve so many MiB; return the address and the sha256."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PIECE) * mebibytes))
            self.end_headers()
            for _ in range(mebibytes):
                self.wfile.write(PIECE)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256()
    for _ in range(mebibytes):
        digest.update(PIECE)
    return f"http://127.0.0.1:{server.server_port}", digest.hexdigest()


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
