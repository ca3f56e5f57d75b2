"""What the kubelet and Prometheus ask a watcher: `/healthz`, `/readyz`, `/metrics`."""

import contextlib
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest

from weights_sync.errors import SourceError
from weights_sync.metrics import REGISTRY


def answer_probes(port: int, *, alive: Callable[[], bool], ready: Callable[[], bool]) -> int:
    """Answer on every address of the machine, in a thread of its own; return the port, which 0 leaves to the system.

    A watcher is `alive` while it takes its turns, and `ready` as soon as there are weights for a predictor to read.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(HTTPStatus.OK, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
            elif path in {"/healthz", "/readyz"}:
                good = alive() if path == "/healthz" else ready()
                self._answer(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, b"ok\n" if good else b"no\n")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"there are /healthz, /readyz and /metrics\n")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Probes come every few seconds, and are no news."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except (OSError, OverflowError) as error:
        raise SourceError(f"can not answer on port {port}: {getattr(error, 'strerror', error)}") from error
    server.daemon_threads = True
    ProcessCollector(registry=REGISTRY)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)
