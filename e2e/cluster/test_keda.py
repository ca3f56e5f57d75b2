"""KEDA scales a predictor by the requests in progress that Prometheus counts in its pods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helm import Release
from through_gateway import Crowd, Served

pytestmark = [pytest.mark.addon("keda"), pytest.mark.timeout(900)]

VALUES = {
    "monitoring": {"prometheusUrl": "http://prometheus.monitoring:9090"},
    "models": {
        "m": {
            "storageUri": "yolo://shapes",
            "predictor": {"maxReplicas": 2, "autoscaling": {"class": "keda", "concurrency": 1}},
            "transformer": {"maxReplicas": 1, "autoscaling": {"class": "none"}},
        }
    },
}


@pytest.fixture(scope="module")
def served(namespace, release: Release, gateway) -> Served:
    """Install a model whose predictor has one pod for each request in progress."""
    release.install(VALUES)
    namespace.wait("isvc/m", seconds=300)
    namespace.wait("scaledobject/m-predictor", seconds=60)
    host = f"m.{namespace.name}.example.com"
    gateway.routed(host, "/v2/models/m/ready")
    return Served(gateway.address, host, "m")


def ready_predictors(namespace) -> int:
    return namespace.get("deploy", "m-predictor")["status"].get("readyReplicas", 0)


def test_the_predictor_alone_scales_out_under_load_and_back(served, namespace, eventually: Callable) -> None:
    assert ready_predictors(namespace) == 1
    with Crowd(served, users=8) as crowd:
        eventually(lambda: ready_predictors(namespace) == 2, "two predictors are ready", 300)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    (scaler,) = namespace.get("hpa")["items"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == "m-predictor"
    assert [metric["type"] for metric in scaler["spec"]["metrics"]] == ["External"]
    eventually(lambda: ready_predictors(namespace) == 1, "one predictor is left", 400)
