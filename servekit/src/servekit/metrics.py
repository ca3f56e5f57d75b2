"""Metrics that both servers have, on prometheus-client's default registry."""

from __future__ import annotations

from typing import Final

from prometheus_client import Gauge, Histogram

_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Finer, in steps of about 1.5: a rollout compares two versions by them, and within a bucket all times are the same.
_REQUEST_BUCKETS_S: Final = tuple(
    round(step * 10.0**power, 4) for power in range(-3, 2) for step in (1, 1.5, 2, 3, 5, 7) if step * 10.0**power <= 30
)

REQUEST_SECONDS = Histogram(
    "yolo_request_seconds",
    "Time from a request's arrival to its answer, by protocol, call, model and status.",
    ["protocol", "call", "model", "code"],
    buckets=_REQUEST_BUCKETS_S,
)
REQUESTS_IN_FLIGHT = Gauge("yolo_requests_in_flight", "Requests accepted and not yet answered.", ["protocol"])
STAGE_SECONDS = Histogram(
    "yolo_stage_seconds", "Time of an inference's stages, by model.", ["model", "stage"], buckets=_BUCKETS_S
)
MODELS_LOADED = Gauge("yolo_models_loaded", "Models loaded and ready.")
