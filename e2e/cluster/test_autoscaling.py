"""Load has the predictor scaled out, new pods get their part of it at once, and quiet has it scaled back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helm import Release
from through_gateway import Crowd, Served

MODEL = {
    "storageUri": "yolo://shapes",
    "predictor": {
        "maxReplicas": 2,
        "autoscaling": {"cpuPercent": 50},
        # Connections end often, so that a transformer finds a new pod within seconds.
        "args": ["--max_connection_age=5"],
        "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    },
    "transformer": {"maxReplicas": 1},
}


@pytest.fixture(scope="module")
def served(namespace, release: Release, gateway) -> Served:
    """Install a model that may have two predictors, and has one."""
    release.install({"models": {"m": MODEL}})
    namespace.wait("isvc/m", seconds=600)
    host = f"m.{namespace.name}.example.com"
    gateway.routed(host, "/v2/models/m/ready")
    return Served(gateway.address, host, "m")


def ready_predictors(namespace) -> int:
    return namespace.get("deploy", "m-predictor")["status"].get("readyReplicas", 0)


def answered(namespace) -> dict[str, float]:
    """Return how many inferences each predictor has answered, by its own count."""
    items = namespace.get("pods", "-l", "serving.kserve.io/inferenceservice=m,component=predictor")["items"]
    counts = {}
    for item in items:
        path = f"/api/v1/namespaces/{namespace.name}/pods/{item['metadata']['name']}:8080/proxy/metrics"
        lines = namespace.kubectl("get", "--raw", path).splitlines()
        ours = (line for line in lines if line.startswith("yolo_request_seconds_count") and 'call="infer"' in line)
        counts[item["metadata"]["name"]] = sum(float(line.rpartition(" ")[2]) for line in ours)
    return counts


@pytest.mark.timeout(1200)
def test_the_predictor_scales_out_under_load_and_back(served, namespace, eventually: Callable) -> None:
    # Starting takes CPU time too, and on a busy machine the autoscaler may answer to that.
    eventually(lambda: ready_predictors(namespace) == 1, "one predictor is there", 300)
    with Crowd(served, users=4) as crowd:
        eventually(lambda: ready_predictors(namespace) == 2, "two predictors are ready", 400)
        eventually(lambda: min(answered(namespace).values()) > 20, "both predictors answer", 120)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    eventually(lambda: ready_predictors(namespace) == 1, "one predictor is left", 500)
