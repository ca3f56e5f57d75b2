"""What a rollout needs of a way to serve two versions side by side."""

from __future__ import annotations

from typing import Protocol

from yolo_client.rollout.services import Selector
from yolo_client.rollout.version import Change


class Strategy(Protocol):
    """Two versions of one model side by side, as the cluster holds them now.

    Every change may be repeated and then leaves what holds already as it is, so that a rollout that was cut off can be
    taken up again. Each raises ClusterFailed where the cluster refuses, or does not follow in time.
    """

    @property
    def owner(self) -> str:
        """The name of the InferenceService that describes the canary."""
        ...

    def percent(self) -> int:
        """Return the canary's share of the traffic, 0..100, or -1 where there is no canary."""
        ...

    def sources(self) -> tuple[str, str]:
        """Return where the weights of the stable version come from, and those of the canary, empty without one."""
        ...

    def promoting(self) -> bool:
        """Tell whether the canary's promotion was begun by a rollout that was cut off then."""
        ...

    def selectors(self) -> tuple[Selector, Selector]:
        """Return how to find the pods of the stable version and of the canary."""
        ...

    def create(self, source: str) -> None:
        """Add a canary with the weights at `source` that gets no traffic yet."""
        ...

    def weigh(self, percent: int) -> None:
        """Give the canary this share of the traffic."""
        ...

    def promote(self) -> Change:
        """Make the canary's version the stable one, take the canary away, and return what changed but weights."""
        ...

    def roll_back(self) -> None:
        """Take all traffic from the canary, and the canary away where this command created it."""
        ...

    def hand_back(self) -> None:
        """Claim no changed field any more, so that who applied the objects, Helm 4 say, may change them again."""
        ...
