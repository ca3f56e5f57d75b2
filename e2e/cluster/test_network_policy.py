"""The chart's network policies, enforced: pods hear those whom they serve, and speak to those whom they need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helm import Release
from in_cluster import PYTHON, redis_server
from through_gateway import Served

from yolo_client.client import Detection
from yolo_client.demo import generated_samples

pytestmark = [pytest.mark.addon("netpol"), pytest.mark.timeout(600)]

VALUES = {
    "models": {
        "far": {"storageUri": "yolo://shapes"},
        "near": {"storageUri": "yolo://shapes", "topology": "collocated"},
    },
    "networkPolicy": {
        "metrics": [{"podSelector": {"matchLabels": {"role": "metrics"}}}],
        "redis": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
    "redis": {"secretName": "redis"},
}
CONNECT = """
import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
except OSError: print("shut")
else: print("open")
"""
# By component and port: whether a stranger and whether Prometheus gets in.
DOORS = {
    ("far", "predictor", 8080): ("shut", "open"),
    ("far", "predictor", 8081): ("shut", "shut"),
    ("far", "transformer", 8080): ("open", "open"),
    ("far", "transformer", 8081): ("open", "open"),
    ("near", "predictor", 8080): ("open", "open"),
    ("near", "predictor", 9080): ("shut", "open"),
    ("near", "predictor", 9081): ("shut", "shut"),
}

MODELS = pytest.mark.parametrize(("model", "host"), [("far", "far.{}.example.com"), ("near", "near-{}.example.com")])


def listener(name: str) -> dict:
    """Return a pod that listens on port 8000 and has a Python to exec; its role is its name."""
    container = {
        "name": "listener",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python", "-m", "http.server", "8000"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"role": name}},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def addresses(namespace, release: Release) -> dict[tuple[str, str], str]:
    """Install a model in each topology beside two other pods; return the models' pods' addresses."""
    redis_server(namespace)
    release.install(VALUES)
    namespace.apply(listener("stranger"), listener("metrics"))
    for what in ("pod/stranger", "pod/metrics", "isvc/far", "isvc/near"):
        namespace.wait(what, seconds=300)
    return {
        (pod["metadata"]["labels"]["serving.kserve.io/inferenceservice"], pod["metadata"]["labels"]["component"]): (
            pod["status"]["podIP"]
        )
        for pod in namespace.get("pods", "-l", "app.kubernetes.io/name=yolo-kserve")["items"]
    }


@pytest.fixture
def door(namespace) -> Callable[[str, str, int], str]:
    """Return a function that tells whether a connection from a pod to an address comes about."""

    def tell(source: str, address: str, port: int) -> str:
        return namespace.kubectl("exec", source, "--", "python", "-c", CONNECT, address, str(port)).strip()

    return tell


def test_pods_let_in_whom_they_serve_and_no_one_else(addresses, door, eventually) -> None:
    def found() -> bool:
        seen = {
            (model, component, port): tuple(
                door(source, addresses[model, component], port) for source in ("stranger", "metrics")
            )
            for model, component, port in DOORS
        }
        assert seen == DOORS
        return True

    # A policy is enforced some time after its pod starts.
    eventually(found, "every door is as it should be", 60)


@MODELS
def test_pictures_still_get_through_both_servers(addresses, model, host, namespace, gateway, eventually) -> None:
    served = Served(gateway.address, host.format(namespace.name), model)
    eventually(lambda: served.mistakes_by_rest() == [], f"{served.host} answers", 60)


@MODELS
def test_the_same_picture_is_answered_from_redis(addresses, model, host, namespace, gateway, eventually) -> None:
    with Served(gateway.address, host.format(namespace.name), model).rest() as client:
        sample = generated_samples()[0]
        asked = client.detect(sample.data, use_cache=False)

        def answer() -> tuple[Detection, ...] | None:
            found = client.detect(sample.data)
            return found.detections if found.cached else None

        assert not asked.cached
        assert eventually(answer, "the picture is kept", 60) == asked.detections


def test_only_transformers_reach_redis(addresses, namespace, door) -> None:
    redis = namespace.get("pod", "redis")["status"]["podIP"]
    assert door("deploy/far-transformer", redis, 6379) == "open"
    assert door("deploy/far-predictor", redis, 6379) == "shut"


@pytest.mark.parametrize("component", ["predictor", "transformer"])
def test_a_server_can_not_speak_to_other_pods(addresses, component, namespace, door) -> None:
    stranger = namespace.get("pod", "stranger")["status"]["podIP"]
    assert door("metrics", stranger, 8000) == "open"
    assert door(f"deploy/far-{component}", stranger, 8000) == "shut"


def test_it_is_the_policy_that_shuts_the_predictor_off(addresses, namespace, door, eventually) -> None:
    predictor = addresses["far", "predictor"]
    assert door("stranger", predictor, 8081) == "shut"
    namespace.kubectl("delete", "networkpolicy", "far-predictor")
    eventually(lambda: door("stranger", predictor, 8081) == "open", "anyone gets in without the policy", 60)
