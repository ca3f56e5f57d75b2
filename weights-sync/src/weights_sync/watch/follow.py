"""The URI to serve, from an object in Kubernetes: a key of a ConfigMap, an annotation of a pod or InferenceService."""

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from weights_sync.errors import FollowError
from weights_sync.log import log
from weights_sync.watch.cluster import Pod, connect, explain

_REFERENCE = re.compile(r"(configmap|annotation)(?:/([a-z0-9.-]+))?(?:#([\w./-]+))?")
_DEFAULT_KEYS = {"configmap": "uri", "annotation": "yolo-kserve/weights"}
_WATCH_S = 240
_SILENCE_S = (10.0, _WATCH_S + 30.0)
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Reference:
    """Where in the namespace the URI stands."""

    kind: str
    """`configmaps`, `pods` or `inferenceservices`, as the API calls them."""
    name: str
    key: str

    def read(self, item: dict[str, Any]) -> str:
        """Return the URI in an object, "" where there is none."""
        metadata = item.get("metadata") or {}
        values = item.get("data") if self.kind == "configmaps" else metadata.get("annotations")
        return str((values or {}).get(self.key, "")).strip()


def parse_reference(text: str, pod: Pod) -> Reference:
    """Read `configmap/NAME[#KEY]`, `annotation[#KEY]` of this pod, or `annotation/INFERENCESERVICE[#KEY]`."""
    match = _REFERENCE.fullmatch(text)
    if not match or (match[1] == "configmap" and not match[2]):
        raise FollowError(
            f"can not follow {text[:80]!r}: name configmap/NAME[#KEY], annotation[#KEY] of this pod,"
            " or annotation/INFERENCESERVICE[#KEY]"
        )
    kind, name, key = match[1], match[2], match[3] or _DEFAULT_KEYS[match[1]]
    if not pod.namespace:
        raise FollowError("which namespace? set POD_NAMESPACE, as the downward API gives it")
    if kind == "configmap":
        return Reference("configmaps", name, key)
    if name:
        return Reference("inferenceservices", name, key)
    if not pod.name:
        raise FollowError("which pod's annotation? set POD_NAME, as the downward API gives it")
    return Reference("pods", pod.name, key)


@dataclass(slots=True)
class Follower:
    """Follows one object: a list says how it is, a watch how it changes, and whatever breaks starts with a list."""

    reference: Reference
    namespace: str
    _said: str = ""

    def run(self, found: Callable[[str], None]) -> None:
        """Call `found` with the URI now and whenever it changes; return never."""
        failures, last = 0, None
        while True:
            try:
                for told, uri in enumerate(self._uris()):
                    # A list may be allowed where the watch is not.
                    failures = 0 if told else failures
                    if uri != last:
                        found(uri)
                    last = uri
                failures = 0
                time.sleep(_FIRST_WAIT_S)
            except Exception as error:  # noqa: BLE001 - whatever the client, TLS or the network raise may pass
                if getattr(error, "status", None) != _GONE:
                    self._complain(error)
                failures += 1
                longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 10))
                time.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter is no secret

    def _uris(self) -> Iterator[str]:
        """Yield the URI of the object as it is and as it becomes, until the server ends the watch."""
        from kubernetes.watch import Watch  # noqa: PLC0415 - an extra

        listed, api = self._list()
        now = api.sanitize_for_serialization(listed(_request_timeout=_SILENCE_S))
        yield next(map(self.reference.read, now.get("items") or []), "")
        version = now["metadata"]["resourceVersion"]
        stream = Watch().stream(listed, resource_version=version, timeout_seconds=_WATCH_S, _request_timeout=_SILENCE_S)
        for change in stream:
            if change["type"] == "DELETED":
                yield ""
            elif change["type"] in {"ADDED", "MODIFIED"}:
                yield self.reference.read(change["raw_object"])

    def _list(self) -> tuple[Callable[..., Any], Any]:
        """Return the client's call that lists the one object."""
        from kubernetes.client import CoreV1Api, CustomObjectsApi  # noqa: PLC0415 - an extra

        api = connect()
        selector = f"metadata.name={self.reference.name}"
        core = CoreV1Api(api)
        where: tuple[str, ...] = (self.namespace,)
        match self.reference.kind:
            case "configmaps":
                call = core.list_namespaced_config_map
            case "pods":
                call = core.list_namespaced_pod
            case kind:
                call = CustomObjectsApi(api).list_namespaced_custom_object
                where = ("serving.kserve.io", "v1beta1", self.namespace, kind)

        def listed(**options: Any) -> Any:
            return call(*where, field_selector=selector, **options)

        return listed, api

    def _complain(self, error: Exception) -> None:
        complaint = explain(error)
        if complaint != self._said:
            reference = self.reference
            log(
                "not followed",
                because=f"{complaint}; {reference.kind}/{reference.name} in {self.namespace} needs `list` and `watch`",
            )
        self._said = complaint
