"""What a pod's document says about the pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from yolo_client.rollout.api import Document

# KServe's webhook reads from it what the storage initializer fetches.
SOURCE_ANNOTATION: Final = "internal.serving.kserve.io/storage-initializer-sourceuri"
# Waiting for these never ends well; everything else may still come right, also what began anew less often than this.
_MAX_RESTARTS: Final = 2
# What was evicted stays behind like this, until someone removes it.
_ENDED: Final = frozenset({"Failed", "Succeeded"})
_HOPELESS: Final = frozenset(
    {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod is not ready: the container, or an empty text, and the reason; `logged` where its log tells more.

    `previous`: the log is the one of the container's last run. `hopeless`: waiting does not help.
    """

    container: str
    reason: str
    logged: bool = False
    previous: bool = False
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod.

    `leaving`: it ended, or is about to. `restarts`: by container, how often it began anew, and why it last ended.
    `containers`: their images, by name.
    """

    name: str
    uid: str
    ready: bool
    leaving: bool
    source: str
    restarts: Mapping[str, tuple[int, str]]
    trouble: Trouble | None
    containers: Mapping[str, str] = field(default_factory=dict)


def pod_of(document: Document) -> Pod:
    """Return what a pod's document says."""
    metadata, status = document["metadata"], document.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    statuses = status.get("containerStatuses", [])
    return Pod(
        metadata["name"],
        metadata["uid"],
        conditions.get("Ready", {}).get("status") == "True",
        "deletionTimestamp" in metadata or status.get("phase") in _ENDED,
        metadata.get("annotations", {}).get(SOURCE_ANNOTATION, ""),
        {each["name"]: (each.get("restartCount", 0), _ended(each.get("lastState", {}))) for each in statuses},
        _trouble(status, conditions),
        {each["name"]: each.get("image", "") for each in document.get("spec", {}).get("containers", [])},
    )


def restarted(before: Sequence[Pod], after: Sequence[Pod]) -> tuple[str, ...]:
    """Return one line for each container that began anew between two looks, with its reason."""
    counts = {pod.uid: pod.restarts for pod in before}
    return tuple(
        f"container {container} of pod {pod.name} ended: {reason or 'no reason is given'}"
        for pod in after
        for container, (count, reason) in pod.restarts.items()
        if count > counts.get(pod.uid, {}).get(container, (0, ""))[0]
    )


def _trouble(status: Document, conditions: Mapping[str, Document]) -> Trouble | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return Trouble("", f"it can not be scheduled: {scheduled.get('message', 'no reason is given')}")
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        found = _container_trouble(each)
        if found is not None:
            return found
    return None


def _container_trouble(status: Document) -> Trouble | None:
    name, state = status["name"], status.get("state", {})
    waiting, ended = state.get("waiting", {}), state.get("terminated", {})
    again = status.get("restartCount", 0) >= _MAX_RESTARTS
    if ended and ended.get("exitCode", 0):
        return Trouble(name, _ended(state), logged=True, hopeless=again)
    reason = waiting.get("reason", "")
    if reason == "CrashLoopBackOff":
        last = _ended(status.get("lastState", {})) or reason
        return Trouble(name, last, logged=True, previous=True, hopeless=again)
    if reason and reason not in {"PodInitializing", "ContainerCreating"}:
        message = waiting.get("message", "")
        return Trouble(name, f"{reason}: {message}" if message else reason, hopeless=reason in _HOPELESS)
    if "running" in state and not status.get("ready", False) and status.get("restartCount", 0):
        return Trouble(name, _ended(status.get("lastState", {})), logged=True, previous=True, hopeless=again)
    return None


def _ended(state: Mapping[str, Any]) -> str:
    ended = state.get("terminated", {})
    if not ended:
        return ""
    reason = ended.get("reason", "Error")
    return reason if reason == "OOMKilled" else f"{reason} (exit code {ended.get('exitCode', '?')})"
