"""The way to the Kubernetes API: of the pod's service account, or of a kubeconfig elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights_sync.errors import FollowError

# The client is imported where it is needed: it is an extra, and takes seconds and 25 MB of memory.
# ruff: noqa: PLC0415

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod that this runs in, as the downward API tells; empty texts where it does not."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def own(cls) -> "Pod":
        """Return what POD_NAME, POD_NAMESPACE and POD_UID say."""
        namespace = os.environ.get("POD_NAMESPACE", "")
        if not namespace and _NAMESPACE.is_file():
            namespace = _NAMESPACE.read_text(encoding="utf-8").strip()
        return cls(os.environ.get("POD_NAME", ""), namespace, os.environ.get("POD_UID", ""))


def connect() -> Any:
    """Return the client's `ApiClient`; `FollowError` where there is no client or no way to a cluster."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise FollowError(
            "this installation of weights-sync comes without the Kubernetes client: install weights-sync[watch]"
        ) from error
    configuration = client.Configuration()
    configuration.retries = False
    here = not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST")
    try:
        if here:
            config.load_incluster_config(client_configuration=configuration)
        else:
            # Read here: the client itself looks at the variable once, as it is imported.
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise FollowError(f"there is no way to a cluster: {explain(error)}") from error
    return client.ApiClient(configuration)


def explain(error: Exception) -> str:
    """Return what the API or the way to it said, as one line."""
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if status:
        return f"the API answered {status} {reason or ''}".rstrip()
    return " ".join(str(reason or error).split())[:200]
