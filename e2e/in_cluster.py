"""Servers that a test puts into the cluster."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

PYTHON = "docker.io/library/python:3.11-slim-bookworm"


class Namespace(Protocol):
    """A namespace of the cluster, as the suite's conftest has it."""

    name: str

    def apply(self, *manifests: Mapping[str, Any]) -> None: ...

    def wait(self, what: str) -> None: ...

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str: ...


def file_server(namespace: Namespace, files: Mapping[str, bytes]) -> str:
    """Serve files by plain HTTP from a pod; return the address they are at."""
    command = ["python", "-m", "http.server", "8000", "--directory", "/srv"]
    mount = {"name": "srv", "mountPath": "/srv"}
    _run(namespace, "files", {"image": PYTHON, "command": command, "volumeMounts": [mount]}, 80, 8000)
    for file, data in files.items():
        # Whole, or not there.
        script = (
            f"import base64, os, sys; open('/srv/{file}~', 'wb').write(base64.b64decode(sys.stdin.read()));"
            f"os.rename('/srv/{file}~', '/srv/{file}')"
        )
        namespace.kubectl("exec", "-i", "files", "--", "python", "-c", script, stdin=base64.b64encode(data).decode())
    return f"http://files.{namespace.name}.svc.cluster.local"


def redis_server(namespace: Namespace) -> None:
    """Run a Redis with a password in the pod `redis`, and keep its URL in the Secret `redis`."""
    password = secrets.token_hex(16)
    _run(namespace, "redis", {"image": "localhost/redis:1", "args": ["--requirepass", password]}, 6379, 6379)
    url = f"redis://:{password}@redis.{namespace.name}"
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": {"url": url}})


def _run(namespace: Namespace, name: str, container: Mapping[str, Any], port: int, target: int) -> None:
    """Run a container in a pod behind a Service of the same name, at `port`; return when it listens at `target`."""
    labels = {"app": name}
    whole = {
        "name": name,
        "imagePullPolicy": "Never",
        "readinessProbe": {"tcpSocket": {"port": target}, "periodSeconds": 1},
        **container,
    }
    spec = {
        "containers": [whole],
        "volumes": [{"name": "srv", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    }
    namespace.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port, "targetPort": target}]},
        },
    )
    namespace.wait(f"pod/{name}")
