"""What every test on the cluster shares: the API, a namespace of its own, the gateway, and what is kept when it fails.

The suite runs inside `e2e/cluster/run`, which says where the cluster is: KUBECONFIG and GATEWAY.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
import yaml
from helm import Release
from kubernetes import client, config

from yolo_client.client import RequestFailed

FAILURES = Path(__file__).resolve().parents[2] / "out" / "e2e"
Found = TypeVar("Found")
_MAY_PASS = (AssertionError, httpx2.HTTPError, RequestFailed, client.ApiException, subprocess.CalledProcessError)


def eventually(probe: Callable[[], Found], what: str, seconds: float = 60) -> Found:
    """Return the probe's first answer that is true; an answer that is not, or an assertion or a request that failed, is
    asked for again. When the time is over the last of them is the error.
    """
    end = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            if found := probe():
                return found
            last = found
        except _MAY_PASS as error:
            last = getattr(error, "stderr", None) or error
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds:.0f} s; last: {last}")
        time.sleep(0.3)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Return what kubectl printed; what it says when it fails is the error's `stderr`."""
    command = ["kubectl", *arguments]
    return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True, timeout=600).stdout


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of the cluster, by its name."""

    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what kubectl printed, asked about this namespace."""
        return kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def apply(self, *manifests: str | Mapping[str, Any]) -> None:
        """Apply manifests, each as YAML or as an object."""
        texts = [each if isinstance(each, str) else yaml.safe_dump(dict(each)) for each in manifests]
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(texts))

    def get(self, *what: str) -> dict[str, Any]:
        """Return an object, or a list of objects, as the API has it."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def wait(self, what: str, condition: str = "Ready", seconds: int = 120) -> None:
        """Return once an object ("isvc/m") has a condition."""
        self.kubectl("wait", f"--for=condition={condition}", f"--timeout={seconds}s", what)

    def rolled_out(self, deployment: str, seconds: int = 120) -> None:
        """Return once a deployment's pods are those its template asks for, and ready."""
        self.kubectl("rollout", "status", f"deploy/{deployment}", f"--timeout={seconds}s")

    def dump(self, folder: Path) -> None:
        """Write what is needed to see why a test failed: objects, events, and every container's log."""
        folder.mkdir(parents=True, exist_ok=True)
        questions = {
            "objects.yaml": ("get", "isvc,deployments,replicasets,pods,services,httproutes,hpa", "-o", "yaml"),
            "pods.txt": ("describe", "pods"),
            "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
        }
        for pod in self.get("pods")["items"]:
            name = pod["metadata"]["name"]
            questions[f"{name}.log"] = ("logs", name, "--all-containers", "--prefix", "--tail=2000")
        for file, question in questions.items():
            command = ["kubectl", "--namespace", self.name, *question]
            with (folder / file).open("w") as out:
                subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False, timeout=60)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The cluster's gateway, by its address (host:port): where clients from outside come in."""

    address: str
    client: httpx2.Client

    def request(self, host: str, path: str = "/", method: str = "GET", **more: Any) -> httpx2.Response:
        """Return the answer to one request for a host, however bad it is."""
        headers = {"Host": host, **more.pop("headers", {})}
        return self.client.request(method, f"http://{self.address}{path}", headers=headers, **more)

    def routed(self, host: str, path: str = "/", seconds: float = 60, **more: Any) -> httpx2.Response:
        """Return the first good answer: an object that is Ready is routed only some seconds later."""
        return eventually(
            lambda: self.request(host, path, **more).raise_for_status(), f"{host}{path} is routed", seconds
        )


def pytest_configure(config: pytest.Config) -> None:
    """Make the suite's own marker known."""
    config.addinivalue_line("markers", "addon(name): needs an add-on that the cluster has only when asked for")


@pytest.fixture(scope="session", autouse=True)
def api() -> client.ApiClient:
    """Return a client of the Kubernetes API, configured for every use of the `kubernetes` package."""
    if not {"KUBECONFIG", "GATEWAY"} <= os.environ.keys():
        pytest.exit(
            "the suite runs on a cluster: e2e/cluster/up, then e2e/cluster/run pytest e2e/cluster", returncode=2
        )
    config.load_kube_config(os.environ["KUBECONFIG"])
    return client.ApiClient()


@pytest.fixture(scope="module", autouse=True)
def addon(request: pytest.FixtureRequest, api: client.ApiClient) -> None:
    """Skip a module marked with an add-on that the cluster does not have."""
    marker = request.node.get_closest_marker("addon")
    if marker is None:
        return
    (name,) = marker.args
    noted = client.CoreV1Api(api).read_namespace("kube-system").metadata.annotations or {}
    if f"yolo-kserve/addon-{name}" not in noted:
        pytest.skip(f"the cluster has no {name}: `e2e/cluster/up {name}`, or ADDONS={name} make e2e, adds it")


@pytest.fixture(scope="session", name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    """Return `eventually`, for tests that poll."""
    return eventually


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """Return the cluster's gateway."""
    with httpx2.Client(timeout=30, trust_env=False) as http:
        yield Gateway(os.environ["GATEWAY"], http)


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Make a namespace for the module, and delete it after the module."""
    topic = re.sub(r"[^a-z0-9]+", "-", request.module.__name__.rpartition(".")[2].removeprefix("test_"))
    created = Namespace(f"e2e-{topic}-{secrets.token_hex(3)}")
    kubectl("create", "namespace", created.name)
    yield created
    kubectl("delete", "namespace", created.name, "--wait=false")


@pytest.fixture(scope="module")
def release(namespace: Namespace) -> Iterator[Release]:
    """Make a release of the chart for the module to install, and uninstall it after the module."""
    created = Release(namespace.name)
    yield created
    created.uninstall()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep what the namespace of a failed test held, in out/e2e."""
    report = yield
    used = getattr(item, "funcargs", {}).get("namespace")
    if report.failed and isinstance(used, Namespace):
        folder = FAILURES / re.sub(r"[^\w.-]+", "-", item.name)
        used.dump(folder)
        report.sections.append(("Kept", f"objects, events and logs of namespace {used.name}: {folder}"))
    return report
