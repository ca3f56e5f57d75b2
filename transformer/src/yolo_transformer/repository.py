"""The models that the transformer serves: those of its predictor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import structlog

from servekit.errors import DeadlineExceeded, NotFound, Unavailable
from servekit.executor import BoundedExecutor
from servekit.repository import Repository
from yolo_transformer.card import ModelCard
from yolo_transformer.model import DetectorModel
from yolo_transformer.pictures import RequestLimits
from yolo_transformer.predictor import Predictor

if TYPE_CHECKING:
    from yolo_transformer.cache import ResultCache

_log = structlog.get_logger("yolo_transformer.repository")
_RETRY_S: Final = 0.25
_LOG_EVERY: Final = 20


class PredictorModels(Repository):
    """One transformer model for each of the predictor's; loading and unloading go through to it."""

    def __init__(
        self,
        predictor: Predictor,
        executor: BoundedExecutor,
        limits: RequestLimits,
        cache: ResultCache | None = None,
    ) -> None:
        super().__init__()
        self._predictor = predictor
        self._executor = executor
        self._limits = limits
        self._cache = cache
        self._known: set[str] = set()

    def available(self) -> Iterable[str]:
        """Return the names that the predictor has been seen to serve."""
        return self._known

    async def open(self, name: str) -> DetectorModel:
        """Return the model for the predictor's one of the same name.

        Raises:
            ServingError: the predictor has none, or can't be reached.

        """
        card = ModelCard.from_properties(await self._predictor.properties(name))
        self._known.add(name)
        return DetectorModel(name, card, self._predictor, self._executor, self._limits, self._cache)

    async def connect(self, names: Iterable[str]) -> None:
        """Serve the models called `names`, or all that the predictor has; return when they are ready."""
        attempt = 0
        while True:
            try:
                for name in list(names) or await self._all():
                    await self.load_from_ready(name)
            except (Unavailable, NotFound, DeadlineExceeded) as error:
                # The pods start together; the predictor's weights take longer.
                if attempt % _LOG_EVERY == 0:
                    _log.info("waiting for the predictor", reason=error.message)
                attempt += 1
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def load_from_ready(self, name: str) -> None:
        """Serve a model that the predictor has loaded already."""
        await super().load(name)

    async def load(self, name: str) -> None:
        """Have the predictor load a model anew, and serve it.

        Raises:
            ServingError: the predictor's own.

        """
        await self._predictor.load(name)
        await self.load_from_ready(name)

    async def unload(self, name: str) -> None:
        """Take a model out of service at the predictor and here; where the predictor can't, it stays.

        Raises:
            ServingError: the predictor's own, or `NotFound`.

        """
        if name in self.models:
            with contextlib.suppress(NotFound):  # the predictor's own callers may have unloaded it before
                await self._predictor.unload(name)
        await super().unload(name)

    async def _all(self) -> list[str]:
        names = await self._predictor.models()
        if not names:
            raise Unavailable("the predictor has no model loaded")
        return names
