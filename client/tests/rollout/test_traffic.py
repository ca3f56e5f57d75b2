"""What a version answered, seen through its pods' counters."""

from __future__ import annotations

import math

import pytest

from yolo_client.rollout.histogram import Histogram
from yolo_client.rollout.traffic import Window, failed, traffic_in


def scrape(count: float, code: str = "200", call: str = "infer") -> dict:
    labels = (("call", call), ("code", code), ("model", "m"), ("protocol", "rest"))
    return {labels: Histogram((1.0, math.inf), (count, count))}


@pytest.mark.parametrize(
    "code", ["500", "503", "504", "429", "UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "UNKNOWN"]
)
def test_what_the_server_could_not_do_is_a_failure(code) -> None:
    assert failed(code)
    assert traffic_in(scrape(3, code)).errors == 3


@pytest.mark.parametrize("code", ["200", "400", "404", "413", "415", "499", "OK", "INVALID_ARGUMENT", "CANCELLED", ""])
def test_what_the_client_did_wrong_is_none(code) -> None:
    assert not failed(code)
    assert traffic_in(scrape(3, code)).errors == 0


def test_only_successes_count_for_the_latency() -> None:
    traffic = traffic_in({**scrape(4), **scrape(6, "429")})
    assert (traffic.requests, traffic.errors, traffic.seconds.total) == (10, 6, 4)


@pytest.mark.parametrize("call", ["live", "ready", "model_ready", "metrics", "models"])
def test_probes_and_scrapes_are_no_traffic(call) -> None:
    assert traffic_in(scrape(100, call=call)).requests == 0


def test_a_pod_that_was_there_counts_from_its_first_scrape() -> None:
    window = Window(["a"])
    window.scraped("a", scrape(100))
    window.scraped("a", scrape(103))
    assert window.traffic.requests == 3


def test_a_pod_that_was_there_and_could_not_be_scraped_counts_from_when_it_could() -> None:
    window = Window(["a", "b"])
    window.scraped("a", scrape(1))
    window.scraped("b", scrape(1000))
    window.scraped("b", scrape(1001))
    assert window.traffic.requests == 1


def test_a_pod_that_appears_counts_from_its_start() -> None:
    window = Window(["a"])
    window.scraped("a", scrape(100))
    window.scraped("b", scrape(7))
    assert window.traffic.requests == 7


def test_a_pod_that_restarts_loses_nothing_that_was_seen() -> None:
    window = Window(["a"])
    for count in (100, 110, 4, 6):
        window.scraped("a", scrape(count))
    assert window.traffic.requests == 10 + 4 + 2


def test_a_pod_that_goes_away_keeps_what_it_did() -> None:
    window = Window(["a", "b"])
    for pod, count in (("a", 5), ("b", 5), ("a", 8), ("b", 6), ("b", 9)):
        window.scraped(pod, scrape(count))
    assert window.traffic.requests == 3 + 4


def test_codes_add_up_over_pods() -> None:
    window = Window([])
    window.scraped("a", {**scrape(2), **scrape(1, "500")})
    window.scraped("b", {**scrape(3), **scrape(2, "500")})
    assert (window.traffic.requests, window.traffic.errors) == (8, 3)


def test_nothing_seen_is_no_traffic() -> None:
    assert Window([]).traffic.requests == 0
    assert math.isnan(Window([]).traffic.p95_s)
