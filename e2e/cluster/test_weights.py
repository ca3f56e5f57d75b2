"""The init container pulls weights from a server in the cluster, and lets only those in whose digest is right."""

from __future__ import annotations

import base64
import hashlib

import pytest
import shapes_variants
from helm import Release
from through_gateway import Served

PYTHON = "docker.io/library/python:3.11-slim-bookworm"
SERVER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "files", "labels": {"app": "files"}},
    "spec": {
        "containers": [
            {
                "name": "files",
                "image": PYTHON,
                "imagePullPolicy": "Never",
                "command": ["python", "-m", "http.server", "8000", "--directory", "/srv"],
                "ports": [{"containerPort": 8000}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
                "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
            }
        ],
        "volumes": [{"name": "srv", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "files"},
    "spec": {"selector": {"app": "files"}, "ports": [{"port": 80, "targetPort": 8000}]},
}


@pytest.fixture(scope="module")
def weights(namespace) -> tuple[str, str]:
    """Serve weights over HTTP in the cluster; return their URI and their sha256."""
    namespace.apply(SERVER, SERVICE)
    namespace.wait("pod/files")
    model = shapes_variants.same()
    script = "import base64, sys; open('/srv/model.onnx', 'wb').write(base64.b64decode(sys.stdin.read()))"
    encoded = base64.b64encode(model).decode()
    namespace.kubectl("exec", "-i", "files", "--", "python", "-c", script, stdin=encoded)
    return f"http://files.{namespace.name}.svc.cluster.local/model.onnx", hashlib.sha256(model).hexdigest()


@pytest.fixture(scope="module")
def release(release, weights) -> Release:
    """Install one model with the right digest, and one with a wrong one."""
    uri, digest = weights
    mine = {"storageContainerName": "weights-by-http"}
    release.install(
        {
            "models": {
                "right": {"storageUri": f"{uri}#sha256={digest}", **mine},
                "wrong": {"storageUri": f"{uri}#sha256={'0' * 64}", **mine},
            },
            "storageContainer": {
                "name": "weights-by-http",
                # Plain HTTP and private addresses only because the server is in the cluster.
                "env": [{"name": f"WEIGHTS_SYNC_ALLOW_{what}", "value": "true"} for what in ("HTTP", "PRIVATE")],
            },
            "networkPolicy": {"weights": [{"to": [{"podSelector": {}}]}]},
        }
    )
    return release


def test_weights_of_the_right_digest_are_served(release, namespace, gateway) -> None:
    namespace.wait("isvc/right", seconds=600)
    host = f"right.{namespace.name}.example.com"
    gateway.routed(host, "/v2/models/right/ready")
    assert Served(gateway.address, host, "right").mistakes_by_rest() == []


def test_weights_of_a_wrong_digest_are_not(release, namespace, eventually) -> None:
    def reason() -> str:
        pods = namespace.get("pods", "-l", "serving.kserve.io/inferenceservice=wrong,component=predictor")["items"]
        (status,) = pods[0]["status"]["initContainerStatuses"]
        assert status["restartCount"] > 0
        name = pods[0]["metadata"]["name"]
        return namespace.kubectl("logs", name, "-c", "storage-initializer", "--previous")

    said = eventually(reason, "the init container has failed", 300)
    assert "sha256" in said
    assert "0" * 64 in said
    conditions = {each["type"]: each["status"] for each in namespace.get("isvc", "wrong")["status"]["conditions"]}
    assert conditions["Ready"] != "True"
