"""CPU work off the event loop, in a bounded number of threads, with a bounded number waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from servekit.errors import Overloaded, Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Completed(Generic[T]):
    """A result, and how long its job waited for a thread and then ran."""

    value: T
    queued_ns: int
    ran_ns: int


class BoundedExecutor:
    """`workers` threads and room for `max_waiting` jobs more; a job beyond that is refused at once."""

    def __init__(self, name: str, workers: int, max_waiting: int) -> None:
        self.workers = workers
        self.max_waiting = max_waiting
        self._jobs = 0
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)

    @property
    def waiting(self) -> int:
        """How many accepted jobs no thread has taken up yet."""
        return max(0, self._jobs - self.workers)

    async def run(self, function: Callable[..., T], *arguments: object) -> Completed[T]:
        """Return what the function returns, with the time it waited and ran.

        Raises:
            Overloaded: too many jobs wait already.
            Unavailable: the executor is closed.

        """
        submitted = time.perf_counter_ns()

        def job() -> Completed[T]:
            begun = time.perf_counter_ns()
            value = function(*arguments)
            return Completed(value, begun - submitted, time.perf_counter_ns() - begun)

        return await asyncio.wrap_future(self._submit(job))

    def _submit(self, job: Callable[[], Completed[T]]) -> Future[Completed[T]]:
        with self._counting:
            # A free thread takes its job whatever the room to wait in.
            if self._jobs >= self.workers + self.max_waiting:
                raise Overloaded(f"{self.max_waiting} requests are waiting already: try again in a moment")
            try:
                future = self._pool.submit(job)
            except RuntimeError as error:
                raise Unavailable("the server is stopping") from error
            self._jobs += 1
        # Counted down when the job ends, not when its caller does: a cancelled caller leaves its job running.
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Any]) -> None:
        with self._counting:
            self._jobs -= 1

    def close(self) -> None:
        """End the threads after the jobs they run; waiting ones are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
