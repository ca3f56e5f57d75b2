"""What the work costs and how it ends, for Prometheus: to be scraped, or written to a file for node_exporter.

The same numbers are the summary that a pull leaves in a pod's log.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, write_to_textfile

from weights_sync.errors import SourceError

REGISTRY = CollectorRegistry()
STAGES = ("check", "pull", "prepare", "load")
_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

BYTES = Counter("yolo_weights_bytes", "Bytes of weights that came over the network.", registry=REGISTRY)
SECONDS = Histogram(
    "yolo_weights_seconds",
    "Time of the stages of new weights: check, pull, prepare, load.",
    ["stage"],
    buckets=_BUCKETS_S,
    registry=REGISTRY,
)
FAILURES = Counter("yolo_weights_failures", "What went wrong, by reason.", ["reason"], registry=REGISTRY)
VERSION = Gauge(
    "yolo_weights_version_info",
    "1 for the weights that are placed in a directory, by their digest.",
    ["directory", "digest", "family", "task"],
    registry=REGISTRY,
)
LAST_SUCCESS = Gauge(
    "yolo_weights_last_success_timestamp_seconds",
    "When the weights were last found to be as wanted, in seconds since 1970.",
    registry=REGISTRY,
)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the time of what is inside, however it ends."""
    with SECONDS.labels(name).time():
        yield


def failed(error: Exception) -> None:
    """Count a failure under the name of its class: `DamagedModelError` is `damaged_model`."""
    words = re.findall(r"[A-Z][a-z0-9]*", type(error).__name__.removesuffix("Error"))
    FAILURES.labels("_".join(words).lower()).inc()


def placed(directory: Path, digest: str, family: str, task: str) -> None:
    """Say which weights are in a directory now."""
    others = [
        sample.labels
        for metric in VERSION.collect()
        for sample in metric.samples
        if sample.labels["directory"] == str(directory)
    ]
    for labels in others:
        VERSION.remove(*labels.values())
    VERSION.labels(str(directory), digest, family, task).set(1)
    LAST_SUCCESS.set(time.time())


def summary() -> dict[str, int | dict[str, float]]:
    """Return the bytes, and the seconds of each stage that there was."""
    seconds = {name: REGISTRY.get_sample_value("yolo_weights_seconds_sum", {"stage": name}) for name in STAGES}
    spent = {name: round(value, 3) for name, value in seconds.items() if value is not None}
    return {"bytes": int(REGISTRY.get_sample_value("yolo_weights_bytes_total") or 0), "seconds": spent}


def write(file: Path) -> None:
    """Write every metric to a file, in one step, as node_exporter's textfile collector reads them."""
    try:
        write_to_textfile(str(file), REGISTRY)
    except OSError as error:
        raise SourceError(f"can not write the metrics to {file}: {error.strerror}") from error
