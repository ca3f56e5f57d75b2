"""`yolo-kserve rollout` where all is real: KServe, its canaries, the gateway, pods, and weights that are wrong."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

import httpx2
import pytest
import rollouts
import shapes_variants
from rollouts import steps_of

from yolo_client.demo import generated_samples

PYTHON = "docker.io/library/python:3.11-slim-bookworm"


def container(name: str, image: str, *arguments: str, port: int, ports: bool = True) -> dict:
    """Return a container of ours that is ready when its server is."""
    probe = {"httpGet": {"path": "/v2/health/ready", "port": port}, "periodSeconds": 2}
    named = [{"name": "http1", "containerPort": port}, {"name": "grpc", "containerPort": port + 1}] if ports else []
    return {
        "name": name,
        "image": f"localhost/yolo-kserve/{image}:dev",
        "imagePullPolicy": "IfNotPresent",
        "args": [*arguments, f"--http_port={port}", f"--grpc_port={port + 1}"],
        "ports": named,
        "startupProbe": {**probe, "failureThreshold": 150},
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "4", "memory": "2Gi"}},
    }


def runtime(name: str, *containers: dict) -> dict:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [{"name": "yolo", "version": "1"}],
            "protocolVersions": ["v1", "v2", "grpc-v2"],
            "containers": list(containers),
        },
    }


PREDICTOR = ("--model_dir=/mnt/models", "--model_name=m")
RUNTIMES = (
    runtime("split", container("kserve-container", "predictor", *PREDICTOR, port=8080)),
    runtime(
        "collocated",
        container("kserve-container", "predictor", *PREDICTOR, port=9080, ports=False),
        container(
            "transformer-container", "transformer", "--model_name=m", "--predictor_host=127.0.0.1:9081", port=8080
        ),
    ),
)


def service(namespace: str, topology: str) -> dict:
    model = {
        "modelFormat": {"name": "yolo", "version": "1"},
        "runtime": topology,
        "storageUri": "pvc://weights/stable",
    }
    host = f"--predictor_host=m-predictor-grpc.{namespace}.svc.cluster.local:8081"
    transformer = container("kserve-container", "transformer", "--model_name=m", host, "--workers=1", port=8080)
    split = {"transformer": {"minReplicas": 1, "maxReplicas": 1, "containers": [transformer]}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "m", "annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
        "spec": {
            "predictor": {"minReplicas": 1, "maxReplicas": 1, "model": model},
            **(split if topology == "split" else {}),
        },
    }


def headless() -> dict:
    selector = {"serving.kserve.io/inferenceservice": "m", "component": "predictor"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "m-predictor-grpc"},
        "spec": {"clusterIP": "None", "selector": selector, "ports": [{"name": "grpc", "port": 8081}]},
    }


def route(namespace: str) -> dict:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "m-route"},
        "spec": {
            "parentRefs": [{"name": "kserve-ingress-gateway", "namespace": "kserve"}],
            "hostnames": [f"rollout.{namespace}.example.com"],
            "rules": [{"backendRefs": [{"name": "m-transformer", "port": 80}]}],
        },
    }


@pytest.fixture(scope="module")
def weights(namespace) -> Iterator[None]:
    """Put versions of the shapes model on a claim: good ones, one with wrong labels, and a slow one."""
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": namespace.name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "claimRef": {"namespace": namespace.name, "name": "weights"},
                "hostPath": {"path": f"/var/lib/yolo-kserve-e2e/{namespace.name}", "type": "DirectoryOrCreate"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "weights"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": namespace.name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "loader"},
            "spec": {
                "containers": [
                    {
                        "name": "loader",
                        "image": PYTHON,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "infinity"],
                        "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
                    }
                ],
                "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
                "terminationGracePeriodSeconds": 0,
            },
        },
    )
    namespace.wait("pod/loader")
    script = (
        "import base64, pathlib, sys; path = pathlib.Path(sys.argv[1]); path.parent.mkdir(exist_ok=True);"
        "path.write_bytes(base64.b64decode(sys.stdin.read()))"
    )
    versions = {"stable": "same", "better": "same", "shuffled": "shuffled", "slow": "slow"}
    for name, make in versions.items():
        encoded = base64.b64encode(getattr(shapes_variants, make)()).decode()
        target = f"/weights/{name}/model.onnx"
        namespace.kubectl("exec", "-i", "loader", "--", "python", "-c", script, target, stdin=encoded)
    yield
    namespace.kubectl("delete", "pv", namespace.name, "--wait=false")


@pytest.fixture(scope="module", params=["split", "collocated"])
def served(request, namespace, weights) -> Iterator[str]:
    """Serve the model in a topology."""
    namespace.apply(*RUNTIMES)
    if request.param == "split":
        namespace.apply(headless(), route(namespace.name))
    namespace.apply(service(namespace.name, request.param))
    namespace.wait("isvc/m", seconds=400)
    yield request.param
    namespace.kubectl("delete", "isvc,httproute,service", "--all", "--wait=true")


@pytest.fixture
def rollout(namespace) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `yolo-kserve rollout` of the model."""
    return lambda *arguments: rollouts.rollout(namespace.name, "m", *arguments)


