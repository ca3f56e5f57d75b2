"""What people write themselves serves pictures: ten lines for the chart's runtimes, or containers without any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helm import ROOT, Release
from through_gateway import Served

RUNTIMES = "clusterservingruntimes,servingruntimes"


@pytest.fixture(scope="module")
def release(release: Release) -> Release:
    """Install what an administrator would for others: no model, and the storage container alone to begin with."""
    release.install({"runtimes": {"create": False}})
    return release


@contextmanager
def applied(namespace, sample: str) -> Iterator[None]:
    """Have a sample in the cluster, ready, with the images of this clone, and asking for no more than its node has."""
    written = (ROOT / "manifests" / "samples" / f"{sample}.yaml").read_text()
    objects = re.sub(r"ghcr\.io/(yolo-kserve/[a-z-]+):[\w.-]+", r"localhost/\1:dev", written)
    namespace.apply(re.sub(r"requests: \{cpu: [^,]+", "requests: {cpu: 50m", objects))
    namespace.wait("isvc/shapes", seconds=300)
    try:
        yield
    finally:
        namespace.kubectl("delete", "--wait", "isvc/shapes")


def served(namespace, gateway, model: str) -> Served:
    """Return a model as clients reach it by the host that KServe gives it."""
    host = f"{model}-{namespace.name}.example.com"
    gateway.routed(host, f"/v2/models/{model}/ready")
    return Served(gateway.address, host, model)


def test_a_model_on_runtimes_of_its_own_namespace_serves_pictures(release, namespace, gateway) -> None:
    own = Release(namespace.name, "own")
    model = {"storageUri": "yolo://shapes", "topology": "collocated", "storageContainerName": "yolo-weights-sync"}
    own.install({"scope": "namespace", "models": {"mine": model}})
    try:
        assert "clusterservingruntime" not in namespace.kubectl("get", RUNTIMES, "-o", "name")
        namespace.wait("isvc/mine", seconds=300)
        assert served(namespace, gateway, "mine").mistakes_by_rest() == []
    finally:
        own.uninstall()


def test_containers_without_a_runtime_serve_pictures(release, namespace, gateway) -> None:
    with applied(namespace, "custom-container"):
        assert served(namespace, gateway, "shapes").mistakes_by_rest() == []


def test_ten_lines_serve_pictures_and_their_pods_are_the_pod_monitors_too(release, namespace, gateway) -> None:
    release.install({})
    with applied(namespace, "shapes"):
        assert served(namespace, gateway, "shapes").mistakes_by_rest() == []
        labels = namespace.get("deployment", "shapes-predictor")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "yolo-kserve"
    assert labels["app.kubernetes.io/instance"] == release.name
