"""Prometheus histograms: read from a scrape, subtracted from each other, and their quantiles."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by bucket: `bounds` are the upper bounds, ascending, the last infinite; `counts` cumulative."""

    bounds: tuple[float, ...] = (math.inf,)
    counts: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.counts) or not self.bounds or self.bounds[-1] != math.inf:
            raise ValueError("a histogram needs a count for each bound, and the last bound infinite")

    def __add__(self, other: Histogram) -> Histogram:
        if not other.total:
            return self
        if not self.total:
            return other
        if self.bounds != other.bounds:
            raise ValueError("histograms with different buckets can not be added")
        return Histogram(self.bounds, tuple(map(sum, zip(self.counts, other.counts, strict=True))))

    @property
    def total(self) -> float:
        """How many observations there are."""
        return self.counts[-1]

    def since(self, before: Histogram) -> Histogram:
        """Return what was observed after `before`; all of this one where the process began anew in between."""
        if self.bounds != before.bounds or any(
            now < then for now, then in zip(self.counts, before.counts, strict=True)
        ):
            return self
        return Histogram(self.bounds, tuple(now - then for now, then in zip(self.counts, before.counts, strict=True)))

    def quantile(self, share: float) -> float:
        """Return the value below which a `share` (0..1) of the observations lies; NaN without observations.

        As Prometheus's `histogram_quantile` does: linear within a bucket, from 0 in the first one, and the highest
        finite bound for what lies beyond it.
        """
        if not self.total:
            return math.nan
        bucket = self._bucket(share)
        lower, upper = self.around(share)
        if math.isinf(upper):
            return lower if bucket else math.nan
        below = self.counts[bucket - 1] if bucket else 0.0
        return lower + (upper - lower) * (share * self.total - below) / (self.counts[bucket] - below)

    def around(self, share: float) -> tuple[float, float]:
        """Return the bounds of the bucket that the quantile lies in; NaN without observations.

        Where in between it lies, no histogram tells.
        """
        if not self.total:
            return math.nan, math.nan
        bucket = self._bucket(share)
        return self.bounds[bucket - 1] if bucket else 0.0, self.bounds[bucket]

    def _bucket(self, share: float) -> int:
        bucket = bisect_left(self.counts, share * self.total)
        while bucket < len(self.counts) - 1 and not self.counts[bucket]:
            bucket += 1
        return min(bucket, len(self.counts) - 1)


Scrape = Mapping[Labels, Histogram]
"""A process's histograms of one name, by their labels."""


def scrape_of(exposition: str, name: str) -> Scrape:
    """Return the histograms called `name` in Prometheus's text format.

    Raises:
        ValueError: the text is not of that format.

    """
    buckets: dict[Labels, dict[float, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples if family.name == name else ():
            if sample.name == f"{name}_bucket":
                labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
                buckets.setdefault(labels, {})[float(sample.labels["le"])] = sample.value
    return {
        labels: Histogram(tuple(sorted(counts)), tuple(counts[bound] for bound in sorted(counts)))
        for labels, counts in buckets.items()
    }


def increase(before: Scrape, after: Scrape) -> Scrape:
    """Return what was observed between two scrapes of one process, whether it began anew in between or not."""
    return {
        labels: histogram.since(before[labels]) if labels in before else histogram
        for labels, histogram in after.items()
    }
