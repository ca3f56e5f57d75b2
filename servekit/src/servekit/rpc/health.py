"""`grpc.health.v1`: one status for the server and its inference service; a drain does not wait for watchers.

The service `live` is serving for as long as the process answers: what a liveness probe is to ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servekit.rpc.messages import SERVICE

_NAMES: Final = frozenset({"", SERVICE})
_LIVE: Final = "live"
_Status: Final = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated, and untyped
    """Not serving until told otherwise."""

    def __init__(self) -> None:
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    def tell(self, *, serving: bool) -> None:
        """Have every caller and watcher know whether the server is ready."""
        if serving != self._serving:
            self._serving = serving
            self._wake()

    def close(self) -> None:
        """Say that nothing is served any more, and end the watchers' streams."""
        self._serving, self._closed = False, True
        self._wake()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        """Return the status now."""
        if request.service == _LIVE:
            return _Status(status=_Status.SERVING)
        if request.service not in _NAMES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return self._status()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802 (gRPC's name)
        """Stream the status, now and whenever it changes."""
        if request.service not in _NAMES:
            yield _Status(status=_Status.SERVICE_UNKNOWN)
        told = None
        while True:
            changed = self._changed
            status = self._status()
            if request.service in _NAMES and status != told:
                told = status
                yield status
            if self._closed:
                return
            await changed.wait()

    def _status(self) -> Any:
        return _Status(status=_Status.SERVING if self._serving else _Status.NOT_SERVING)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
