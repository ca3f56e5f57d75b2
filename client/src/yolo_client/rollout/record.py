"""What a rollout leaves in the cluster: Events on the InferenceService, and a report in a ConfigMap beside it.

Not an annotation of the InferenceService: KServe copies those into the pods' templates, so that noting a verdict would
start every pod anew (Standard mode) or make another revision (Knative).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from yolo_client.rollout.api import OURS, Api, ClusterFailed, Document, NotFound, object_path
from yolo_client.rollout.services import service_path

_log = logging.getLogger(__name__)
# The API server refuses longer ones.
_MAX_NOTE: Final = 1024


class Record:
    """Where a rollout of one InferenceService is written down.

    What can not be written is said in the log, and changes nothing: traffic matters, and not what is told of it.
    """

    def __init__(self, api: Api, name: str) -> None:
        self._api, self._name = api, name
        service = api.get(service_path(api, name))
        self._reference = {
            "apiVersion": service["apiVersion"],
            "kind": service["kind"],
            "name": name,
            "uid": service["metadata"]["uid"],
        }

    def event(self, reason: str, note: str, *, warning: bool = False) -> None:
        """Leave an Event on the InferenceService; `reason` is one word in camel case."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{self._name}.{uuid.uuid4().hex[:16]}", "namespace": self._api.namespace},
            "eventTime": now,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": "Rollout",
            "note": note[:_MAX_NOTE],
            "reportingController": OURS,
            "reportingInstance": OURS,
            "regarding": {**self._reference, "namespace": self._api.namespace},
        }
        try:
            self._api.create(object_path("events.k8s.io/v1", self._api.namespace, "events"), event)
        except ClusterFailed as error:
            _log.warning("the Event %s could not be written: %s", reason, error)

    def report(self, verdict: str, reason: str, steps: Sequence[Document]) -> None:
        """Put the report of the last rollout into the ConfigMap `NAME-rollout`, which goes when its owner goes."""
        data = {
            "verdict": verdict,
            "reason": reason,
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "steps": orjson.dumps(list(steps)).decode(),
        }
        try:
            self._keep(f"{self._name}-rollout", data)
        except ClusterFailed as error:
            _log.warning("the ConfigMap %s-rollout could not be written: %s", self._name, error)

    def _keep(self, name: str, data: Document) -> None:
        collection = object_path("v1", self._api.namespace, "configmaps")
        try:
            self._api.edit(f"{collection}/{name}", lambda held: {**held, "data": data})
        except NotFound:
            metadata = {"name": name, "namespace": self._api.namespace, "ownerReferences": [self._reference]}
            self._api.create(collection, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
