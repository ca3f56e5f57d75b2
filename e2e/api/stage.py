"""What stands in for KServe's controllers and the kubelet where there is only an API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

ADDRESSES = {"yolo://shapes": "10.89.0.11", "same": "10.89.0.11", "shuffled": "10.89.0.12", "slow": "10.89.0.13"}
# The API server's own, with no server at a pod's port.
NOBODY = "10.89.0.1"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"


def kubectl(*arguments: str, document: object = None) -> str:
    """Return what kubectl printed; `document` is what it reads."""
    stdin = None if document is None else json.dumps(document)
    command = ["kubectl", *arguments]
    done = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace, and what KServe's controllers and the kubelet would have put into it."""

    name: str

    def get(self, *what: str) -> Any:
        """Return an object or a list of them."""
        return json.loads(kubectl("-n", self.name, "get", *what, "-o", "json"))

    def apply(self, *documents: dict[str, Any]) -> None:
        """Create objects, or bring them in line."""
        for document in documents:
            kubectl("-n", self.name, "apply", "--server-side", "-f", "-", document=document)

    def status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        """Say what a controller would say of an object."""
        patch = json.dumps({"status": status})
        kubectl("-n", self.name, "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def pod(
        self,
        name: str,
        source: str,
        address: str,
        labels: dict[str, str],
        *,
        containers: Sequence[str] = ("kserve-container",),
        image: str = "none",
        **status: Any,
    ) -> None:
        """Put a pod in place whose server is at an address, ready if nothing else is said."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels, "annotations": {SOURCE: source}},
                "spec": {"nodeName": "none", "containers": [{"name": each, "image": image} for each in containers]},
            }
        )
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "podIP": address, "podIPs": [{"ip": address}]}
        self.status("pod", name, {"phase": "Running", **ready, **status})

    @contextmanager
    def followed(self, service: str, pod: str, address: str, labels: dict[str, str]) -> Iterator[None]:
        """Keep a ready pod with the weights that an InferenceService asks for, while a `with` block lasts."""
        done = Event()

        def asked_for() -> str:
            return str(self.get("inferenceservice", service)["spec"]["predictor"]["model"]["storageUri"])

        def keep(held: str) -> None:
            while not done.wait(0.2):
                # Where the API server is away: like a controller it asks again.
                with suppress(AssertionError):
                    source = asked_for()
                    if source != held:
                        self.pod(pod, source, address, labels)
                        held = source

        first = asked_for()
        self.pod(pod, first, address, labels)
        with ThreadPoolExecutor(1) as controller:
            kept = controller.submit(keep, first)
            try:
                yield
            finally:
                done.set()
            kept.result()

    def events(self) -> list[tuple[str, str]]:
        """Return reason and note of the rollout's events, in order."""
        events = self.get("events.events.k8s.io")["items"]
        ours = sorted((each["eventTime"], each["reason"], each["note"]) for each in events)
        return [(reason, note) for _, reason, note in ours]
