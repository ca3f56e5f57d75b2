"""Both servers as local processes: fetched weights, predictor, transformer; started together and stopped in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from yolo_client.client import Client

EMBEDDED_WEIGHTS: Final = "yolo://shapes"
_STARTUP_S: Final = 120.0
_POLL_S: Final = 0.05
_STOP_S: Final = 40.0


class LocalServersFailed(Exception):
    """The servers can't run; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What to serve and where; `log_directory` takes the servers' logs, which go to the terminal when it is None."""

    model: str = "shapes"
    weights: str = EMBEDDED_WEIGHTS
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    predictor_http_port: int = 9080
    predictor_grpc_port: int = 9081
    log_directory: Path | None = None
    predictor_arguments: tuple[str, ...] = ()
    transformer_arguments: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where the transformer answers."""
        return f"http://{self.host}:{self.http_port}"


def cache_directory() -> Path:
    """Return the folder for prepared weights, below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-kserve"


class LocalServers:
    """Both servers, ready inside a `with` block and gone after it."""

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> None:
        """Return never, unless a server ends by itself.

        Raises:
            LocalServersFailed: one did.

        """
        while True:
            self._check_alive()
            time.sleep(_POLL_S * 10)

    def stop(self) -> None:
        """Stop the servers, the transformer first so that its last requests still find the predictor."""
        while self.processes:
            _, process = self.processes.pop()
            # SIGINT: nothing routes to a local server, so there is no one to wait for before the drain.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        options = self.options
        for port in (options.http_port, options.grpc_port, options.predictor_http_port, options.predictor_grpc_port):
            _check_free(options.host, port)
        self._pull()
        self._spawn("predictor", self._predictor_command())
        self._spawn("transformer", self._transformer_command())
        deadline = time.monotonic() + _STARTUP_S
        with Client(options.url) as client:
            while not client.ready():
                self._check_alive()
                if time.monotonic() > deadline:
                    raise LocalServersFailed(f"the servers were not ready within {_STARTUP_S:.0f} seconds")
                time.sleep(_POLL_S)

    @property
    def model_directory(self) -> Path:
        """Where the prepared weights lie that the predictor serves."""
        return cache_directory() / "models" / self.options.model

    def _predictor_command(self) -> list[str]:
        options = self.options
        return [
            *(
                "yolo_predictor",
                "--model_dir",
                str(self.model_directory),
                "--model_name",
                options.model,
                "--host",
                options.host,
            ),
            *("--http_port", str(options.predictor_http_port), "--grpc_port", str(options.predictor_grpc_port)),
            *options.predictor_arguments,
        ]

    def _transformer_command(self) -> list[str]:
        options = self.options
        return [
            *("yolo_transformer", "--model_name", options.model, "--host", options.host),
            *("--http_port", str(options.http_port), "--grpc_port", str(options.grpc_port)),
            *("--predictor_host", f"{options.host}:{options.predictor_grpc_port}"),
            *options.transformer_arguments,
        ]

    def _pull(self) -> None:
        command = [sys.executable, "-m", "weights_sync", "pull", self.options.weights, str(self.model_directory)]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (our own program)
        if done.returncode:
            raise LocalServersFailed(_last_line(done.stderr) or f"{self.options.weights} can't be fetched")

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        log = None
        if self.options.log_directory is not None:
            self.options.log_directory.mkdir(parents=True, exist_ok=True)
            log = (self.options.log_directory / f"{name}.log").open("wb")
        # In a session of its own, or Ctrl-C would stop both at once.
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(command, stderr=log, start_new_session=True)  # noqa: S603 (our own programs)
        if log is not None:
            log.close()
        self.processes.append((name, process))

    def _check_alive(self) -> None:
        for name, process in self.processes:
            if process.poll() is not None:
                raise LocalServersFailed(f"the {name} ended: {self._reason(name)}")

    def _reason(self, name: str) -> str:
        if self.options.log_directory is None:
            return "its last line above says why"
        return _last_line((self.options.log_directory / f"{name}.log").read_bytes()) or "it left no word"


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LocalServersFailed(
                f"port {port} is taken: stop what listens there, or choose another with the port options"
            ) from error


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ").removeprefix("weights-sync: ") if lines else ""
