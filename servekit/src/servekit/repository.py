"""Which models there are and which are loaded."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from servekit.errors import NotFound, NotLoaded, ServingError, Unavailable
from servekit.model import ServedModel
from servekit.sdk import ModelRepository

_log = structlog.get_logger("servekit.repository")


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A line of the repository index; `state` is `READY`, `LOADING` or `UNAVAILABLE`."""

    name: str
    version: str
    state: str
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the extension's index entry."""
        return {"name": self.name, "version": self.version, "state": self.state, "reason": self.reason}


class Repository(ModelRepository):
    """Models by name. Loading one again swaps it: the old one answers until the new one is warm.

    A request holds its model, so a model that left the repository lives until its last request is answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._loading: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        self._unloaded: set[str] = set()

    @abstractmethod
    async def open(self, name: str) -> ServedModel:
        """Return the model called `name`, loaded and warm.

        Raises:
            NotFound: there is none of that name.
            ServingError: it can't be loaded; the message says why.

        """

    @abstractmethod
    def available(self) -> Iterable[str]:
        """Return the names that could be loaded."""

    async def load(self, name: str) -> None:
        """Have the newest form of a model loaded and ready; a caller that leaves does not stop it.

        Raises:
            NotFound: there is none of that name.
            ServingError: it can't be loaded; what was loaded before still serves.

        """
        loading = asyncio.ensure_future(self._load(name))
        # Fetched here, because a caller that left does not: its failure is in the index and the log.
        loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(loading)

    async def _load(self, name: str) -> None:
        self._loading[name] += 1
        try:
            async with self._lock(name):
                await self._open_and_swap(name)
        finally:
            self._loading[name] -= 1
            if not self._loading[name]:
                del self._loading[name]

    async def _open_and_swap(self, name: str) -> None:
        try:
            model = await self.open(name)
        except Exception as error:
            self._failed(name, error)
            raise
        model.ready = True
        self.models[name] = model
        self._failures.pop(name, None)
        self._unloaded.discard(name)
        _log.info("model loaded", model=name, version=model.version)

    def _failed(self, name: str, error: Exception) -> None:
        if name not in {*self.models, *self.available()}:
            self._failures.pop(name, None)  # callers make up names as they like: those leave no trace
            return
        reason = error.message if isinstance(error, ServingError) else "a defect while loading: the log tells more"
        self._failures[name] = reason
        _log.warning("model not loaded", model=name, reason=reason)

    def _lock(self, name: str) -> asyncio.Lock:
        # Held weakly: it is there while someone changes the model, and no longer.
        return self._changing.setdefault(name, asyncio.Lock())

    async def load_all(self) -> None:
        """Load every model that there is.

        Raises:
            NotFound: there is none.
            ServingError: one can't be loaded.

        """
        names = sorted(self.available())
        if not names:
            raise NotFound("there is no model to load")
        for name in names:
            await self.load(name)

    async def unload(self, name: str) -> None:
        """Take a model out of service, after a load of it that is under way; its accepted requests are still answered.

        Raises:
            NotFound: no model of that name is loaded.

        """
        async with self._lock(name):
            if self.models.pop(name, None) is None:
                raise NotFound(f"model '{name}' is not loaded")
            self._failures.pop(name, None)
            self._unloaded.add(name)
        _log.info("model unloaded", model=name)

    def loaded(self, name: str, version: str = "") -> ServedModel:
        """Return a model that is ready to answer.

        Raises:
            NotFound: no such model or version, or it was unloaded.
            Unavailable: it is being loaded, or could not be.

        """
        model: ServedModel | None = self.models.get(name)
        if model is None:
            raise self._absence(name)
        if version not in {"", model.version}:
            raise NotFound(f"model '{name}' has no version '{version}': it serves version '{model.version}'")
        return model

    def index(self) -> list[IndexEntry]:
        """Return every model that there is, by name, with its state."""
        return [self._entry(name) for name in sorted({*self.models, *self.available(), *self._failures})]

    def _entry(self, name: str) -> IndexEntry:
        model: ServedModel | None = self.models.get(name)
        failure = self._failures.get(name, "")
        if model is not None:
            return IndexEntry(name, model.version, "READY", failure)
        if name in self._loading:
            return IndexEntry(name, "", "LOADING")
        return IndexEntry(name, "", "UNAVAILABLE", failure or ("unloaded" if name in self._unloaded else "not loaded"))

    def _absence(self, name: str) -> ServingError:
        if name in self._loading:
            return Unavailable(f"model '{name}' is loading")
        if name in self._failures:
            return Unavailable(f"model '{name}' is not ready: {self._failures[name]}")
        if name in set(self.available()):
            return NotLoaded(f"model '{name}' is not loaded")
        return NotFound(f"there is no model '{name[:100]}' here: {', '.join(sorted(self.models)) or 'none'} is loaded")
