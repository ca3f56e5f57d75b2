"""What serving takes of KServe's SDK: the classes `Model`, `ModelRepository` and `ModelServer`, without the rest.

`import kserve` runs its client of the Kubernetes API and pandas as well, which serving never uses: half of the time to
import it, and two hundred megabytes of an image. Here neither is imported, so neither need be installed
(`tool.uv.dependency-metadata` in the root). Whoever asks the `kserve` package for more afterwards gets it, if what that
needs is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


@contextmanager
def _package_not_run() -> Iterator[None]:
    """Have `kserve`'s modules importable without the package's own `__init__`, which is run on demand afterwards."""
    spec = find_spec("kserve")
    if "kserve" in sys.modules or spec is None or spec.loader is None:
        yield
        return
    package, loader = module_from_spec(spec), spec.loader
    sys.modules["kserve"] = package
    yield

    def run_and_get(name: str) -> Any:
        del package.__getattr__
        try:
            loader.exec_module(package)
        except ImportError:
            package.__getattr__ = run_and_get  # type: ignore[method-assign]
            raise
        return getattr(package, name)

    package.__getattr__ = run_and_get  # type: ignore[method-assign]


class _Later(ModuleType):
    """Stands for a module that is imported once something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


@contextmanager
def _pandas_later() -> Iterator[None]:
    """Have those who import pandas meanwhile do it when they first use it; in annotations its `DataFrame` is a name."""
    if "pandas" in sys.modules:
        yield
        return
    pandas = sys.modules["pandas"] = _Later("pandas")
    pandas.__dict__["DataFrame"] = type("DataFrame", (), {})
    try:
        yield
    finally:
        del sys.modules["pandas"], pandas.__dict__["DataFrame"]


with _package_not_run(), _pandas_later():
    from kserve.model import Model
    from kserve.model_repository import ModelRepository
    from kserve.model_server import ModelServer

__all__ = ["Model", "ModelRepository", "ModelServer"]
