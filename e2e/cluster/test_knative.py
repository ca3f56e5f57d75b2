"""Knative mode: pods that come with the first request and go after the last, canaries by revision, and rollouts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import shapes_variants
from helm import IN_CLUSTER, Release, over
from in_cluster import file_server
from rollouts import ended, started
from through_gateway import Crowd, Served, shares

pytestmark = [pytest.mark.addon("knative"), pytest.mark.timeout(900)]

AT_ZERO = {"predictor": {"minReplicas": 0}, "transformer": {"minReplicas": 0}}
MODELS = {
    "far": {"storageUri": "yolo://shapes", "mode": "Knative", **AT_ZERO},
    "near": {"storageUri": "yolo://shapes", "mode": "Knative", "topology": "collocated", **AT_ZERO},
}
# Without a mesh Knative has no host for a whole InferenceService: clients ask the component that comes first.
FIRST = {"far": "transformer", "near": "predictor"}
PERCENT = 25
REQUESTS = 300
# Four standard deviations of a binomial: a right split fails this once in ten thousand runs.
TOLERANCE = 4 * math.sqrt(PERCENT / 100 * (1 - PERCENT / 100) / REQUESTS)


def install(release: Release, *changes: dict) -> None:
    models = MODELS
    for change in changes:
        models = over(models, change)
    release.install(over(IN_CLUSTER, {"models": models}))


@pytest.fixture(scope="module")
def weights(namespace) -> Callable[[str], str]:
    """Serve other versions of the weights in the cluster; return a function that returns a version's URI."""
    versions = {"same.onnx": shapes_variants.same(), "shuffled.onnx": shapes_variants.shuffled()}
    files = file_server(namespace, versions)
    return lambda version: f"{files}/{version}.onnx"


@pytest.fixture(scope="module")
def release(release: Release, namespace) -> Release:
    """Install a model in each topology."""
    install(release)
    for model in MODELS:
        namespace.wait(f"isvc/{model}", seconds=300)
    return release


@pytest.fixture
def serve(release: Release, namespace, gateway) -> Callable[[str], Served]:
    """Return a function that returns a model as clients reach it."""
    return lambda model: Served(gateway.address, f"{model}-{FIRST[model]}.{namespace.name}.example.com", model)


@pytest.fixture(scope="module")
def split(release: Release, namespace, weights, eventually) -> str:
    """Give the collocated model a canary that calls everything by another name; return the canary's URI."""
    canary = {"enabled": True, "percent": PERCENT, "storageUri": weights("shuffled")}
    install(release, {"near": {"predictor": {"minReplicas": 1}}})
    eventually(lambda: revisions(namespace)["latestReadyRevision"] == "near-predictor-00002", "a pod that stays", 120)
    install(release, {"near": {"predictor": {"minReplicas": 1}, "canary": canary}})
    eventually(lambda: revisions(namespace)["latestReadyRevision"] == "near-predictor-00003", "the canary", 120)
    return canary["storageUri"]


def revisions(namespace) -> dict:
    return namespace.get("isvc", "near")["status"]["components"]["predictor"]


def restarts(pod: dict) -> list[tuple[str, int]]:
    return [(each["name"], each["restartCount"]) for each in pod["status"].get("containerStatuses", [])]


def pods(namespace, model: str) -> list[dict]:
    return namespace.get("pods", "-l", f"serving.kserve.io/inferenceservice={model}")["items"]


def test_models_at_zero_answer_the_first_request_and_go_back(serve, namespace, eventually) -> None:
    for served in map(serve, MODELS):
        # The gateway may be some seconds late after the installation; what follows gets no second try.
        eventually(lambda served=served: served.mistakes_by_rest() == [], f"{served.host} is routed", 120)
    eventually(lambda: not any(pods(namespace, model) for model in MODELS), "no pod is left", 200)
    for model in MODELS:
        assert serve(model).mistakes_by_rest() == []
        assert len(pods(namespace, model)) > 0


def test_no_container_ended_and_no_probe_for_life_failed_meanwhile(release, namespace) -> None:
    """Knative moves a liveness probe by HTTP to the container's one port, which may be gRPC's."""
    containers = [each for model in MODELS for pod in pods(namespace, model) for each in restarts(pod)]
    assert [name for name, count in containers if count] == []
    unhealthy = namespace.get("events", "--field-selector", "reason=Unhealthy")["items"]
    assert [each["message"] for each in unhealthy if each["message"].startswith("Liveness")] == []


def test_a_canary_of_a_split_model_is_refused_in_one_line(release, weights) -> None:
    canary = {"enabled": True, "storageUri": weights("same")}
    with pytest.raises(AssertionError, match=r"models.far.canary: Knative splits the traffic of predictor and"):
        install(release, {"far": {"canary": canary}})


def test_a_canary_gets_its_part_of_the_traffic_and_versions_do_not_mix(split, serve, eventually) -> None:
    served = serve("near")

    def routed() -> bool:
        with Crowd(served) as crowd:
            crowd.wait_for(20)
        return len(crowd.digests) == 2

    eventually(routed, "both versions answer", 120)
    # The other model has the stable version's weights.
    with Crowd(serve("far"), users=1) as stable:
        stable.wait_for(1)
    with Crowd(served, users=3) as crowd:
        crowd.wait_for(REQUESTS)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    # The canary has other labels: an answer of one version with the other's would be a third thing said.
    assert [len(said) for said in crowd.named.values()] == [1, 1]
    assert shares(crowd.digests, stable.digests) == [pytest.approx(1 - PERCENT / 100, abs=TOLERANCE)], crowd.digests


def test_a_canary_with_wrong_labels_is_rolled_back(split, namespace, serve) -> None:
    with Crowd(serve("near"), users=1, pause_s=0.1) as crowd:
        status, steps, verdict = ended(started(namespace.name, "near"))
        rolled_back = crowd.answers.total()
    assert status == 3, verdict
    assert [step["percent"] for step in steps] == [PERCENT]
    assert "agree with the stable version's by 0.000" in verdict["reason"]
    assert verdict["storageUri"] == source(namespace) == "yolo://shapes"
    assert rolled_back > 0
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    with Crowd(serve("near"), users=1) as crowd:
        crowd.wait_for(20)
    assert len(crowd.digests) == 1, crowd.digests


def test_good_weights_are_promoted_and_no_request_fails_on_the_way(split, namespace, serve, weights) -> None:
    served = serve("near")
    with Crowd(served, users=1, pause_s=0.1) as crowd:
        status, steps, verdict = ended(started(namespace.name, "near", "--to", weights("same")))
    assert status == 0, verdict
    assert [step["percent"] for step in steps] == [0, 25, 100]
    assert all(step["agreement"]["ratio"] == 1 for step in steps)
    assert verdict["storageUri"] == source(namespace) == weights("same")
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    before, after = crowd.digests
    with Crowd(served, users=1) as crowd:
        crowd.wait_for(20)
    assert set(crowd.digests) == {after}, (before, crowd.digests)


def test_a_rollout_of_a_split_model_is_refused_in_one_line(release, namespace) -> None:
    process = started(namespace.name, "far", "--to", "yolo://shapes")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("error: InferenceService far has a transformer of its own in Knative mode")
    assert said.count("\n") == 1


def source(namespace) -> str:
    predictor = namespace.get("isvc", "near")["spec"]["predictor"]
    assert "canaryTrafficPercent" not in predictor
    return predictor["model"]["storageUri"]
