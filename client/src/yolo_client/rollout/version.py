"""What makes a version of a model: its predictor's `model`, and the images of the containers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yolo_client.rollout.api import Document
from yolo_client.rollout.services import model_of, replaced

_COMPONENTS: Final = ("predictor", "transformer")


@dataclass(frozen=True, slots=True)
class Version:
    """`model` is `spec.predictor.model`; `images` are by component and container."""

    model: Document
    images: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Change:
    """What another version has beside other weights: its runtime, and its images' tag; empty where that stays."""

    runtime: str = ""
    tag: str = ""


def version_of(service: Document) -> Version:
    """Return the version that an InferenceService asks for.

    Raises:
        ClusterFailed: it has no model with a `storageUri`.

    """
    images = {
        (component, container["name"]): container["image"]
        for component in _COMPONENTS
        for container in _containers(service, component)
        if "image" in container
    }
    return Version(model_of(service), images)


def with_version(service: Document, version: Version) -> Document:
    """Return the InferenceService with another version; a container that this does not know keeps its image."""
    document = replaced(service, version.model, "spec", "predictor", "model")
    for component in _COMPONENTS:
        containers = [
            {**each, "image": version.images[component, each["name"]]}
            if (component, each["name"]) in version.images
            else each
            for each in _containers(service, component)
        ]
        if containers:
            document = replaced(document, containers, "spec", component, "containers")
    return document


def has_version(service: Document, version: Version) -> bool:
    """Tell whether giving an InferenceService this version would change nothing."""
    return with_version(service, version) == service


def change(before: Version, after: Version) -> Change:
    """Return what changed between two versions beside the weights."""
    runtime, old = (str(each.model.get("runtime", "")) for each in (after, before))
    tags = [image.rpartition(":")[2] for place, image in after.images.items() if before.images.get(place) != image]
    return Change("" if runtime == old else runtime, tags[0] if tags else "")


def _containers(service: Document, component: str) -> list[Document]:
    return list(service["spec"].get(component, {}).get("containers", []))
