"""The init container pulls weights from a server in the cluster, and lets only those in whose digest is right."""

from __future__ import annotations

import hashlib

import pytest
import shapes_variants
from helm import IN_CLUSTER, Release
from in_cluster import file_server
from through_gateway import Served


@pytest.fixture(scope="module")
def weights(namespace) -> tuple[str, str]:
    """Serve weights over HTTP in the cluster; return their URI and their sha256."""
    model = shapes_variants.same()
    return file_server(namespace, {"model.onnx": model}) + "/model.onnx", hashlib.sha256(model).hexdigest()


@pytest.fixture(scope="module")
def release(release, weights) -> Release:
    """Install one model with the right digest, and one with a wrong one; with Helm 3, as the others do with Helm 4."""
    uri, digest = weights
    release.version = 3
    models = {name: {"storageUri": f"{uri}#sha256={it}"} for name, it in {"right": digest, "wrong": "0" * 64}.items()}
    release.install({**IN_CLUSTER, "models": models})
    return release


def test_weights_of_the_right_digest_are_served(release, namespace, gateway) -> None:
    namespace.wait("isvc/right", seconds=600)
    host = f"right.{namespace.name}.example.com"
    gateway.routed(host, "/v2/models/right/ready")
    assert Served(gateway.address, host, "right").mistakes_by_rest() == []


def test_weights_of_a_wrong_digest_are_not(release, namespace, eventually) -> None:
    def reason() -> str:
        pods = namespace.get("pods", "-l", "serving.kserve.io/inferenceservice=wrong,component=predictor")["items"]
        assert pods
        (status,) = pods[0]["status"].get("initContainerStatuses") or [{"restartCount": 0}]
        assert status["restartCount"] > 0
        name = pods[0]["metadata"]["name"]
        said = namespace.kubectl("logs", name, "-c", "storage-initializer")
        assert "0" * 64 in said
        return said

    assert "sha256" in eventually(reason, "the init container has failed and said why", 300)
    conditions = {each["type"]: each["status"] for each in namespace.get("isvc", "wrong")["status"]["conditions"]}
    assert conditions["Ready"] != "True"
