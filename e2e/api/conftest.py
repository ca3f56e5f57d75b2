"""An API server without controllers, real servers for pods, and a test that plays KServe's part.

Runs inside `e2e/api/run`, which says where the API server is.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import shapes_variants
from api.objects import canary_service, component, route, service
from api.stage import ADDRESSES, Namespace, kubectl

from yolo_client.local import LocalOptions, LocalServers


@pytest.fixture(scope="session", autouse=True)
def api_server() -> None:
    """Refuse to run without an API server of our own."""
    if not {"KUBECONFIG", "ROLLOUT_KUBECONFIG"} <= os.environ.keys():
        pytest.exit("this suite runs beside an API server: e2e/api/run .venv/bin/pytest e2e/api", returncode=2)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Make a namespace for the test; nobody is there to delete it, and it goes with the API server."""
    created = Namespace(f"t-{secrets.token_hex(4)}")
    kubectl("create", "namespace", created.name)
    yield created
    kubectl("-n", created.name, "delete", "pods", "--all", "--force", "--grace-period=0")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return a function that starts both servers with a version of the model, once, and returns their address."""
    folder = tmp_path_factory.mktemp("versions")
    started: dict[str, str] = {}
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

        def start(version: str) -> str:
            address = ADDRESSES[version]
            if address not in started.values():
                weights = version
                if version in {"shuffled", "slow"}:
                    (folder / f"{version}.onnx").write_bytes(getattr(shapes_variants, version)())
                    weights = str(folder / f"{version}.onnx")
                    patch.setenv("XDG_CACHE_HOME", str(folder / version))
                options = LocalOptions("shapes", weights, address, log_directory=folder / f"logs-{version}")
                stack.enter_context(LocalServers(options))
            started[version] = address
            return address

        yield start


@pytest.fixture
def collocated(namespace, serve):
    """Return a function that puts a model and somebody's canary in place, each with a real pod."""
    with ExitStack() as stack:

        def place(version: str, percent: int = 0) -> None:
            shares = {"m-predictor": 100 - percent, "m-canary-predictor": percent}
            namespace.apply(service(), canary_service(version), route(shares))
            labels = component("m", "predictor")
            stack.enter_context(namespace.followed("m", "stable-0", serve("yolo://shapes"), labels))
            namespace.pod("canary-0", version, serve(version), component("m-canary", "predictor"))

        yield place


def rollout(namespace: Namespace, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Return how `yolo-kserve rollout` ended."""
    command = [sys.executable, "-m", "yolo_client", "rollout", "m", "-n", namespace.name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, **more)


@pytest.fixture(name="rollout")
def rollout_fixture(namespace: Namespace) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `yolo-kserve rollout m` in the test's namespace."""
    return lambda *arguments, **more: rollout(namespace, *arguments, **more)
