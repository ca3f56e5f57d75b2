"""Servers that a test puts into the cluster."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

PYTHON = "docker.io/library/python:3.11-slim-bookworm"


class Namespace(Protocol):
    """A namespace of the cluster, as the suite's conftest has it."""

    name: str

    def apply(self, *manifests: Mapping[str, Any]) -> None: ...

    def wait(self, what: str) -> None: ...

    def kubectl(self, *arguments: str, stdin: str) -> str: ...


def file_server(namespace: Namespace, files: Mapping[str, bytes]) -> str:
    """Serve files by plain HTTP from a pod; return the address they are at."""
    labels = {"app": "files"}
    container = {
        "name": "files",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python", "-m", "http.server", "8000", "--directory", "/srv"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "srv", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    }
    metadata = {"name": "files", "labels": labels}
    ports = {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]}
    namespace.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "files"}, "spec": ports},
    )
    namespace.wait("pod/files")
    for name, data in files.items():
        script = f"import base64, sys; open('/srv/{name}', 'wb').write(base64.b64decode(sys.stdin.read()))"
        encoded = base64.b64encode(data).decode()
        namespace.kubectl("exec", "-i", "files", "--", "python", "-c", script, stdin=encoded)
    return f"http://files.{namespace.name}.svc.cluster.local"
