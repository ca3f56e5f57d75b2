"""Counters of one model in the shape of Triton's statistics extension."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

STAGES: Final = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more that took `ns` nanoseconds."""
        self.count += 1
        self.ns += ns


def _durations() -> dict[str, Duration]:
    return {stage: Duration() for stage in STAGES}


@dataclass(slots=True)
class ModelStatistics:
    """Counters since the model was loaded; `last_inference_ms` is a Unix time."""

    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    durations: dict[str, Duration] = field(default_factory=_durations)

    def succeeded(self, total_ns: int, batch: int, stages_ns: dict[str, int]) -> None:
        """Count a request of `batch` pictures that was answered."""
        self.inference_count += batch
        self.execution_count += 1
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.durations["success"].add(total_ns)
        for stage, ns in stages_ns.items():
            self.durations[stage].add(ns)

    def failed(self, total_ns: int) -> None:
        """Count a request that ended in an error."""
        self.durations["fail"].add(total_ns)

    def as_dict(self, name: str, version: str) -> dict[str, Any]:
        """Return the extension's `model_stats` entry."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {stage: {"count": d.count, "ns": d.ns} for stage, d in self.durations.items()},
            "batch_stats": [],
        }
