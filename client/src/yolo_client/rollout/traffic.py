"""What a version answered while it was watched, from its pods' request histograms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from yolo_client.rollout.histogram import Histogram, Labels, Scrape, increase

METRIC: Final = "yolo_request_seconds"
_INFERENCES: Final = frozenset({"infer", "predict", "detect", "segment", "inference"})
_SUCCESSES: Final = frozenset({"200", "OK"})
# What a client gets through no fault of its own. A full queue is one: a canary too slow for its share fills its own.
_GRPC_FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Inferences that were answered: how many, how many of them failed, and how long the successful ones took."""

    requests: int = 0
    errors: int = 0
    seconds: Histogram = field(default_factory=Histogram)

    @property
    def p95_s(self) -> float:
        """The time that 95 % of the successful answers took at most, NaN where there is none."""
        return self.seconds.quantile(0.95)


def failed(code: str) -> bool:
    """Tell whether a status, REST or gRPC, is the server's failure."""
    return code in _GRPC_FAILURES or (code.isdecimal() and (int(code) >= 500 or int(code) == 429))


def traffic_in(scrape: Scrape) -> Traffic:
    """Return the inferences that a scrape, or the increase between two, counts."""
    requests = errors = 0.0
    seconds = Histogram()
    for labels, histogram in scrape.items():
        named = dict(labels)
        if named.get("call") not in _INFERENCES:
            continue
        requests += histogram.total
        if failed(named.get("code", "")):
            errors += histogram.total
        if named.get("code") in _SUCCESSES:
            seconds += histogram
    return Traffic(round(requests), round(errors), seconds)


class Window:
    """The traffic of one version's pods from now on; `present` are the pods that are there already.

    A pod that is not among them counts from its start, one that is counts from its first scrape, and one that goes
    away keeps what it had answered when it was last scraped.
    """

    def __init__(self, present: Iterable[str]) -> None:
        self._present = frozenset(present)
        self._last: dict[str, Scrape] = {}
        self._seen: dict[Labels, Histogram] = {}

    def scraped(self, pod: str, scrape: Scrape) -> None:
        """Take in what a pod's metrics say now."""
        before = self._last.get(pod, scrape if pod in self._present else {})
        self._last[pod] = scrape
        for labels, histogram in increase(before, scrape).items():
            self._seen[labels] = self._seen.get(labels, Histogram()) + histogram

    @property
    def traffic(self) -> Traffic:
        """What was answered so far."""
        return traffic_in(self._seen)
