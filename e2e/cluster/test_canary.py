"""A canary gets the part of the traffic it should, clients can pick a version, and versions never mix."""

from __future__ import annotations

import math

import pytest
import shapes_variants
from helm import IN_CLUSTER, Release
from in_cluster import file_server
from through_gateway import Crowd, Served, shares

from yolo_client.demo import generated_samples

TOPOLOGIES = ("split", "collocated")
PERCENT = 10
REQUESTS = 400
# Four standard deviations of a binomial: a right split fails this once in ten thousand runs.
TOLERANCE = 4 * math.sqrt(PERCENT / 100 * (1 - PERCENT / 100) / REQUESTS)


@pytest.fixture(scope="module")
def weights(namespace) -> str:
    """Serve another version of the weights in the cluster; return their URI."""
    return file_server(namespace, {"canary.onnx": shapes_variants.same()}) + "/canary.onnx"


@pytest.fixture(scope="module")
def release(namespace, release: Release, weights) -> Release:
    """Install a model with a canary in each topology, named after it."""
    canary = {"enabled": True, "percent": PERCENT, "storageUri": weights}
    one = {component: {"autoscaling": {"class": "none"}} for component in ("predictor", "transformer")}
    model = {"storageUri": "yolo://shapes", "canary": canary, **one}
    models = {topology: {**model, "topology": topology} for topology in TOPOLOGIES}
    release.install({**IN_CLUSTER, "models": models})
    for topology in TOPOLOGIES:
        for service in (topology, f"{topology}-canary"):
            namespace.wait(f"isvc/{service}", seconds=600)
    return release


@pytest.fixture(params=TOPOLOGIES)
def served(request, release, namespace, gateway) -> Served:
    """Return a model as clients reach it."""
    model = request.param
    host = f"{model}.{namespace.name}.example.com"
    gateway.routed(host, f"/v2/models/{model}/ready")
    return Served(gateway.address, host, model)


def digest(served: Served, version: str, requests: int = 20) -> str:
    """Return the digest of the weights that answer every request for a version."""
    with Crowd(served, users=2, headers={"x-yolo-version": version}) as crowd:
        crowd.wait_for(requests)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    assert len(crowd.digests) == 1, crowd.digests
    return next(iter(crowd.digests))


@pytest.mark.timeout(600)
def test_a_tenth_of_the_traffic_goes_to_the_canary(served, eventually) -> None:
    canary = digest(served, "canary")

    def routed() -> bool:
        with Crowd(served) as crowd:
            crowd.wait_for(40)
        return len(crowd.digests) == 2

    # The gateway follows a change of weights some seconds later.
    eventually(routed, "both versions answer", 120)
    with Crowd(served, users=3) as crowd:
        crowd.wait_for(REQUESTS)
    assert set(crowd.answers) == {200}, (crowd.answers, crowd.failures)
    assert len(crowd.digests) == 2, crowd.digests
    assert shares(crowd.digests, [canary]) == [pytest.approx(PERCENT / 100, abs=TOLERANCE)], crowd.digests


@pytest.mark.timeout(600)
def test_a_header_picks_the_version_and_no_answer_is_of_the_other_one(served) -> None:
    assert digest(served, "canary") != digest(served, "stable")


@pytest.mark.timeout(600)
def test_metadata_of_grpc_picks_the_version_that_the_header_picks(served) -> None:
    picture = generated_samples()[0].data
    for version in ("canary", "stable"):
        answers = [served.by_grpc(picture, headers={"x-yolo-version": version}) for _ in range(10)]
        assert {answer.parameters["model.digest"] for answer in answers} == {digest(served, version)}
