"""A second InferenceService made from the first, with its own predictor and the first one's model name."""

from __future__ import annotations

import re
from typing import Any, Final

from yolo_client.rollout.api import OURS, Document
from yolo_client.rollout.services import SERVICE_LABEL, TRANSFORMER, model_of, replaced

_MADE_BY: Final = "app.kubernetes.io/managed-by"
_NOT_COPIED: Final = ("meta.helm.sh/", "kubectl.kubernetes.io/", "helm.sh/")
_MODEL_NAME: Final = "--model_name"


def is_ours(service: Document) -> bool:
    """Tell whether this command made an InferenceService."""
    return bool(service["metadata"].get("labels", {}).get(_MADE_BY) == OURS)


def canary_service(stable: Document, source: str, *, collocated: bool) -> Document:
    """Return the InferenceService `NAME-canary`: the stable one with other weights, and its own predictor to call.

    collocated: the runtime puts a transformer beside the predictor, whether the InferenceService says so or not.
    """
    name = stable["metadata"]["name"]
    spec = replaced(stable["spec"], {**model_of(stable), "storageUri": source}, "predictor", "model")
    spec = _renamed(spec, name)
    # Clients ask for the model by the stable version's name, whichever version answers.
    servers = [spec["predictor"]["model"], *spec.get("transformer", {}).get("containers", [])]
    if collocated:
        servers.append(_transformer_in(spec["predictor"]))
    for server in servers:
        server["args"] = _with_model_name(server.get("args", []), name)
    for component in filter(None, (spec["predictor"], spec.get("transformer"))):
        component["labels"] = {**component.get("labels", {}), **_labels(name)}
    return {
        "apiVersion": stable["apiVersion"],
        "kind": stable["kind"],
        "metadata": _metadata(stable, f"{name}-canary", _labels(name)),
        "spec": spec,
    }


def headless_service(stable: Document, name: str, canary: Document) -> Document:
    """Return the Service of the canary's predictor pods; it goes when the canary goes."""
    metadata = _metadata(stable, f"{name}-canary-predictor-grpc", _labels(name))
    metadata["ownerReferences"] = [
        {key: canary[key] for key in ("apiVersion", "kind")}
        | {"name": canary["metadata"]["name"], "uid": canary["metadata"]["uid"]}
    ]
    selector = {**_renamed(stable["spec"]["selector"], name), SERVICE_LABEL: f"{name}-canary"}
    spec = {**stable["spec"], "selector": selector}
    # A headless Service asks for that; other addresses belong to the one that has them.
    spec = {
        key: value
        for key, value in spec.items()
        if key not in {"clusterIP", "clusterIPs"} or value in ("None", ["None"])
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _transformer_in(predictor: Document) -> Document:
    """Return the transformer that a predictor adds to its runtime's, after giving it one."""
    containers: list[Document] = predictor.setdefault("containers", [])
    for container in containers:
        if container["name"] == TRANSFORMER:
            return container
    containers.append({"name": TRANSFORMER})
    return containers[-1]


def _labels(stable: str) -> Document:
    return {"yolo-kserve/stable": stable, "yolo-kserve/track": "canary"}


def _metadata(stable: Document, name: str, labels: Document) -> Document:
    old = stable["metadata"]
    kept = {
        kind: {key: value for key, value in old.get(kind, {}).items() if not key.startswith(_NOT_COPIED)}
        for kind in ("labels", "annotations")
    }
    return {
        "name": name,
        "namespace": old["namespace"],
        "labels": {**kept["labels"], **labels, _MADE_BY: OURS},
        "annotations": kept["annotations"],
    }


def _renamed(value: Any, name: str) -> Any:
    """Return a copy of a document in which the canary and its predictor stand for the stable version and its own."""
    if isinstance(value, dict):
        service = {SERVICE_LABEL: f"{name}-canary"} if value.get(SERVICE_LABEL) == name else {}
        return {key: _renamed(each, name) for key, each in value.items()} | service
    if isinstance(value, list):
        return [_renamed(each, name) for each in value]
    if isinstance(value, str):
        return re.sub(rf"(?<![\w-]){re.escape(name)}-predictor(?=$|[.:/-])", f"{name}-canary-predictor", value)
    return value


def _with_model_name(arguments: list[str], name: str) -> list[str]:
    given = any(each == _MODEL_NAME or each.startswith(f"{_MODEL_NAME}=") for each in arguments)
    return arguments if given else [*arguments, f"{_MODEL_NAME}={name}"]
