"""What is seen of a version's pods through the API server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yolo_client.rollout.services import Selector
from yolo_client.rollout.watch import Watch


class Api:
    """The API of a namespace with one pod, that has metrics."""

    namespace = "default"

    def __init__(self, metrics: str) -> None:
        self.metrics = metrics

    def get(self, _path: str, **_query: str) -> dict:
        return {"items": [{"metadata": {"name": "p", "uid": "1"}}]}

    def send_to_pod(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(status=200, headers={}, data=self.metrics.encode())


@pytest.mark.parametrize(
    ("metrics", "caches"),
    [
        ("# TYPE yolo_cache_lookups_total counter\n", True),  # before the first request
        ('# TYPE yolo_requests_in_flight gauge\nyolo_requests_in_flight{protocol="rest"} 0\n', False),
    ],
)
def test_a_version_that_keeps_results_is_known_by_its_metrics(metrics, caches) -> None:
    assert Watch(Api(metrics), Selector("a=b", "a=b")).caches is caches
