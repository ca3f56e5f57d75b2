"""Whether a canary may go on, and why not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_client.rollout.agreement import Agreement
from yolo_client.rollout.histogram import Histogram
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Action, Latency, Limits, Observation, decide, hopeless

LIMITS = Limits()
GOOD = Observation(
    requests=100,
    errors=1,
    probes=0,
    latency=Latency(0.1, 0.15, "of the clients' requests"),
    agreement=Agreement(stable=10, canary=10, matched=9, pictures=4),
)


def verdict(**changes):
    return decide(replace(GOOD, **changes), LIMITS, last=False)


def test_a_canary_within_every_limit_goes_on_and_is_promoted_after_the_last_step() -> None:
    assert decide(GOOD, LIMITS, last=False).action is Action.GO_ON
    assert decide(GOOD, LIMITS, last=True).action is Action.PROMOTE
    assert decide(GOOD, LIMITS, last=True).reason == (
        "1.00 % of 100 requests failed, p95 150 ms (stable 100 ms), agreement 0.900"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"errors": 2}, "2 of 100 requests to the canary failed, 2.00 %: the limit is 1.00 %"),
        ({"errors": 2, "refusal": "no"}, "the last one said: no"),
        ({"requests": 49, "errors": 0}, "the canary had 49 requests: 50 are the least to judge by"),
        ({"requests": 1, "errors": 1, "refusal": "no"}, "1 of 1 requests to the canary failed, 100.00 %: the limit is"),
        ({"requests": 1, "errors": 1, "refusal": "no"}, "the last one said: no"),
        ({"absence": "pod p: it is gone"}, "the canary has no pod that is ready: pod p: it is gone"),
        (
            {"requests": 0, "errors": 0, "refusal": "the pod does not answer"},
            "the last one said: the pod does not answer",
        ),
        ({"latency": Latency(0.1, 0.151, "of x")}, "p95 is 151 ms, 1.51 times the stable version's 100 ms (of x)"),
        ({"latency": Latency(math.nan, 0.1, "")}, "no latency of both versions"),
        ({"latency": Latency(0.1, math.nan, "")}, "no latency of both versions"),
        ({"latency": Latency(0.0, 0.1, "")}, "no latency of both versions"),
        ({"agreement": Agreement()}, "no picture was answered by both versions"),
        ({"agreement": Agreement(pictures=4)}, "neither version found anything"),
        ({"restarts": ("container c of pod p ended: OOMKilled",)}, "the canary restarted: container c of pod p"),
    ],
)
def test_each_objection_rolls_back_and_is_named(changes, reason) -> None:
    decision = verdict(**changes)
    assert decision.action is Action.ROLL_BACK
    assert reason in decision.reason


def test_too_little_agreement_names_the_labels_that_differ() -> None:
    agreement = Agreement(stable=10, canary=10, matched=8, pictures=4, unmatched={"star": 3, "ring": 1})
    decision = verdict(agreement=agreement)
    assert decision.action is Action.ROLL_BACK
    assert "agree with the stable version's by 0.800: the limit is 0.90" in decision.reason
    assert "star (3), ring (1)" in decision.reason


latencies = st.builds(Latency, st.floats(allow_nan=True), st.floats(allow_nan=True), st.just("of x"))
agreements = st.builds(
    lambda ours, theirs, matched: Agreement(ours, theirs, min(ours, theirs, matched), pictures=1),
    *[st.integers(0, 20)] * 3,
)
observations = st.builds(
    lambda requests, errors, *rest: Observation(requests, min(errors, requests), 0, *rest),
    st.integers(0, 300),
    st.integers(0, 9),
    latencies,
    agreements,
)


@given(observations, st.booleans())
def test_nothing_goes_on_that_is_out_of_a_limit(seen, last) -> None:
    if decide(seen, LIMITS, last=last).action is not Action.ROLL_BACK:
        assert seen.requests >= LIMITS.min_requests
        assert seen.error_rate <= LIMITS.max_error_rate
        assert seen.latency.ratio <= LIMITS.max_p95_ratio
        assert seen.agreement.stable + seen.agreement.canary > 0
        assert seen.agreement.ratio >= LIMITS.min_agreement


@pytest.mark.parametrize(
    ("requests", "errors", "over"), [(49, 49, False), (50, 1, True), (200, 2, False), (200, 3, True)]
)
def test_a_step_is_cut_short_once_it_failed_too_often_to_be_chance(requests, errors, over) -> None:
    assert bool(hopeless(Traffic(requests, errors, Histogram()), LIMITS)) is over
