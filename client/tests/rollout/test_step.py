"""What a step makes of traffic and of our own pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.client import Answer, Detection
from yolo_client.rollout.agreement import Agreement
from yolo_client.rollout.histogram import Histogram
from yolo_client.rollout.probe import Answers, Probe
from yolo_client.rollout.step import Memory, clients_tell, document_of, observe
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Limits

LIMITS = Limits(min_requests=10)
NONE = Probe()
# Of servers: what a p95 may be is told by them alone.
BOUNDS = (0.1, 0.15, 0.2, 0.3, 0.5)


def traffic(requests: int, upper_s: float = 0.15, errors: int = 0) -> Traffic:
    """Return the traffic of which each answer took at most `upper_s`, and more than the bound before it."""
    counts = tuple(requests if bound >= upper_s else 0 for bound in (*BOUNDS, math.inf))
    return Traffic(requests + errors, errors, Histogram((*BOUNDS, math.inf), counts))


def answers(count: int, seconds: float, errors: int = 0) -> Answers:
    found = {"a": (Detection((0.0, 0.0, 1.0, 1.0), 0.9, 0, "star"),)} if count else {}
    return Answers(found, [seconds] * count, errors)


def test_with_traffic_enough_on_both_sides_clients_tell() -> None:
    assert clients_tell(traffic(10), traffic(10), Memory(), LIMITS)


def test_with_too_little_on_either_side_they_do_not() -> None:
    assert not clients_tell(traffic(10), traffic(9), Memory(), LIMITS)
    assert not clients_tell(traffic(9), traffic(10), Memory(), LIMITS)


def test_failures_are_no_evidence_of_latency() -> None:
    assert not clients_tell(traffic(10), traffic(0, errors=50), Memory(), LIMITS)


def test_the_stable_versions_traffic_of_an_earlier_step_does_for_a_later_one() -> None:
    assert clients_tell(traffic(0), traffic(10), Memory(traffic(10).seconds), LIMITS)


@pytest.mark.parametrize(
    ("stable", "canary", "told"),
    [
        (0.15, 0.15, True),  # within a bucket that is no wider than the limit
        (0.2, 0.15, True),
        (0.15, 0.2, False),  # 1.0 to 2.0 times
        (0.5, 0.5, False),  # the bucket is wider than the limit
        (0.15, 0.3, False),  # 1.33 to 3.0 times
        (0.15, 0.5, True),  # twice at least
        (math.inf, math.inf, False),
        (0.1, 0.1, False),  # from nothing to all
    ],
)
def test_clients_tell_only_what_holds_for_all_times_that_their_buckets_may_stand_for(stable, canary, told) -> None:
    assert clients_tell(traffic(100, stable), traffic(100, canary), Memory(), LIMITS) is told


@given(*[st.lists(st.floats(0.01, 1), min_size=10, max_size=40)] * 2)
def test_where_clients_tell_the_verdict_is_the_one_of_the_times_themselves(stable, canary) -> None:
    ours, its = recorded(stable), recorded(canary)
    if clients_tell(ours, its, Memory(), LIMITS):
        times = [sorted(each)[math.ceil(0.95 * len(each)) - 1] for each in (stable, canary)]
        seen, _ = observe(ours, its, NONE, Memory(), LIMITS, by_clients=True)
        assert (times[1] > LIMITS.max_p95_ratio * times[0]) == (seen.latency.ratio > LIMITS.max_p95_ratio)


def recorded(times: list[float]) -> Traffic:
    bounds = (*BOUNDS, math.inf)
    return Traffic(len(times), 0, Histogram(bounds, tuple(sum(time <= bound for time in times) for bound in bounds)))


def test_latencies_of_traffic_are_compared_with_traffic_and_remembered() -> None:
    seen, memory = observe(traffic(10, 0.15), traffic(10, 0.5), NONE, Memory(), LIMITS, by_clients=True)
    assert round(seen.latency.ratio, 6) == round(0.49 / 0.1475, 6)
    assert seen.latency.source == "of the clients' requests"
    assert (seen.requests, seen.probes) == (10, 0)
    later, _ = observe(traffic(0), traffic(10, 0.15), NONE, memory, LIMITS, by_clients=True)
    assert later.latency.ratio == 1


def test_an_agreement_of_before_says_nothing_of_a_canary_that_answers_no_more() -> None:
    memory = Memory(probe_p95_s=0.1, agreement=Agreement(1, 1, 1, pictures=1))
    seen, _ = observe(traffic(10), traffic(10), NONE, memory, LIMITS, by_clients=True)
    assert not seen.agreement.pictures


def test_latencies_of_pictures_are_compared_with_pictures() -> None:
    probe = Probe(answers(10, 0.1), answers(10, 0.15, errors=2))
    seen, memory = observe(traffic(3, 0.5), traffic(2, 0.1, errors=1), probe, Memory(), LIMITS, by_clients=False)
    assert round(seen.latency.ratio, 6) == 1.5
    assert seen.latency.source == "of our own pictures"
    assert (seen.requests, seen.errors, seen.probes) == (2 + 1 + 12, 3, 12)
    assert memory.probe_p95_s == 0.1


def test_a_stable_version_without_pods_is_remembered() -> None:
    memory = Memory(probe_p95_s=0.1, agreement=Agreement(1, 1, 1, pictures=1))
    seen, after = observe(traffic(0), traffic(0), Probe(Answers(), answers(10, 0.1)), memory, LIMITS, by_clients=False)
    assert seen.latency.ratio == 1
    assert seen.agreement.ratio == 1
    assert after == memory


def test_without_any_evidence_nothing_is_known() -> None:
    seen, _ = observe(traffic(0), traffic(0), NONE, Memory(), LIMITS, by_clients=False)
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
