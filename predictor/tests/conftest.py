from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def hollow() -> ModuleType:
    """Return the module that makes hollow graphs."""
    spec = importlib.util.spec_from_file_location("hollow", ROOT / "bench" / "hollow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def graph(hollow: ModuleType) -> bytes:
    """Return a hollow graph of 32x32 pixels and 8 candidates, 3 of them objects."""
    return hollow.hollow_graph(8, 3, 32)


@pytest.fixture
def place(tmp_path: Path, graph: bytes) -> Callable[[str], Path]:
    """Return a function that puts the graph at a path below a folder, and returns the folder."""

    def put(path: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(graph)
        return tmp_path

    return put
