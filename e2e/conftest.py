"""Ports, and a real Kubernetes API without a cluster: etcd and kube-apiserver on loopback, for who talks to it.

The programs are those that `e2e/cluster/build` left in the cache; without them the tests that ask for it are skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_STARTUP_S = 180


# As the environment was at the start: tests that start servers have a cache folder of their own.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_PROGRAMS = _CACHE / "yolo-kserve" / "cluster" / "programs"


def find_program(place: str) -> Path | None:
    """Return the newest program at GROUP/NAME in the cache, if there is one."""
    group, name = place.split("/")
    found = [path for path in _PROGRAMS.glob(f"{group}/*/{name}") if path.parent.name != "unfinished"]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


@dataclass
class ControlPlane:
    """etcd and kube-apiserver, with RBAC; `admin` may do everything."""

    folder: Path
    etcd: Path
    apiserver: Path
    port: int = 0
    _etcd_ports: tuple[int, int] = (0, 0)
    _admin: str = field(default_factory=lambda: secrets.token_hex(16))
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port, *ports = _free_ports(3)
        self._etcd_ports = (ports[0], ports[1])
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = serialization.PrivateFormat.TraditionalOpenSSL
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (self.folder / "accounts.key").write_bytes(pem)
        (self.folder / "tokens.csv").write_text(f"{self._admin},admin,admin,system:masters\n")

    def start(self) -> None:
        """Start both; the API is ready afterwards."""
        client, peer = self._etcd_ports
        # Without its disk syncs: nothing here outlives the tests.
        self._spawn("etcd", self.etcd, f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", *_etcd(client, peer))
        self.start_api()

    def start_api(self) -> None:
        """Start the API server; it is ready afterwards."""
        self._spawn(
            "apiserver",
            self.apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            # Nothing here makes service accounts for the namespaces.
            "--disable-admission-plugins=ServiceAccount",
        )
        until = time.monotonic() + _STARTUP_S
        while not self._ready():
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self._last_line(name)}"
            assert time.monotonic() < until, f"the API was not ready: {self._last_line('apiserver')}"
            time.sleep(0.2)

    def stop_api(self) -> None:
        """Stop the API server; what it stored stays."""
        self._end("apiserver")

    def stop(self) -> None:
        """Stop both."""
        for name in ("apiserver", "etcd"):
            self._end(name)

    def kubeconfig(self, token: str = "") -> Path:
        """Return a file with which a client is who has that token, or the admin."""
        token = token or self._admin
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self._authority)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file = self.folder / f"kubeconfig-{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        file.write_text(yaml.safe_dump(content))
        return file

    def api(self) -> Any:
        """Return the admin's core API; other tests need not wait for the client's import."""
        from kubernetes import client, config  # noqa: PLC0415

        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig())))

    def account(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig with a token of a service account."""
        request = {"spec": {"expirationSeconds": 3600}}
        granted = self.api().create_namespaced_service_account_token(name, namespace, request)
        return self.kubeconfig(granted.status.token)

    @property
    def _authority(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    def _ready(self) -> bool:
        if not self._authority.is_file():
            return False
        with contextlib.suppress(Exception):
            # The namespace comes a moment after the rest.
            self.api().read_namespace("default", _request_timeout=5)
            return True
        return False

    def _spawn(self, name: str, program: Path, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=log, cwd=self.folder)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process:
            process.kill()
            process.wait()

    def _last_line(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace").strip().rpartition("\n")[2]


def _etcd(client: int, peer: int) -> list[str]:
    return [
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Return a function that returns ports of 127.0.0.1 which nothing listened on a moment ago."""
    return _free_ports


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return a running API; everything in it belongs to the tests."""
    # The module of etcd's server gives its program that name.
    etcd, apiserver = find_program("etcd/server"), find_program("kubernetes/kube-apiserver")
    if etcd is None or apiserver is None:
        pytest.skip("no etcd and kube-apiserver in the cache: `e2e/cluster/build etcd kubernetes` puts them there")
    folder = tmp_path_factory.mktemp("control-plane")
    plane = ControlPlane(folder, etcd, apiserver)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
