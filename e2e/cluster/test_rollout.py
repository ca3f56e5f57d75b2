"""`yolo-kserve rollout` where all is real: KServe, its pods, the gateway, clients, and weights that are wrong."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import shapes_variants
from helm import IN_CLUSTER, Release
from in_cluster import file_server
from rollouts import STRICT, ended, started
from through_gateway import Crowd, Served

TOPOLOGIES = ("split", "collocated")
# One pod of everything, for what scaling does to a rollout is not the question here.
ONE = {component: {"autoscaling": {"class": "none"}} for component in ("predictor", "transformer")}
MODELS = {topology: {"storageUri": "yolo://shapes", "topology": topology, **ONE} for topology in TOPOLOGIES}


@pytest.fixture(scope="module")
def weights(namespace) -> str:
    """Serve versions of the shapes model in the cluster: good ones, and ones that are wrong; return where."""
    versions = {
        "good": shapes_variants.same(),
        "better": shapes_variants.same("and once more"),
        "shuffled": shapes_variants.shuffled(),
        "slow": shapes_variants.slow(),
        "brittle": shapes_variants.brittle(),
    }
    return file_server(namespace, {f"{name}.onnx": data for name, data in versions.items()})


@pytest.fixture(scope="module")
def release(namespace, release: Release, weights) -> Release:
    """Install a model in each topology, named after it."""
    release.install({**IN_CLUSTER, "models": MODELS})
    for topology in TOPOLOGIES:
        namespace.wait(f"isvc/{topology}", seconds=600)
    return release


@dataclass(frozen=True)
class Model:
    """A model that a rollout is about; `weights` is where its versions are."""

    served: Served
    weights: str
    namespace: object

    def start(self, version: str, *arguments: str) -> subprocess.Popen[str]:
        """Begin to roll out a version."""
        source = f"{self.weights}/{version}.onnx"
        return started(self.namespace.name, self.served.model, "--to", source, *arguments)

    def roll_out(self, version: str, *arguments: str) -> tuple[int, list[dict], dict]:
        """Roll a version out; return the exit status, the steps, and the verdict."""
        return ended(self.start(version, *arguments))

    @property
    def source(self) -> str:
        """What the stable version serves."""
        return self.namespace.get("isvc", self.served.model)["spec"]["predictor"]["model"]["storageUri"]

    @property
    def services(self) -> set[str]:
        """The model's InferenceServices."""
        found = self.namespace.get("isvc", "-l", f"yolo-kserve/model={self.served.model}")
        return {each["metadata"]["name"] for each in found["items"]}

    @property
    def backends(self) -> set[str]:
        """The Services that the model's route leads to."""
        route = self.namespace.get("httproute", f"{self.served.model}-route")
        return {ref["name"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}

    def is_alone(self) -> bool:
        """Tell whether nothing is left of a canary."""
        front = "transformer" if self.served.model == "split" else "predictor"
        return self.services == {self.served.model} and self.backends == {f"{self.served.model}-{front}"}


@pytest.fixture(params=TOPOLOGIES)
def model(request, release, namespace, weights, gateway) -> Model:
    """Return a model as clients reach it."""
    host = f"{request.param}.{namespace.name}.example.com"
    gateway.routed(host, f"/v2/models/{request.param}/ready")
    return Model(Served(gateway.address, host, request.param), weights, namespace)


split, collocated = (pytest.mark.parametrize("model", [topology], indirect=True) for topology in TOPOLOGIES)


@pytest.mark.timeout(600)
def test_weights_with_wrong_labels_get_no_traffic(model) -> None:
    before = model.source
    status, steps, verdict = model.roll_out("shuffled")
    assert status == 3, verdict
    assert [step["percent"] for step in steps] == [0]
    assert steps[0]["agreement"]["ratio"] == 0
    assert verdict["storageUri"] == model.source == before
    assert model.is_alone()


@collocated
@pytest.mark.timeout(600)
def test_slow_weights_are_rolled_back(model) -> None:
    status, steps, verdict = model.roll_out("slow", *STRICT)
    assert status == 3, verdict
    assert steps[-1]["agreement"]["ratio"] > 0.9
    assert "times the stable version's" in verdict["reason"]
    assert model.is_alone()


@collocated
@pytest.mark.timeout(600)
def test_weights_that_are_not_there_are_rolled_back_with_the_pods_reason(model) -> None:
    status, _, verdict = model.roll_out("nowhere", "--ready-seconds", "20")
    assert status == 3, verdict
    assert "the canary does not become ready: pod " in verdict["reason"]
    assert model.is_alone()


@split
@pytest.mark.timeout(600)
def test_weights_that_fail_clients_alone_lose_their_part_of_the_traffic(model) -> None:
    white = np.full((480, 640, 3), 255, np.uint8)
    _, picture = cv2.imencode(".png", white)
    with Crowd(model.served, picture=picture.tobytes()) as crowd:
        status, steps, verdict = model.roll_out("brittle", "--step-seconds", "60")
    assert status == 3, verdict
    assert [step["percent"] for step in steps] == [0, 25]
    assert steps[0]["errors"] == 0
    assert steps[1]["errors"] > 0
    assert "requests to the canary failed" in verdict["reason"]
    assert model.is_alone()
    assert set(crowd.answers) == {200, 500}, (crowd.answers, crowd.failures)
    with Crowd(model.served, picture=picture.tobytes()) as crowd:
        crowd.wait_for(50)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)


@pytest.mark.timeout(900)
def test_good_weights_are_promoted_and_no_request_fails_on_the_way(model, namespace, release, eventually) -> None:
    versions = ("good", "better") if model.served.model == "collocated" else ("good",)
    with Crowd(model.served, pause_s=0.05) as crowd:
        for version in versions:
            process = model.start(version)
            eventually(lambda: has_budget(namespace, f"{model.served.model}-canary-predictor"), "a budget", 120)
            status, steps, verdict = ended(process)
            assert status == 0, verdict
            assert [step["percent"] for step in steps] == [0, 25, 100]
            assert all(step["agreement"]["ratio"] == 1 for step in steps)
            # What clients were answered counts, not the command's own pictures alone.
            assert all(step["requests"] > step["probes"] for step in steps[1:])
            assert verdict["storageUri"] == model.source == f"{model.weights}/{version}.onnx"
            assert model.is_alone()
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    assert len(crowd.digests) == 1 + len(versions), crowd.digests
    reasons = {each["reason"] for each in namespace.get("events")["items"]}
    assert {"RolloutBegun", "RolloutStep", "RolloutPromoted"} <= reasons
    # What the command changed is Helm's to change again.
    release.install({**IN_CLUSTER, "models": MODELS})
    assert model.source == "yolo://shapes"
    namespace.rolled_out(f"{model.served.model}-predictor", seconds=300)


def has_budget(namespace, name: str) -> bool:
    """Tell whether a disruption budget counts pods."""
    return namespace.get("pdb", name)["status"].get("expectedPods", 0) > 0
