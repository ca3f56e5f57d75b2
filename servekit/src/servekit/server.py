"""KServe's `ModelServer` with its life made orderly: listen, load, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NoReturn

import grpc
import structlog
import uvicorn
import uvloop

from servekit import logs
from servekit.dataplane import DataPlane
from servekit.errors import ServingError
from servekit.flags import ServerOptions
from servekit.metrics import MODELS_LOADED
from servekit.repository import Repository
from servekit.rest.app import RestApp
from servekit.rpc.health import Health
from servekit.rpc.service import LINGER_S, build_server
from servekit.sdk import ModelServer

_log = structlog.get_logger("servekit.server")
_HEALTH_PERIOD_S: Final = 0.5
_BACKLOG: Final = 2048


class StartupFailed(Exception):
    """The server can't start; the message is one line that says why."""


class Server(ModelServer):
    """One process with REST and gRPC over one data plane.

    It listens at once, so that liveness and loading can be told apart, and is ready when `load` is through.
    """

    def __init__(self, name: str, repository: Repository, options: ServerOptions) -> None:
        # The SDK's constructor is left out: it starts its own data plane, logging and global client configuration.
        self.registered_models = repository
        self.options = options
        self.dataplane = DataPlane(name, repository)
        MODELS_LOADED.set_function(lambda: len(repository.models))
        self.rest = RestApp(self.dataplane, options.max_body_bytes)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._cut = asyncio.Event()

    def serve(self, load: Callable[[], Awaitable[None]]) -> None:
        """Serve until SIGTERM or SIGINT, and return when everything accepted is answered.

        `load` loads the first models; its `ServingError` ends the server. What is not done within the grace period
        ends with the process, whose exit code is 1 then.

        Raises:
            StartupFailed: a port is taken, or the first models can't be loaded.

        """
        logs.configure(self.options.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(self._serve_and_drain(load))
            if code is not None:
                # A return would wait for threads that still load or compute, however long they take.
                os._exit(code)

    def stop(self, sig: int) -> None:
        """Begin to drain; by SIGINT or asked again, don't wait for routes to follow; asked once more, stop at once."""
        if self._hurry.is_set():
            self._cut.set()
        elif self._stop.is_set() or sig == signal.SIGINT:
            self._hurry.set()
        self._stop.set()

    async def _serve_and_drain(self, load: Callable[[], Awaitable[None]]) -> int | None:
        """Return None when nothing is left to do, or the exit code to leave what is left with."""
        options = self.options
        listener = _listen(options.host, options.http_port)
        web = _WebServer(
            uvicorn.Config(self.rest.asgi, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75)
        )
        web.config.timeout_graceful_shutdown = None  # the drain below has the one clock
        try:
            rpc, health = build_server(
                self.dataplane, _address(options), options.max_body_bytes, options.max_connection_age_s
            )
        except RuntimeError as error:
            listener.close()
            raise StartupFailed(_unusable_port(options.grpc_port, errno.EADDRINUSE)) from error
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self.stop, sig)
        await rpc.start()
        web_task = asyncio.create_task(web.serve([listener]))
        health_task = asyncio.create_task(self._tell_health(health))
        try:
            loaded = await self._load_or_stop(load)
            await self._stop.wait()
            health_task.cancel()
            if not await self._drain(web, web_task, rpc, health):
                return 1
            return None if loaded else 0
        finally:
            health_task.cancel()
            await rpc.stop(0)
            web.force_exit = web.should_exit = True
            await web_task

    async def _load_or_stop(self, load: Callable[[], Awaitable[None]]) -> bool:
        loading, stopping = asyncio.create_task(_awaited(load)), asyncio.create_task(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            self._hurry.set()  # no route leads here yet
            return False
        try:
            loading.result()
        except ServingError as error:
            raise StartupFailed(error.message) from error
        _settle_garbage_collector()
        self.dataplane.starting = False
        _log.info("ready", http_port=self.options.http_port, grpc_port=self.options.grpc_port)
        return True

    async def _drain(self, web: _WebServer, web_task: asyncio.Task[None], rpc: grpc.aio.Server, health: Health) -> bool:
        """Readiness off, wait for routes to follow, then finish what was accepted within one budget."""
        self.dataplane.draining = True
        health.close()
        options = self.options
        _log.info("draining", delay_s=0 if self._hurry.is_set() else options.drain_delay_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), options.drain_delay_s)
        web.should_exit = True
        # gRPC's own clock runs longer, so that it cuts nothing off before the one budget ends.
        answered = asyncio.gather(web_task, self._stop_rpc(rpc, options.grace_period_s + 60))
        cut = asyncio.ensure_future(self._cut.wait())
        ends: set[asyncio.Future[Any]] = {answered, cut}
        await asyncio.wait(ends, timeout=options.grace_period_s, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        finished = answered.done()
        _log.info("stopped", finished=finished)
        return finished

    async def _stop_rpc(self, rpc: grpc.aio.Server, grace_s: float) -> None:
        self.dataplane.stopping = True
        await asyncio.sleep(LINGER_S)  # for what was answered just before
        await rpc.stop(grace_s)

    async def _tell_health(self, health: Health) -> None:
        while True:
            health.tell(serving=await self.dataplane.ready())
            await asyncio.sleep(_HEALTH_PERIOD_S)


class _WebServer(uvicorn.Server):
    """uvicorn without its signal handlers: the server's own stop both protocols together."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _settle_garbage_collector() -> None:
    """Have collections pass over what start-up made, for it stays, and run seldom: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _awaited(load: Callable[[], Awaitable[None]]) -> None:
    await load()


def _address(options: ServerOptions) -> str:
    return f"[{options.host}]:{options.grpc_port}" if ":" in options.host else f"{options.host}:{options.grpc_port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Listening and not only bound: two servers can bind one port, and the later one would find out too late.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupFailed(_unusable_port(port, error.errno)) from error
    return listener


def _unusable_port(port: int, number: int | None) -> str:
    if number == errno.EADDRINUSE:
        return f"port {port} is taken: stop what listens there, or choose another port"
    reason = os.strerror(number) if number and number > 0 else "the host's name is unknown"
    return f"port {port} can't be listened on: {reason}"


def exit_with(error: Exception) -> NoReturn:
    """End the process with the error's one line."""
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(1)
