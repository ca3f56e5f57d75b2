"""One step of a rollout: both versions watched, then asked the same pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from yolo_client.demo import Sample
from yolo_client.rollout.agreement import Agreement
from yolo_client.rollout.api import Document
from yolo_client.rollout.histogram import Histogram
from yolo_client.rollout.probe import Probe, ask
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Latency, Limits, Observation
from yolo_client.rollout.watch import Watch


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the stable version from earlier steps, for when too little of it is left to see.

    traffic: the times of its clients' requests, the last that were enough. probe_p95_s: of our pictures, NaN where not
    known.
    """

    traffic: Histogram = field(default_factory=Histogram)
    probe_p95_s: float = math.nan
    agreement: Agreement | None = None


def probe(stable: Watch, canary: Watch, model: str, samples: Sequence[Sample], requests: int, limits: Limits) -> Probe:
    """Send pictures to both versions, as `ask` says; to none where the canary has no pods."""
    with ExitStack() as stack:
        ours, theirs = ([stack.enter_context(client) for client in each.clients(model)] for each in (stable, canary))
        return ask(ours, theirs, samples, requests, limits, canary.traffic) if theirs else Probe()


def clients_tell(stable: Traffic, canary: Traffic, memory: Memory, limits: Limits) -> bool:
    """Tell whether the clients' requests show on which side of the limit the canary's latency lies.

    They do where both versions had enough, and all times that the buckets of both p95 may stand for lead to one
    verdict.
    """
    before = stable.seconds if stable.seconds.total >= limits.min_requests else memory.traffic
    if min(before.total, canary.seconds.total) < limits.min_requests:
        return False
    (least, most), (stable_least, stable_most) = canary.seconds.around(0.95), before.around(0.95)
    return most <= limits.max_p95_ratio * stable_least or least > limits.max_p95_ratio * stable_most


def observe(
    stable: Traffic, canary: Traffic, probed: Probe, memory: Memory, limits: Limits, *, by_clients: bool
) -> tuple[Observation, Memory]:
    """Return what a step shows, and what to remember of it.

    Latencies are compared where both are of clients' requests, this step's or, of the stable version, an earlier
    step's (`by_clients`); otherwise both are of our own pictures.
    """
    if stable.seconds.total >= limits.min_requests:
        memory = replace(memory, traffic=stable.seconds)
    if probed.stable.seconds:
        memory = replace(memory, probe_p95_s=probed.stable.p95_s, agreement=probed.agreement)
    if by_clients:
        latency = Latency(memory.traffic.quantile(0.95), canary.p95_s, "of the clients' requests")
    else:
        latency = Latency(memory.probe_p95_s, probed.canary.p95_s, "of our own pictures")
    seen = Observation(
        canary.requests + probed.canary.requests,
        canary.errors + probed.canary.errors,
        probed.canary.requests,
        latency,
        # What it agreed in before says nothing of a canary that answers no more.
        (probed.canary.requests and memory.agreement) or Agreement(),
        refusal=probed.canary.refusal or probed.stable.refusal,
    )
    return seen, memory


def document_of(percent: int, seen: Observation) -> Document:
    """Return a step's numbers as JSON has them; what is not known is null."""
    latency, agreement = seen.latency, seen.agreement
    return {
        "percent": percent,
        "requests": seen.requests,
        "probes": seen.probes,
        "errors": seen.errors,
        "p95_ms": {"stable": _ms(latency.stable_s), "canary": _ms(latency.canary_s), "source": latency.source},
        "agreement": {
            "ratio": round(agreement.ratio, 4) if agreement.pictures else None,
            "pictures": agreement.pictures,
            "stable": agreement.stable,
            "canary": agreement.canary,
            "matched": agreement.matched,
            "mean_iou": round(agreement.mean_iou, 4),
            "score_shift": round(agreement.score_shift, 4),
            "worst_labels": dict(agreement.worst_labels()),
        },
    }


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1000, 1)
