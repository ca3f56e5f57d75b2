"""Which way of serving two versions an InferenceService asks for."""

from __future__ import annotations

from yolo_client.rollout.api import Api, ClusterFailed, NotFound
from yolo_client.rollout.patience import Patience
from yolo_client.rollout.services import mode_of, model_of, service_path
from yolo_client.rollout.strategies.knative import Knative
from yolo_client.rollout.strategies.standard import Standard
from yolo_client.rollout.strategies.strategy import Strategy


def strategy_of(api: Api, name: str, patience: Patience) -> Strategy:
    """Return the strategy for an InferenceService.

    Raises:
        ClusterFailed: there is no such InferenceService, or none of the ways fits it.

    """
    try:
        service = api.get(service_path(api, name))
    except NotFound:
        raise ClusterFailed(f"there is no InferenceService {name} in namespace {api.namespace}") from None
    model_of(service)
    if mode_of(service) != "Knative":
        return Standard(api, name, patience)
    if "transformer" in service["spec"]:
        raise ClusterFailed(
            f"InferenceService {name} has a transformer of its own in Knative mode, where traffic is divided twice and "
            "versions would mix: serve it collocated, or in Standard mode"
        )
    return Knative(api, name, patience)
