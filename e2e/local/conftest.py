"""Both servers as real processes on loopback, with whatever weights a test asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from yolo_client.local import LocalOptions, LocalServers

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("YOLO_ASSETS", ROOT.parent / "shared" / "assets"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """Return the folder of real weights and pictures; without it the test is skipped."""
    if not ASSETS.is_dir():
        pytest.skip(f"no real weights and pictures at {ASSETS}: YOLO_ASSETS names their folder")
    return ASSETS


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what the tests fetch out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def start_servers(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[int], list[int]]
) -> Iterator[Callable[..., LocalServers]]:
    """Return a function that starts both servers; they stop after the module."""
    with ExitStack() as stack:

        def start(model: str = "shapes", weights: str = "yolo://shapes", **more: object) -> LocalServers:
            logs = tmp_path_factory.mktemp("logs")
            options = LocalOptions(model, weights, "127.0.0.1", *free_ports(4), log_directory=logs, **more)
            return stack.enter_context(LocalServers(options))

        yield start


@pytest.fixture(scope="module")
def serve(start_servers: Callable[..., LocalServers]) -> Callable[..., LocalOptions]:
    """Return a function that starts both servers and returns where they are; they stop after the module."""
    return lambda *arguments, **more: start_servers(*arguments, **more).options
