"""What the chart says of the servers is true of them: metrics in alerts, dashboard and scaling; flags in its pods."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest

from yolo_client.local import LocalServers

CHART = Path(__file__).resolve().parents[2] / "charts/yolo-kserve"
QUERIES = [*CHART.glob("alerts/*.yaml"), CHART / "dashboards/yolo-kserve.json", CHART / "templates/_pods.tpl"]
METRIC = re.compile(r"\b(?:yolo|process|python|kube|container)_[a-z0-9_]+(?=[{\[)\s\\]|$)")
# kube-state-metrics and cadvisor; the alerts say so.
FROM_THE_CLUSTER = {
    "container_memory_working_set_bytes",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_available",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_spec_min_replicas",
    "kube_horizontalpodautoscaler_status_desired_replicas",
    "kube_pod_container_resource_limits",
    "kube_pod_init_container_status_waiting_reason",
}


@pytest.fixture(scope="module")
def scraped(start_servers: Callable[..., LocalServers]) -> dict[str, str]:
    """Return /metrics of both servers after one picture."""
    options = start_servers().options
    picture = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
    assert httpx2.post(f"{options.url}/inference/detect", content=picture).status_code == 200
    predictor = f"http://{options.host}:{options.predictor_http_port}"
    return {
        "transformer": httpx2.get(f"{options.url}/metrics").text,
        "predictor": httpx2.get(f"{predictor}/metrics").text,
    }


def test_every_metric_in_a_query_is_one_that_a_server_has(scraped: dict[str, str]) -> None:
    served = {line.partition("{")[0].partition(" ")[0] for text in scraped.values() for line in text.splitlines()}
    used = {name for file in QUERIES for name in METRIC.findall(file.read_text())}
    assert len(used) > 10
    assert used - served - FROM_THE_CLUSTER == set()


def test_the_labels_that_queries_pick_by_are_there(scraped: dict[str, str]) -> None:
    assert re.search(r'yolo_request_seconds_count\{call="detect",code="200",model="shapes"', scraped["transformer"])
    assert re.search(r'yolo_request_seconds_count\{call="infer",code="OK",model="shapes"', scraped["predictor"])
    assert 'yolo_stage_seconds_sum{model="shapes",stage="queue"}' in scraped["predictor"]
    for server in scraped.values():
        assert "\nyolo_models_loaded 1.0" in server


@pytest.mark.parametrize("server", ["predictor", "transformer"])
def test_every_flag_that_the_chart_passes_is_known(server: str) -> None:
    command = [sys.executable, "-m", f"yolo_{server}", "--help"]
    known = set(re.findall(r"--\w+", subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    runtimes = (CHART / "templates/servingruntimes.yaml").read_text()
    predictor, transformer = runtimes.split("name: transformer-container")
    transformer += (CHART / "templates/inferenceservices.yaml").read_text()
    drain = (CHART / "templates/_containers.tpl").read_text()
    passed = set(re.findall(r"- (--\w+)=", {"predictor": predictor, "transformer": transformer}[server] + drain))
    assert len(passed) > 5
    assert passed - known == set()
