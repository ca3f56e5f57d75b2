"""What a step makes of traffic and of our own pictures."""

from __future__ import annotations

import math
from dataclasses import replace

from yolo_client.client import Answer, Detection
from yolo_client.rollout.agreement import Agreement
from yolo_client.rollout.histogram import Histogram
from yolo_client.rollout.probe import Answers, Probe
from yolo_client.rollout.step import Memory, document_of, observe, probes_needed
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Limits

LIMITS = Limits(min_requests=10)
NONE = Probe(Answers(), Answers())


def traffic(requests: int, upper_s: float = 0.1, errors: int = 0) -> Traffic:
    return Traffic(requests + errors, errors, Histogram((upper_s, math.inf), (requests, requests)))


def answers(count: int, seconds: float, errors: int = 0) -> Answers:
    found = {"a": (Detection((0.0, 0.0, 1.0, 1.0), 0.9, 0, "star"),)} if count else {}
    return Answers(found, [seconds] * count, errors)


def test_with_traffic_enough_on_both_sides_no_pictures_are_needed() -> None:
    assert probes_needed(traffic(10), traffic(10), Memory(), LIMITS) == 0


def test_with_too_little_on_either_side_the_least_number_of_pictures_is() -> None:
    assert probes_needed(traffic(10), traffic(9), Memory(), LIMITS) == 10
    assert probes_needed(traffic(9), traffic(10), Memory(), LIMITS) == 10


def test_failures_are_no_evidence_of_latency() -> None:
    assert probes_needed(traffic(10), traffic(0, errors=50), Memory(), LIMITS) == 10


def test_the_stable_versions_traffic_of_an_earlier_step_does_for_a_later_one() -> None:
    assert probes_needed(traffic(0), traffic(10), Memory(traffic_p95_s=0.1), LIMITS) == 0


def test_latencies_of_traffic_are_compared_with_traffic_and_remembered() -> None:
    seen, memory = observe(traffic(10, 0.1), traffic(10, 0.2), NONE, Memory(), LIMITS)
    assert seen.latency.ratio == 2
    assert seen.latency.source == "of the clients' requests"
    assert (seen.requests, seen.probes) == (10, 0)
    later, _ = observe(traffic(0), traffic(10, 0.3), NONE, memory, LIMITS)
    assert round(later.latency.ratio, 6) == 3


def test_latencies_of_pictures_are_compared_with_pictures() -> None:
    probe = Probe(answers(10, 0.1), answers(10, 0.15, errors=2))
    seen, memory = observe(traffic(3, 9.0), traffic(2, 0.01, errors=1), probe, Memory(), LIMITS)
    assert round(seen.latency.ratio, 6) == 1.5
    assert seen.latency.source == "of our own pictures"
    assert (seen.requests, seen.errors, seen.probes) == (2 + 1 + 12, 3, 12)
    assert memory.probe_p95_s == 0.1


def test_a_stable_version_without_pods_is_remembered() -> None:
    memory = Memory(probe_p95_s=0.1, agreement=Agreement(1, 1, 1, pictures=1))
    seen, after = observe(traffic(0), traffic(0), Probe(Answers(), answers(10, 0.1)), memory, LIMITS)
    assert seen.latency.ratio == 1
    assert seen.agreement.ratio == 1
    assert after == memory


def test_without_any_evidence_nothing_is_known() -> None:
    seen, _ = observe(traffic(0), traffic(0), NONE, Memory(), LIMITS)
    assert seen.requests == 0
    assert math.isnan(seen.latency.ratio)
    document = document_of(0, seen)
    assert document["p95_ms"] == {"stable": None, "canary": None, "source": "of our own pictures"}
    assert document["agreement"]["ratio"] is None


def test_what_the_canary_did_not_answer_it_saw_nothing_in() -> None:
    probe = Probe(answers(1, 0.1), Answers(errors=1))
    assert probe.agreement.ratio == 0
    assert probe.agreement.unmatched == {"star": 1}


def test_the_p95_of_pictures_is_the_nearest_rank() -> None:
    assert replace(answers(0, 0), seconds=[i / 100 for i in range(100, 0, -1)]).p95_s == 0.95
    assert answers(1, 0.3).p95_s == 0.3


def test_a_servers_own_time_counts_and_the_round_trip_where_it_says_none() -> None:
    taken = Answers()
    taken.take("a", Answer((), b"", {"queue_us": 1000, "compute_us": 2000}, 9.0))
    taken.take("a", Answer((), b"", {}, 9.0))
    assert taken.seconds == [0.003, 9.0]
