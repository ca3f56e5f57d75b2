"""Asking both versions the same pictures, on a way that does not always get through."""

from __future__ import annotations

import httpx2
import numpy as np
import orjson
import pytest

from yolo_client.client import Client
from yolo_client.demo import Sample
from yolo_client.rollout import probe
from yolo_client.rollout.probe import ask
from yolo_client.rollout.traffic import Traffic
from yolo_client.rollout.verdict import Limits

NO_TRAFFIC = Traffic()
SAMPLES = [Sample(name, b"picture") for name in ("a", "b", "c")]


class Pod(httpx2.BaseTransport):
    """A pod that finds nothing in each picture, behind a proxy that does not reach it the first `missed` times.

    Its first `slow` answers take 10 ms, all others 1 ms.
    """

    def __init__(self, missed: int = 0, status: int = 200, slow: int = 0) -> None:
        self.missed, self.status, self.slow, self.asked = missed, status, slow, 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        if self.asked <= self.missed:
            raise httpx2.ConnectError("connection refused", request=request)
        if self.status != 200:
            return httpx2.Response(self.status, content=orjson.dumps({"error": "too many requests wait"}))
        outputs = {
            "num_detections": np.zeros(1, np.int32),
            "boxes": np.zeros((1, 0, 4), np.float32),
            "scores": np.zeros((1, 0), np.float32),
            "class_ids": np.zeros((1, 0), np.int32),
        }
        datatypes = {"int32": "INT32", "float32": "FP32"}
        described = [
            {
                "name": name,
                "datatype": datatypes[values.dtype.name],
                "shape": values.shape,
                "parameters": {"binary_data_size": values.nbytes},
            }
            for name, values in outputs.items()
        ]
        head = orjson.dumps(
            {"outputs": described, "parameters": {"inference_us": 10_000 if self.asked <= self.slow else 1000}}
        )
        body = head + b"".join(values.tobytes() for values in outputs.values())
        return httpx2.Response(200, headers={"inference-header-content-length": str(len(head))}, content=body)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PAUSES_S", (0.0, 0.0))


def asked(stable: Pod, canary: Pod, requests: int = 20, answered: Traffic = NO_TRAFFIC, **limits) -> probe.Probe:
    with Client("http://stable", "m", transport=stable) as ours, Client("http://canary", "m", transport=canary) as its:
        return ask([ours], [its], SAMPLES, requests, Limits(min_requests=20, **limits), answered)


def test_each_picture_goes_to_both_versions() -> None:
    stable, canary = Pod(), Pod()
    probed = asked(stable, canary)
    assert (stable.asked, canary.asked) == (20, 20)
    assert set(probed.canary.found) == {"a", "b", "c"}
    assert probed.canary.seconds == [0.001] * 20


def test_what_did_not_get_through_is_asked_again_and_no_failure() -> None:
    probed = asked(Pod(missed=1), Pod(missed=2))
    assert (probed.stable.errors, probed.canary.errors) == (0, 0)
    assert probed.canary.requests == 20


def test_a_pod_that_is_gone_is_waited_for_once_and_not_asked_again_once_that_decides() -> None:
    canary = Pod(missed=100)
    probed = asked(Pod(), canary, max_error_rate=0.1)
    assert probed.canary.errors == 3
    assert canary.asked == 3 + 2
    assert probed.canary.refusal == "no server answers at http://canary: connection refused"


def test_a_refusal_is_an_answer_and_counts_at_once() -> None:
    canary = Pod(status=503)
    probed = asked(Pod(), canary)
    assert (probed.canary.errors, canary.asked) == (1, 1)
    assert probed.canary.refusal == "too many requests wait"


def test_a_pod_that_is_silent_for_long_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_AGAIN_S", -1.0)
    canary = Pod(missed=100)
    assert asked(Pod(), canary).canary.errors == 1
    assert canary.asked == 1


def test_failures_that_many_good_answers_to_clients_make_up_for_do_not_end_the_asking() -> None:
    probed = asked(Pod(), Pod(missed=3), requests=3, answered=Traffic(requests=100))
    assert (probed.canary.errors, len(probed.canary.found)) == (1, 2)


def test_with_the_failures_that_clients_had_fewer_pictures_decide() -> None:
    probed = asked(Pod(), Pod(status=503), max_error_rate=0.1, answered=Traffic(requests=20, errors=3))
    assert probed.canary.errors == 2


def test_a_canary_that_looks_slow_is_asked_again_until_it_does_not() -> None:
    canary = Pod(slow=2)
    probed = asked(Pod(), canary)
    assert canary.asked == 40
    assert probed.canary.p95_s == 0.001


def test_a_canary_that_is_slow_stays_slow() -> None:
    stable, canary = Pod(), Pod(slow=1000)
    probed = asked(stable, canary)
    assert (stable.asked, canary.asked) == (60, 60)
    assert probed.canary.p95_s == 0.01
