"""Waiting for a canary's pods, and what they say where they do not come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from yolo_client.rollout.api import Api, ClusterFailed
from yolo_client.rollout.pods import Pod
from yolo_client.rollout.services import Selector, complaint_of, pods_of, service_path

_POLL_S: Final = 1.0


class NotReady(Exception):
    """A canary does not become ready; the message is one line that says why."""


def wait_until_ready(
    api: Api, selector: Selector, owner: str, timeout_s: float, enough: Callable[[Iterable[bool]], bool] = all
) -> None:
    """Return once all pods of a version are ready (or `any`, where that is `enough`), and there is one of each kind.

    Raises:
        NotReady: they are not within `timeout_s`, or something is wrong with them that does not pass.

    """
    deadline = time.monotonic() + timeout_s
    while True:
        kinds = [pods_of(api, labels) for labels in dict.fromkeys((selector.predicting, selector.answering))]
        if all(pods and enough(pod.ready for pod in pods) for pods in kinds):
            return
        pods = [pod for kind in kinds for pod in kind]
        late = time.monotonic() > deadline
        if late or any(pod.trouble is not None and pod.trouble.hopeless for pod in pods):
            raise NotReady(_reason(api, pods, owner) + (f" (after {timeout_s:.0f} seconds)" if late else ""))
        time.sleep(_POLL_S)


def absence_of(api: Api, selector: Selector, owner: str, timeout_s: float) -> str:
    """Return why a version has no pod that is ready, or an empty text once it has one of each kind."""
    try:
        wait_until_ready(api, selector, owner, timeout_s, any)
    except NotReady as error:
        return str(error)
    return ""


def _reason(api: Api, pods: Sequence[Pod], owner: str) -> str:
    for pod in pods:
        if pod.trouble is not None:
            return f"pod {pod.name}: {_words(api, pod)}"
    complaint = _complaint(api, owner)
    if complaint:
        return complaint
    return f"pod {pods[0].name} is not ready and does not say why" if pods else "no pod of the canary came up"


def _words(api: Api, pod: Pod) -> str:
    trouble = pod.trouble
    if trouble is None or not trouble.container:
        return trouble.reason if trouble else ""
    line = ""
    if trouble.logged:
        lines = api.log(pod.name, trouble.container, previous=trouble.previous).strip().splitlines()
        line = f": {lines[-1].strip()}" if lines else ""
    return f"container {trouble.container}: {trouble.reason}{line}"


def _complaint(api: Api, owner: str) -> str:
    try:
        return complaint_of(api.get(service_path(api, owner)))
    except ClusterFailed:
        return ""
