"""Whether a request's client is still there: when it leaves, the work for it ends."""

from __future__ import annotations

import asyncio

from starlette.requests import Request


class Presence:
    """Cancels the task that it was made in when, after `watch`, the request's client disconnects."""

    def __init__(self, request: Request) -> None:
        self.gone = False
        self._request = request
        self._work = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin to look; the request's body must have been read to its end."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._wait())

    def stop(self) -> None:
        """Look no more."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._work is not None:
            self._work.cancel()
