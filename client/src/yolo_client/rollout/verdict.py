"""Whether a canary may have more traffic."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from yolo_client.rollout.agreement import Agreement
from yolo_client.rollout.traffic import Traffic


class Action(enum.Enum):
    """What to do after a step."""

    GO_ON = "go on"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a canary must keep to.

    max_error_rate: failed answers over all, 0..1. max_p95_ratio: the canary's p95 latency over the stable version's.
    min_agreement: of the detections, 0..1. min_requests: fewer are no evidence.
    """

    max_error_rate: float = 0.01
    max_p95_ratio: float = 1.5
    min_agreement: float = 0.9
    min_requests: int = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """The p95 of each version in seconds, measured the same way; `source` says how. NaN is not known."""

    stable_s: float
    canary_s: float
    source: str

    @property
    def ratio(self) -> float:
        """The canary's over the stable version's."""
        return self.canary_s / self.stable_s if self.stable_s > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen at one step.

    requests, errors: the canary's answers, `probes` of which were to our own pictures. restarts: one line for each
    container of the canary that began anew, with its reason. absence: why it has no pod that is ready, empty where it
    has. refusal: what was said last in place of an answer.
    """

    requests: int
    errors: int
    probes: int
    latency: Latency
    agreement: Agreement
    restarts: tuple[str, ...] = ()
    absence: str = ""
    refusal: str = ""

    @property
    def error_rate(self) -> float:
        """Failed answers over all, 0 without any."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why in one line."""

    action: Action
    reason: str


def decide(seen: Observation, limits: Limits, *, last: bool) -> Decision:
    """Return what to do after a step, the `last` one or not: without evidence nothing gets more traffic."""
    reason = _objection(seen, limits)
    if reason:
        return Decision(Action.ROLL_BACK, reason)
    summary = (
        f"{_percent(seen.error_rate)} of {seen.requests} requests failed, p95 {_ms(seen.latency.canary_s)} "
        f"(stable {_ms(seen.latency.stable_s)}), agreement {seen.agreement.ratio:.3f}"
    )
    return Decision(Action.PROMOTE if last else Action.GO_ON, summary)


def too_many_failed(errors: int, requests: int, limits: Limits) -> bool:
    """Tell whether failures are too many for so many requests, or for the fewest to judge by where those are more."""
    return errors > limits.max_error_rate * max(requests, limits.min_requests)


def hopeless(traffic: Traffic, limits: Limits) -> str:
    """Return why a step need not be watched to its end, or an empty text: it failed too often already."""
    if traffic.requests < limits.min_requests or not too_many_failed(traffic.errors, traffic.requests, limits):
        return ""
    return _too_many_errors(traffic.errors, traffic.requests, limits)


def _objection(seen: Observation, limits: Limits) -> str:
    if seen.restarts:
        return f"the canary restarted: {seen.restarts[0]}"
    if seen.absence:
        return f"the canary has no pod that is ready: {seen.absence}"
    said = f"; the last one said: {seen.refusal}" if seen.refusal else ""
    if too_many_failed(seen.errors, seen.requests, limits):
        return _too_many_errors(seen.errors, seen.requests, limits) + said
    if seen.requests < limits.min_requests:
        return f"the canary had {seen.requests} requests: {limits.min_requests} are the least to judge by{said}"
    return _wrong_answers(seen.agreement, limits) or _too_slow(seen.latency, limits)


def _too_many_errors(errors: int, requests: int, limits: Limits) -> str:
    return (
        f"{errors} of {requests} requests to the canary failed, {_percent(errors / requests)}: "
        f"the limit is {_percent(limits.max_error_rate)}"
    )


def _wrong_answers(agreement: Agreement, limits: Limits) -> str:
    if not agreement.pictures:
        return "no picture was answered by both versions"
    if not agreement.stable + agreement.canary:
        return "neither version found anything in the pictures: give some that show what the model knows, with --images"
    if agreement.ratio >= limits.min_agreement:
        return ""
    worst = ", ".join(f"{label} ({count})" for label, count in agreement.worst_labels())
    return (
        f"the canary's detections agree with the stable version's by {agreement.ratio:.3f}: "
        f"the limit is {limits.min_agreement:.2f}; only one of them finds: {worst}"
    )


def _too_slow(latency: Latency, limits: Limits) -> str:
    if math.isnan(latency.ratio):
        return "there is no latency of both versions to compare"
    if latency.ratio <= limits.max_p95_ratio:
        return ""
    return (
        f"the canary's p95 is {_ms(latency.canary_s)}, {latency.ratio:.2f} times the stable version's "
        f"{_ms(latency.stable_s)} ({latency.source}): the limit is {limits.max_p95_ratio:.2f}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