def source(namespace) -> str:
    return namespace.get("isvc", "m")["spec"]["predictor"]["model"]["storageUri"]


def is_gone(namespace) -> bool:
    """Tell whether nothing is left of the canary but what the stable version needs."""
    names = [each["metadata"]["name"] for each in namespace.get("isvc")["items"]]
    return names == ["m"] and "canary" not in namespace.get("isvc", "m")["spec"]


@pytest.mark.timeout(1800)
def test_weights_with_wrong_labels_get_no_traffic(namespace, served, rollout) -> None:
    done = rollout("--to", "pvc://weights/shuffled")
    steps, verdict = steps_of(done)
    assert done.returncode == 3
    assert [step["percent"] for step in steps] == [0]
    assert steps[0]["agreement"]["ratio"] == 0
    assert verdict["storageUri"] == "pvc://weights/stable"
    assert source(namespace) == "pvc://weights/stable"
    assert is_gone(namespace)


@pytest.mark.timeout(1800)
def test_slow_weights_are_rolled_back(namespace, served, rollout) -> None:
    done = rollout("--to", "pvc://weights/slow")
    steps, verdict = steps_of(done)
    assert done.returncode == 3
    assert steps[-1]["agreement"]["ratio"] > 0.9
    assert "times the stable version's" in verdict["reason"]
    assert is_gone(namespace)


@pytest.mark.timeout(1800)
def test_weights_that_are_not_there_are_rolled_back_with_the_pods_reason(namespace, served, rollout) -> None:
    done = rollout("--to", "pvc://weights/nowhere", "--ready-seconds", "60")
    _, verdict = steps_of(done)
    assert done.returncode == 3
    assert "the canary does not become ready: pod " in verdict["reason"]
    assert is_gone(namespace)


@pytest.mark.timeout(1800)
def test_good_weights_are_promoted_and_no_request_fails_on_the_way(namespace, served, rollout, gateway) -> None:
    clients = Clients(gateway, namespace.name, served)
    with clients:
        done = rollout("--to", "pvc://weights/better")
    steps, verdict = steps_of(done)
    assert done.returncode == 0, done.stdout
    assert [step["percent"] for step in steps] == [0, 5, 25, 50, 100]
    assert all(step["agreement"]["ratio"] == 1 for step in steps)
    assert verdict["storageUri"] == source(namespace) == "pvc://weights/better"
    assert is_gone(namespace)
    assert clients.codes.keys() == {200}, clients.codes
    reasons = {each["reason"] for each in namespace.get("events")["items"]}
    assert {"RolloutBegun", "RolloutStep", "RolloutPromoted"} <= reasons


class Clients:
    """Someone who asks for a picture all the time, through the gateway, while a `with` block lasts."""

    def __init__(self, gateway, namespace: str, topology: str) -> None:
        self.codes: Counter[int] = Counter()
        self._gateway = gateway
        self._host = f"rollout.{namespace}.example.com" if topology == "split" else f"m-{namespace}.example.com"
        self._picture = generated_samples()[0].data
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        body = {"content": self._picture}
        self._gateway.routed(self._host, "/inference/detect", method="POST", **body)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            try:
                answer = self._gateway.request(self._host, "/inference/detect", "POST", content=self._picture)
            except httpx2.HTTPError:
                self.codes[0] += 1
            else:
                self.codes[answer.status_code] += 1
