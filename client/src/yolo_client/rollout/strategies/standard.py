"""A canary as a second InferenceService, `NAME-canary`, behind the weighted HTTPRoute `NAME-route`, Standard mode.

Transformer and predictor of a version stay together: the route chooses the transformer, which knows only its own
version's predictor, or the one pod that has both. KServe v0.20.0 has a `spec.canary` too, which it gives pods and no
traffic (docs/adr/0007-canaries.md).
"""

from __future__ import annotations

from contextlib import suppress

from yolo_client.rollout.api import Api, ClusterFailed, Document, NotFound, object_path
from yolo_client.rollout.patience import Patience
from yolo_client.rollout.services import (
    COMPONENT_LABEL,
    SERVICE_LABEL,
    TRANSFORMER,
    Selector,
    pods_of,
    run_the_same,
    serve,
    service_path,
    source_of,
)
from yolo_client.rollout.strategies import copies, routes
from yolo_client.rollout.version import Change, Version, change, has_version, version_of, with_version


class Standard:
    """The canary that a second InferenceService is."""

    def __init__(self, api: Api, name: str, patience: Patience) -> None:
        self._api, self._name, self._patience = api, name, patience
        self._canary = f"{name}-canary"
        stable = self._service(name)
        self._front = "transformer" if "transformer" in stable["spec"] else "predictor"
        self._backends = routes.Backends(f"{name}-{self._front}", f"{name}-canary-{self._front}")
        self._route = object_path("gateway.networking.k8s.io/v1", api.namespace, "httproutes", f"{name}-route")
        self._before = version_of(stable)
        self._given: Version | None = None

    @property
    def owner(self) -> str:
        """The name of the InferenceService that describes the canary."""
        return self._canary

    def percent(self) -> int:
        """Return the canary's weight in the route, -1 where it does not exist."""
        try:
            self._service(self._canary)
        except NotFound:
            return -1
        return routes.percent_of(self._get_route(), self._backends)

    def sources(self) -> tuple[str, str]:
        """Return the `storageUri` of both InferenceServices."""
        stable = source_of(self._service(self._name))
        try:
            return stable, source_of(self._service(self._canary))
        except NotFound:
            return stable, ""

    def promoting(self) -> bool:
        """Tell whether the stable version was given all that the canary has: a promotion does so first."""
        try:
            canary = self._service(self._canary)
        except NotFound:
            return False
        return has_version(self._service(self._name), version_of(canary))

    def selectors(self) -> tuple[Selector, Selector]:
        """Return the labels of both InferenceServices' pods."""
        return self._selector(self._name), self._selector(self._canary)

    def create(self, source: str) -> None:
        """Copy the InferenceService with other weights, and the Service through which it finds its predictor."""
        routes.percent_of(self._get_route(), self._backends)
        stable = self._service(self._name)
        pods = pods_of(self._api, self._selector(self._name).predicting)
        document = copies.canary_service(stable, source, collocated=any(TRANSFORMER in pod.containers for pod in pods))
        canary = self._api.create(service_path(self._api), document)
        services = object_path("v1", self._api.namespace, "services")
        try:
            headless = self._api.get(f"{services}/{self._name}-predictor-grpc")
        except NotFound:
            return
        self._api.create(services, copies.headless_service(headless, self._name, canary))

    def weigh(self, percent: int) -> None:
        """Set the weights of the route's rules, and see that no gateway refuses them."""
        self._share_out(percent)
        self._patience.until_routed(lambda: routes.is_followed(self._get_route()))
        refusal = routes.refusal_of(self._get_route())
        if refusal:
            raise ClusterFailed(f"a gateway refuses HTTPRoute {self._name}-route with {percent} %: {refusal}")

    def promote(self) -> Change:
        """Roll the stable version's pods over to the canary's version while the canary has all traffic; then part."""
        self.weigh(100)
        self._patience.routed()
        new = self._given = version_of(self._service(self._canary))
        self._api.edit(service_path(self._api, self._name), lambda service: with_version(service, new))
        source = str(new.model["storageUri"])
        self._patience.until(lambda: self._serves(source), f"a stable version with the weights {source}")
        self._remove()
        return change(self._before, new)

    def roll_back(self) -> None:
        """Give the stable version all traffic, and its own version where it still has the one that it was given."""
        self._share_out(0)
        given = self._given
        if given is not None:
            self._api.edit(
                service_path(self._api, self._name),
                lambda service: with_version(service, self._before) if has_version(service, given) else service,
            )
        with suppress(NotFound):
            if copies.is_ours(self._service(self._canary)):
                self._remove()

    def hand_back(self) -> None:
        """Give up the InferenceService and the route."""
        for path in (service_path(self._api, self._name), self._route):
            self._api.hand_back(path)

    def _share_out(self, percent: int) -> None:
        self._api.edit(self._route, lambda route: routes.weighted(route, self._backends, percent))

    def _serves(self, source: str) -> bool:
        """Tell whether the stable version's pods have the weights from `source`, and the images of the canary's."""
        stable, canary = self.selectors()
        return serve(pods_of(self._api, stable.predicting), source) and all(
            run_the_same(pods_of(self._api, ours), pods_of(self._api, its))
            for ours, its in ((stable.predicting, canary.predicting), (stable.answering, canary.answering))
        )

    def _remove(self) -> None:
        self._api.edit(self._route, lambda route: routes.without_canary(route, self._backends))
        self._patience.routed()
        self._api.delete(service_path(self._api, self._canary))

    def _service(self, name: str) -> Document:
        return self._api.get(service_path(self._api, name))

    def _get_route(self) -> Document:
        try:
            return self._api.get(self._route)
        except NotFound:
            raise ClusterFailed(
                f"there is no HTTPRoute {self._name}-route in {self._api.namespace}: "
                "a canary needs it, and the chart makes it with route.enabled"
            ) from None

    def _selector(self, service: str) -> Selector:
        component = f"{SERVICE_LABEL}={service},{COMPONENT_LABEL}="
        return Selector(f"{component}{self._front}", f"{component}predictor")
