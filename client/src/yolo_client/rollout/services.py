"""InferenceServices: their places in the API, and what every way of serving two versions reads from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from yolo_client.rollout.api import Api, ClusterFailed, Document, object_path
from yolo_client.rollout.pods import Pod, pod_of

SERVICE_LABEL: Final = "serving.kserve.io/inferenceservice"
COMPONENT_LABEL: Final = "component"
# The name by which KServe knows a transformer in the predictor's pod.
TRANSFORMER: Final = "transformer-container"
_SERVERS: Final = ("kserve-container", TRANSFORMER)
_MODE: Final = "serving.kserve.io/deploymentMode"


def service_path(api: Api, name: str = "") -> str:
    """Return where an InferenceService is, or all of them."""
    return object_path("serving.kserve.io/v1beta1", api.namespace, "inferenceservices", name)


def model_of(service: Document) -> Document:
    """Return `spec.predictor.model`.

    Raises:
        ClusterFailed: the InferenceService has none with a `storageUri`.

    """
    model = service["spec"].get("predictor", {}).get("model", {})
    if "storageUri" not in model:
        raise ClusterFailed(
            f"InferenceService {service['metadata']['name']} has no predictor.model.storageUri to roll out"
        )
    return dict(model)


def source_of(service: Document) -> str:
    """Return where the weights of an InferenceService's predictor come from."""
    return str(model_of(service)["storageUri"])


def mode_of(service: Document) -> str:
    """Return `Standard` or `Knative`; what KServe's status says counts, and its older names are understood."""
    annotations = service["metadata"].get("annotations", {})
    mode = service.get("status", {}).get("deploymentMode") or annotations.get(_MODE, "Standard")
    return {"RawDeployment": "Standard", "Serverless": "Knative"}.get(mode, str(mode))


def replaced(document: Document, value: Any, *path: str) -> Document:
    """Return a document with another value at a path of keys; what is not on the path is shared with the old one."""
    first, *rest = path
    inner = replaced(document.get(first) or {}, value, *rest) if rest else value
    return {**document, first: inner}


def complaint_of(service: Document) -> str:
    """Return what KServe's conditions say is wrong with an InferenceService, empty where they say nothing."""
    for condition in service.get("status", {}).get("conditions", []):
        if condition.get("status") == "False" and condition.get("message"):
            return f"{condition.get('reason', condition['type'])}: {condition['message']}"
    return ""


@dataclass(frozen=True, slots=True)
class Selector:
    """Label selectors of a version's pods, as the API takes them.

    answering: the pods that answer clients. predicting: those that hold the weights; the same where one pod does both.
    """

    answering: str
    predicting: str


def pods_of(api: Api, selector: str) -> list[Pod]:
    """Return the pods with these labels that have not ended and are not on their way out."""
    listed = api.get(object_path("v1", api.namespace, "pods"), labelSelector=selector)
    pods = [pod_of(document) for document in listed.get("items", [])]
    return [pod for pod in pods if not pod.leaving]


def serve(pods: Sequence[Pod], source: str) -> bool:
    """Tell whether there are pods, all of them ready and with the weights from `source`."""
    return bool(pods) and all(pod.ready and pod.source == source for pod in pods)


def run_the_same(pods: Sequence[Pod], others: Sequence[Pod]) -> bool:
    """Tell whether each pod's servers have the images of one of the others, of which there may be none to tell."""
    known = [_images(pod) for pod in others]
    return not known or all(_images(pod) in known for pod in pods)


def _images(pod: Pod) -> list[str]:
    return [pod.containers.get(name, "") for name in _SERVERS]
