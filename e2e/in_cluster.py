"""Servers that a test puts into the cluster."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from servers import redis_program

PYTHON = "docker.io/library/python:3.11-slim-bookworm"


class Namespace(Protocol):
    """A namespace of the cluster, as the suite's conftest has it."""

    name: str

    def apply(self, *manifests: Mapping[str, Any]) -> None: ...

    def wait(self, what: str) -> None: ...

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str: ...


def file_server(namespace: Namespace, files: Mapping[str, bytes]) -> str:
    """Serve files by plain HTTP from a pod; return the address they are at."""
    serve = ["python", "-m", "http.server", "8000", "--directory", "/srv"]
    _run(namespace, "files", serve, {"port": 80, "targetPort": 8000}, files)
    return f"http://files.{namespace.name}.svc.cluster.local"


def redis_server(namespace: Namespace) -> None:
    """Run a Redis with a password in the pod `redis`, and keep its URL in the Secret `redis`."""
    password = secrets.token_hex(16)
    server, libraries = redis_program()
    start = "until [ -e /srv/redis-server ]; do sleep 0.2; done; exec env LD_LIBRARY_PATH=/srv /srv/redis-server"
    open_to_all = f"--bind 0.0.0.0 --save '' --dir /srv --requirepass {password}"
    files = [*(libraries / name for name in ("libatomic.so.1", "libjemalloc.so.2", "liblzf.so.1")), server]
    programs = {file.name: file.read_bytes() for file in files}
    _run(namespace, "redis", ["sh", "-c", f"{start} {open_to_all}"], {"port": 6379, "targetPort": 6379}, programs)
    url = f"redis://:{password}@redis.{namespace.name}"
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": {"url": url}})


def _run(
    namespace: Namespace, name: str, command: Sequence[str], port: Mapping[str, int], files: Mapping[str, bytes]
) -> None:
    """Run a command in a pod that gets files at /srv, one whole file after the other; return when it listens."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": list(command),
        "readinessProbe": {"tcpSocket": {"port": port["targetPort"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "srv", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    }
    namespace.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [port]},
        },
    )
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "--timeout=120s", f"pod/{name}")
    for file, data in files.items():
        script = (
            f"import base64, os, sys; open('/srv/{file}~', 'wb').write(base64.b64decode(sys.stdin.read()));"
            f"os.chmod('/srv/{file}~', 0o755); os.rename('/srv/{file}~', '/srv/{file}')"
        )
        namespace.kubectl("exec", "-i", name, "--", "python", "-c", script, stdin=base64.b64encode(data).decode())
    namespace.wait(f"pod/{name}")
