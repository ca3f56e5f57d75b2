"""Prometheus histograms: differences over restarts, and quantiles."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Recorded

from yolo_client.rollout.histogram import Histogram, increase, scrape_of

BOUNDS = (0.1, 0.5, 1.0, math.inf)


def histogram(*counts: float) -> Histogram:
    return Histogram(BOUNDS, tuple(accumulate(counts)))


counted = st.lists(st.integers(0, 50), min_size=4, max_size=4).map(lambda counts: histogram(*counts))


@given(counted, counted)
def test_what_came_after_is_what_was_added(before, more) -> None:
    after = before + more
    assert after.since(before).total == more.total
    assert after.since(before) == more or not more.total


def test_a_process_that_began_anew_counts_from_zero() -> None:
    assert histogram(1, 0, 0, 0).since(histogram(5, 5, 0, 0)) == histogram(1, 0, 0, 0)


def test_other_buckets_mean_another_process() -> None:
    other = Histogram((1.0, math.inf), (2.0, 3.0))
    assert other.since(histogram(1, 0, 0, 0)) == other


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((10, 0, 0, 0), 0.5, 0.05),  # half way into the first bucket, that begins at 0
        ((0, 10, 0, 0), 0.5, 0.3),
        ((5, 5, 0, 0), 0.75, 0.3),
        ((9, 0, 1, 0), 0.95, 0.75),
        ((0, 0, 0, 10), 0.95, 1.0),  # beyond the last bound: the last finite one
        ((0, 0, 4, 0), 0.0, 0.5),
        ((0, 0, 4, 0), 1.0, 1.0),
    ],
)
def test_quantiles_are_linear_within_a_bucket_as_prometheus_has_them(counts, share, value) -> None:
    assert histogram(*counts).quantile(share) == pytest.approx(value)


@given(counted, st.floats(0, 1))
def test_a_quantile_lies_within_the_bucket_that_is_all_that_is_known_of_it(counts, share) -> None:
    lower, upper = counts.around(share)
    if counts.total:
        assert lower <= counts.quantile(share) <= upper + 1e-12
        below = dict(zip(BOUNDS, counts.counts, strict=True))
        assert below.get(lower, 0) <= share * counts.total <= below[upper]
    else:
        assert math.isnan(lower)


@given(counted, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_their_share(counts, first, second) -> None:
    low, high = sorted((first, second))
    if counts.total:
        assert counts.quantile(low) <= counts.quantile(high) + 1e-12
    else:
        assert math.isnan(counts.quantile(low))


@pytest.mark.parametrize(
    ("bounds", "counts"), [((0.1,), (1.0,)), ((0.1, math.inf), (1.0,)), ((), ())], ids=["finite", "short", "none"]
)
def test_what_is_no_histogram_is_refused(bounds, counts) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram(bounds, counts)


def test_histograms_with_different_buckets_are_not_added() -> None:
    with pytest.raises(ValueError, match="buckets"):
        _ = histogram(1, 0, 0, 0) + Histogram((1.0, math.inf), (1.0, 1.0))


def test_a_scrape_holds_what_was_recorded() -> None:
    registry = CollectorRegistry()
    recorded = Recorded("yolo_request_seconds", "Time.", ["call", "code"], buckets=(0.1, 1.0), registry=registry)
    Recorded("other_seconds", "Not asked for.", registry=registry).observe(1)
    recorded.labels("infer", "200").observe(0.05)
    recorded.labels("infer", "200").observe(0.5)
    recorded.labels("infer", 'odd "text"\\').observe(5)
    scrape = scrape_of(generate_latest(registry).decode(), "yolo_request_seconds")
    assert scrape[("call", "infer"), ("code", "200")] == Histogram((0.1, 1.0, math.inf), (1, 2, 2))
    assert scrape[("call", "infer"), ("code", 'odd "text"\\')] == Histogram((0.1, 1.0, math.inf), (0, 0, 1))
    assert len(scrape) == 2


def test_an_exposition_without_the_metric_holds_nothing() -> None:
    assert scrape_of("", "yolo_request_seconds") == {}


def test_labels_that_appear_later_count_whole() -> None:
    old, new = (("code", "200"),), (("code", "500"),)
    before = {old: histogram(1, 0, 0, 0)}
    after = {old: histogram(3, 0, 0, 0), new: histogram(0, 2, 0, 0)}
    assert increase(before, after) == {old: histogram(2, 0, 0, 0), new: histogram(0, 2, 0, 0)}
