"""A canary in `spec.canary` of the InferenceService: transformer and predictor in one pod, Standard mode.

What KServe accepts there is said in `validateCanarySpecs` of its `inference_service_validation.go` (v0.20.0): the
annotation `serving.kserve.io/deploymentMode: Standard`, a name for each canary, no `maxReplicas`, and `minReplicas` up
to the stable version's. Its replicas are otherwise the stable version's `minReplicas` times its share, rounded up.
"""

from __future__ import annotations

import hashlib
from typing import Final

from yolo_client.rollout.api import Api, ClusterFailed, Document
from yolo_client.rollout.services import Selector, model_of, replaced, service_path, source_of

_OURS: Final = "rollout-"


class Collocated:
    """The canary that `spec.canary` holds."""

    def __init__(self, api: Api, name: str) -> None:
        self._api, self._name = api, name
        self._path = service_path(api, name)
        self._before = source_of(api.get(self._path))

    @property
    def owner(self) -> str:
        """The name of the InferenceService that describes the canary."""
        return self._name

    def percent(self) -> int:
        """Return the entry's `trafficPercent`, -1 without an entry."""
        entry = canary_of(self._api.get(self._path))
        return -1 if entry is None else int(entry.get("trafficPercent", 0))

    def sources(self) -> tuple[str, str]:
        """Return the `storageUri` of the predictor and of the entry."""
        service = self._api.get(self._path)
        entry = canary_of(service)
        return source_of(service), source_of({**service, "spec": entry}) if entry is not None else ""

    def selectors(self) -> tuple[Selector, Selector]:
        """Return the labels of both Deployments' pods, which KServe names after the predictors."""
        service = self._api.get(self._path)
        stable = _app_label(self._name, service["spec"]["predictor"].get("name", ""))
        canary = _app_label(self._name, _existing_canary(service)["predictor"]["name"])
        return Selector(stable, stable), Selector(canary, canary)

    def create(self, source: str) -> None:
        """Add an entry, with a pod although it has no traffic yet."""
        self._api.edit(self._path, lambda service: with_canary(service, source))

    def weigh(self, percent: int) -> None:
        """Set the entry's `trafficPercent`."""
        self._api.edit(self._path, lambda service: with_weight(service, percent))

    def promote(self) -> None:
        """Give the predictor the entry's name and model: the canary's Deployment is the stable one from then on."""
        self._api.edit(self._path, promoted)

    def roll_back(self) -> None:
        """Take the entry away if this command made it, and its traffic otherwise."""
        service = self._api.edit(self._path, rolled_back)
        if source_of(service) != self._before:
            raise ClusterFailed("it is promoted already, and the old version's pods are gone: roll the old weights out")


def canary_of(service: Document) -> Document | None:
    """Return the entry of `spec.canary`, None without one.

    Raises:
        ClusterFailed: there are several.

    """
    entries: list[Document] = service["spec"].get("canary") or []
    if len(entries) > 1:
        raise ClusterFailed(f"InferenceService {service['metadata']['name']} has {len(entries)} canaries: leave one")
    return entries[0] if entries else None


def with_canary(service: Document, source: str) -> Document:
    """Return the InferenceService with a canary of these weights and without traffic, in place of any other."""
    name = _OURS + hashlib.sha256(source.encode()).hexdigest()[:8]
    # The CRD wants the model's name in a canary, and KServe, which fills it in for the predictor, does not do so here.
    model = {"name": "kserve-container", **model_of(service), "storageUri": source}
    predictor = {"name": name, "minReplicas": 1, "model": model}
    return replaced(service, [{"trafficPercent": 0, "predictor": predictor}], "spec", "canary")


def with_weight(service: Document, percent: int) -> Document:
    """Return the InferenceService with this share for the canary.

    Of a canary that this command made the replicas follow the share; without traffic it would have none, so there one
    is asked for.
    """
    entry = _existing_canary(service)
    predictor = dict(entry["predictor"])
    if predictor["name"].startswith(_OURS):
        predictor.pop("minReplicas", None)
        if percent == 0:
            predictor["minReplicas"] = 1
    return replaced(service, [{**entry, "trafficPercent": percent, "predictor": predictor}], "spec", "canary")


def promoted(service: Document) -> Document:
    """Return the InferenceService whose predictor is the canary, and without a canary; as it is without one."""
    entry = canary_of(service)
    if entry is None:
        return service
    predictor = {
        **service["spec"]["predictor"],
        "name": entry["predictor"]["name"],
        "model": entry["predictor"]["model"],
    }
    spec = {**service["spec"], "predictor": predictor}
    del spec["canary"]
    return {**service, "spec": spec}


def rolled_back(service: Document) -> Document:
    """Return the InferenceService whose canary has no traffic, or that has none where this command had made it."""
    entry = canary_of(service)
    if entry is None:
        return service
    if not entry["predictor"]["name"].startswith(_OURS):
        return with_weight(service, 0)
    return {**service, "spec": {key: value for key, value in service["spec"].items() if key != "canary"}}


def _existing_canary(service: Document) -> Document:
    entry = canary_of(service)
    if entry is None:
        raise ClusterFailed(f"InferenceService {service['metadata']['name']} has no canary: --to URI makes one")
    return entry


def _app_label(service: str, predictor: str) -> str:
    return f"app=isvc.{service}-{predictor}-predictor" if predictor else f"app=isvc.{service}-predictor"
