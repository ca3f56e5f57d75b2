"""Results kept in Redis, for when the same pictures are asked about again; Redis may be away at any time."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import structlog
from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from servekit.errors import ServingError
from servekit.executor import BoundedExecutor
from yolo_transformer.card import ModelCard
from yolo_transformer.options import DetectionOptions
from yolo_transformer.results import PictureResult, document_of, result_of

T = TypeVar("T")

_log = structlog.get_logger("yolo_transformer.cache")
# Another release may come to other results.
_RELEASE: Final = version("yolo-transformer")
# An inference takes no longer than a slow answer, and is worth more.
_TIMEOUT_S: Final = 0.25
_PAUSE_S: Final = 1.0
_MAX_PENDING: Final = 64
_MAX_BYTES: Final = 1 << 20

LOOKUPS = Counter(
    "yolo_cache_lookups_total",
    "Requests looked up in the cache, by model and outcome (hit, miss, error).",
    ["model", "outcome"],
)


def key_of(
    sources: Sequence[bytes] | npt.NDArray[np.uint8], options: Sequence[DetectionOptions], card: ModelCard
) -> str:
    """Return the name of a request's results: a SHA-256 of its pictures, its options, the model and this release.

    `sources` are encoded pictures, or an array (B, H, W, 3) uint8, RGB.
    """
    how = {"release": _RELEASE, "model": dict(card.properties), "options": list(options)}
    digest = hashlib.sha256(orjson.dumps(how, default=sorted, option=orjson.OPT_SORT_KEYS))
    for source in sources:
        shape = source.shape if isinstance(source, np.ndarray) else len(source)
        digest.update(f"\n{shape}\n".encode())
        digest.update(np.ascontiguousarray(source).data if isinstance(source, np.ndarray) else source)
    return f"yolo:{digest.hexdigest()}"


def pack(results: Sequence[PictureResult]) -> bytes:
    """Return results as they are kept: V1's JSON of each picture."""
    return orjson.dumps([document_of(result) for result in results])


def unpack(data: bytes) -> tuple[PictureResult, ...]:
    """Return the results that `pack` made these bytes of.

    Raises:
        ValueError: it did not.

    """
    try:
        (first, *others) = orjson.loads(data)
        return (result_of(first), *map(result_of, others))
    except (KeyError, TypeError) as error:
        raise ValueError("these are no results") from error


class ResultCache:
    """Results in the Redis at `url`, for `seconds` each. While Redis is away there are none, and nothing fails.

    Raises:
        ValueError: `url` is no URL of a Redis.

    """

    def __init__(self, url: str, seconds: int, executor: BoundedExecutor) -> None:
        try:
            # Asked twice, for a connection that was idle may be closed.
            pool = BlockingConnectionPool.from_url(url, retry=Retry(NoBackoff(), 1))
            pool.make_connection()  # type: ignore[no-untyped-call]  # takes the URL's parameters
        except (ValueError, TypeError):  # whose words may hold a part of the password
            raise ValueError("it must be redis://[[user]:password@]host[:port][/database], or rediss://…") from None
        self._redis: Redis = Redis(connection_pool=pool)
        self._seconds = seconds
        self._executor = executor
        self._silent_until = 0.0
        self._pending: set[asyncio.Task[None]] = set()

    async def key(
        self,
        sources: Sequence[bytes] | npt.NDArray[np.uint8],
        options: Sequence[DetectionOptions],
        card: ModelCard,
    ) -> str:
        """Return `key_of` these.

        Raises:
            Overloaded: too much waits already.

        """
        return (await self._executor.run(key_of, sources, options, card)).value

    async def find(self, model: str, key: str) -> tuple[PictureResult, ...] | None:
        """Return the results kept as `key`, or None where there are none, or no Redis to tell.

        Raises:
            Overloaded: too much waits already.

        """
        outcome, results = "error", None
        answered, data = await self._ask(lambda: self._redis.get(key))
        if answered:
            outcome = "miss"
        if data is not None:
            try:
                results = (await self._executor.run(unpack, data)).value
                outcome = "hit"
            except ValueError:
                _log.warning("what Redis keeps is no result", key=key)
        LOOKUPS.labels(model, outcome).inc()
        return results

    def keep(self, key: str, results: Sequence[PictureResult]) -> None:
        """Keep results as `key`, in the background; where too many wait for Redis already, or they are large, don't."""
        if len(self._pending) >= _MAX_PENDING:
            return
        task = asyncio.create_task(self._keep(key, results))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def close(self) -> None:
        """End the connections, when all that waits is kept."""
        await asyncio.gather(*self._pending)
        await self._redis.aclose()

    async def _keep(self, key: str, results: Sequence[PictureResult]) -> None:
        try:
            data = (await self._executor.run(pack, results)).value
        except ServingError:  # the server has better things to do
            return
        if len(data) <= _MAX_BYTES:
            await self._ask(lambda: self._redis.set(key, data, ex=self._seconds))

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
        """Return whether Redis answered, and what."""
        if time.monotonic() < self._silent_until:
            return False, None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await command()
        except (RedisError, OSError) as error:
            if not self._silent_until:
                _log.warning("going on without Redis", reason=str(error) or "no answer in time")
            self._silent_until = time.monotonic() + _PAUSE_S
            return False, None
        if self._silent_until:
            _log.info("Redis is back")
            self._silent_until = 0.0
        return True, answer
