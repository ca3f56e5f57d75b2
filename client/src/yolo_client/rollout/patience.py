"""Waiting for a cluster, which does what it is told some time later."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yolo_client.rollout.api import ClusterFailed

_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the cluster, in seconds.

    ready_s: for pods to become ready. routed_s: for gateways, after a route changed, before pods that it no longer
    names may go.
    """

    ready_s: float = 600.0
    routed_s: float = 10.0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once `condition` holds.

        Raises:
            ClusterFailed: it did not within `ready_s`; `what` says what it is.

        """
        deadline = time.monotonic() + self.ready_s
        while not condition():
            if time.monotonic() > deadline:
                raise ClusterFailed(f"{what} did not come about within {self.ready_s:.0f} seconds")
            time.sleep(_POLL_S)

    def until_routed(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds, and at the latest when gateways follow the last change of a route."""
        deadline = time.monotonic() + self.routed_s
        while not condition() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_S))

    def routed(self) -> None:
        """Return when gateways follow the last change of a route."""
        time.sleep(self.routed_s)
