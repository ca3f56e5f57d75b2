"""A canary as the latest revision: `canaryTrafficPercent` of the InferenceService's predictor, Knative mode.

KServe sends that share to the latest ready revision and the rest to the last one that had all traffic
(`createKnativeService` and `PropagateStatus` of v0.20.0). At 100 % it takes the canary for rolled out and remembers the
one before; at less, for as long as no newer revision exists, it goes back to that one.
"""

from __future__ import annotations

from yolo_client.rollout.api import Api, ClusterFailed, Document, object_path
from yolo_client.rollout.patience import Patience
from yolo_client.rollout.pods import SOURCE_ANNOTATION
from yolo_client.rollout.services import Selector, replaced, service_path, source_of
from yolo_client.rollout.version import Change

_PERCENT = ("spec", "predictor", "canaryTrafficPercent")
_SOURCE = ("spec", "predictor", "model", "storageUri")


class Knative:
    """The canary that the InferenceService's spec describes, beside the revision that was rolled out before."""

    def __init__(self, api: Api, name: str, patience: Patience) -> None:
        self._api, self._name, self._patience = api, name, patience
        self._path = service_path(api, name)
        self._stable = stable_revision(self._api.get(self._path))

    @property
    def owner(self) -> str:
        """The name of the InferenceService that describes the canary."""
        return self._name

    def percent(self) -> int:
        """Return `canaryTrafficPercent`, -1 where the spec is what the stable revision serves."""
        service = self._api.get(self._path)
        percent = service["spec"]["predictor"].get("canaryTrafficPercent")
        return -1 if percent is None or source_of(service) == self._stable_source() else int(percent)

    def sources(self) -> tuple[str, str]:
        """Return what the stable revision fetched, and the `storageUri` of the spec where that is another one."""
        stable, canary = self._stable_source(), source_of(self._api.get(self._path))
        return stable, "" if canary == stable else canary

    def promoting(self) -> bool:
        """Return False: without its percentage nothing tells a promotion from a model without a canary."""
        return False

    def selectors(self) -> tuple[Selector, Selector]:
        """Return the labels of both revisions' pods."""
        stable, canary = (f"serving.knative.dev/revision={revision}" for revision in (self._stable, self._latest()))
        return Selector(stable, stable), Selector(canary, canary)

    def create(self, source: str) -> None:
        """Change the spec's weights, with no traffic for the revision that this makes."""
        before = self._latest()
        self._api.edit(self._path, lambda service: with_source(service, source, 0))
        self._patience.until(lambda: self._latest() != before, "a revision with the new weights")

    def weigh(self, percent: int) -> None:
        """Set `canaryTrafficPercent`."""
        self._api.edit(self._path, lambda service: replaced(service, percent, *_PERCENT))

    def promote(self) -> Change:
        """Give the latest revision all traffic, for good."""
        self._api.edit(self._path, without_percent)
        self._patience.until(
            lambda: _has_all_traffic(self._api.get(self._path)), "a route with all traffic for the new weights"
        )
        # What else the old revision had does not stand in it as the InferenceService said it.
        return Change()

    def roll_back(self) -> None:
        """Give the stable revision all traffic, and then the spec the weights that it has."""
        self.weigh(0)
        self._patience.until(
            lambda: stable_revision(self._api.get(self._path)) == self._stable, "a route back to the stable revision"
        )
        before = self._stable_source()
        self._api.edit(self._path, lambda service: with_source(service, before, 0))
        self._patience.until(lambda: self._restored(before), f"a revision with the weights {before}")
        self._api.edit(self._path, without_percent)

    def hand_back(self) -> None:
        """Give up the InferenceService."""
        self._api.hand_back(self._path)

    def _restored(self, source: str) -> bool:
        revisions = _revisions(self._api.get(self._path))
        latest = revisions.get("latestCreatedRevision", "")
        return latest == revisions.get("latestReadyRevision") and self._source_of(latest) == source

    def _latest(self) -> str:
        return str(_revisions(self._api.get(self._path)).get("latestCreatedRevision", self._stable))

    def _stable_source(self) -> str:
        return self._source_of(self._stable)

    def _source_of(self, revision: str) -> str:
        path = object_path("serving.knative.dev/v1", self._api.namespace, "revisions", revision)
        return str(self._api.get(path)["metadata"].get("annotations", {}).get(SOURCE_ANNOTATION, ""))


def with_source(service: Document, source: str, percent: int) -> Document:
    """Return the InferenceService with other weights, and this share of the traffic for their revision."""
    return replaced(replaced(service, source, *_SOURCE), percent, *_PERCENT)


def without_percent(service: Document) -> Document:
    """Return the InferenceService whose latest revision has all traffic."""
    predictor = {key: value for key, value in service["spec"]["predictor"].items() if key != _PERCENT[-1]}
    return replaced(service, predictor, "spec", "predictor")


def stable_revision(service: Document) -> str:
    """Return the revision that the canary is measured against.

    Raises:
        ClusterFailed: none was ever rolled out.

    """
    revisions = _revisions(service)
    rolled_out = str(revisions.get("latestRolledoutRevision", ""))
    whole = service["spec"]["predictor"].get("canaryTrafficPercent") == 100
    if whole and rolled_out == revisions.get("latestCreatedRevision"):
        # KServe takes the canary for rolled out by now.
        rolled_out = str(revisions.get("previousRolledoutRevision", ""))
    if not rolled_out:
        raise ClusterFailed(f"InferenceService {service['metadata']['name']} has no revision that was rolled out yet")
    return rolled_out


def _revisions(service: Document) -> Document:
    return dict(service.get("status", {}).get("components", {}).get("predictor", {}))


def _has_all_traffic(service: Document) -> bool:
    revisions = _revisions(service)
    traffic = {each.get("revisionName"): each.get("percent", 0) for each in revisions.get("traffic", [])}
    return bool(traffic.get(revisions.get("latestCreatedRevision"), 0) == 100)
