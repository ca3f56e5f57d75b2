"""Pods come and go under load, by upgrade, deletion, eviction and out-of-memory kill, and clients hardly notice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from helm import Release
from kubernetes import client
from through_gateway import Crowd, Served

# Two of each, so that one may go.
MODEL = {
    "storageUri": "yolo://shapes",
    "predictor": {"minReplicas": 2, "maxReplicas": 2},
    "transformer": {"minReplicas": 2, "maxReplicas": 2},
}
MODELS = {"m": MODEL, "near": {**MODEL, "topology": "collocated"}}
COMPONENTS = {"m": ("transformer", "predictor"), "near": ("predictor",)}
# As long as the chart gives routes to follow: here it is what counts.
DRAIN = {"delaySeconds": 5}


@pytest.fixture(scope="module")
def release(namespace, release) -> Release:
    """Install a model of two pods each in each topology."""
    release.install({"models": MODELS, "drain": DRAIN})
    for model in MODELS:
        namespace.wait(f"isvc/{model}", seconds=600)
    return release


@pytest.fixture
def serve(release, namespace, gateway) -> Callable[[str], Served]:
    """Return a function that returns a model as clients reach it, with all its pods ready."""

    def reached(model: str) -> Served:
        for component in COMPONENTS[model]:
            namespace.rolled_out(f"{model}-{component}", seconds=300)
        host = f"{model}.{namespace.name}.example.com"
        gateway.routed(host, f"/v2/models/{model}/ready")
        return Served(gateway.address, host, model)

    return reached


@pytest.fixture
def served(serve) -> Served:
    """Return the split model."""
    return serve("m")


def pods(namespace, component: str, model: str = "m") -> list[str]:
    selector = f"serving.kserve.io/inferenceservice={model},component={component}"
    items = namespace.get("pods", "-l", selector)["items"]
    return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("model", "component"), [(model, each) for model in MODELS for each in COMPONENTS[model]])
def test_an_upgrade_and_its_rollback_lose_no_request(model, component, serve, release, namespace, eventually) -> None:
    def turned(before: set[str]) -> None:
        # KServe passes a change on to the Deployment some time after Helm is done.
        eventually(lambda: before.isdisjoint(pods(namespace, component, model)), "every pod is a new one", 300)
        namespace.rolled_out(f"{model}-{component}", seconds=300)

    with Crowd(serve(model), users=1, callers=1) as crowd:
        crowd.wait_for(20)
        first = set(pods(namespace, component, model))
        changed = {**MODELS[model], component: {**MODELS[model][component], "podLabels": {"turn": "two"}}}
        release.install({"models": {**MODELS, model: changed}, "drain": DRAIN})
        turned(first)
        second = set(pods(namespace, component, model))
        crowd.wait_for(20)
        release.helm("rollback", release.name)
        turned(second)
        crowd.wait_for(20)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("component", ["transformer", "predictor"])
def test_a_deleted_pod_costs_nobody_more_than_a_second_try(component, served, namespace) -> None:
    with Crowd(served, retries=1) as crowd:
        crowd.wait_for(10)
        namespace.kubectl("delete", "pod", pods(namespace, component)[0], "--wait=true")
        namespace.rolled_out(f"m-{component}", seconds=300)
        crowd.wait_for(10)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)


@pytest.mark.timeout(900)
def test_an_eviction_waits_for_the_disruption_budget_and_loses_nothing(served, namespace) -> None:
    first, second = pods(namespace, "predictor")
    core = client.CoreV1Api()

    def evict(name: str) -> None:
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace.name))
        core.create_namespaced_pod_eviction(name, namespace.name, body)

    with Crowd(served, retries=1) as crowd:
        crowd.wait_for(10)
        evict(first)
        with pytest.raises(client.ApiException) as refused:
            evict(second)
        assert refused.value.status == 429
        assert "disruption budget" in refused.value.body
        namespace.rolled_out("m-predictor", seconds=300)
        crowd.wait_for(10)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)


@pytest.mark.timeout(900)
def test_a_predictor_killed_for_its_memory_costs_nobody_more_than_a_second_try(served, namespace, eventually) -> None:
    victim = pods(namespace, "predictor")[0]
    # The kernel takes the largest process: of many that are smaller than the server, the server.
    gluttons = "import os, time\nwhile os.fork(): time.sleep(0.1)\nkept = b'x' * (64 << 20)\ntime.sleep(60)"
    with Crowd(served, retries=1) as crowd:
        crowd.wait_for(10)
        with pytest.raises(subprocess.CalledProcessError):
            namespace.kubectl("exec", victim, "-c", "kserve-container", "--", "python", "-c", gluttons)

        def restarted() -> bool:
            (status,) = namespace.get("pod", victim)["status"]["containerStatuses"]
            if not status["restartCount"] or not status["ready"]:
                return False
            return status["lastState"]["terminated"]["reason"] == "OOMKilled"

        eventually(restarted, "the killed predictor is back", 300)
        crowd.wait_for(10)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
