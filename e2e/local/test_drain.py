"""A server that is told to stop: nothing that it accepted is lost, over REST and gRPC, whichever of the two it is."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import grpc
import httpx2
import orjson
import pytest
from patience import wait_for

from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import encode_request
from servekit.rpc.messages import SERVICE
from servekit.tensors import Tensor, bytes_array
from yolo_client.local import LocalOptions, LocalServers
from yolo_client.shapes import draw_scene

CALLERS = 3
_, _ENCODED = cv2.imencode(".jpg", draw_scene(3, 480, 640).image)
JPEG = bytes(_ENCODED)
# gRPC itself cancels what reaches a server that stops before a handler took it (grpc/grpc#41785).
_NOT_BEGUN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@dataclass
class Tally:
    """What callers saw: answers before and after the signal, refusals while draining, and everything else."""

    answered: list[float] = field(default_factory=list)
    turned_away: int = 0
    lost: list[str] = field(default_factory=list)


def call_rest(options: LocalOptions, tally: Tally, stop: threading.Event) -> None:
    # A connection for each request, so that a closed listener shows.
    limits = httpx2.Limits(max_keepalive_connections=0)
    with httpx2.Client(base_url=options.url, limits=limits, timeout=30) as client:
        while not stop.is_set():
            try:
                response = client.post("/inference/detect", content=JPEG)
            except httpx2.ConnectError:
                tally.turned_away += 1
                return
            except httpx2.HTTPError as error:
                tally.lost.append(repr(error))
                return
            if response.status_code == 200:
                tally.answered.append(time.monotonic())
            else:
                tally.lost.append(f"{response.status_code} {response.text}")


def call_grpc(options: LocalOptions, tally: Tally, stop: threading.Event) -> None:
    request = InferenceRequest("shapes", (Tensor("image", bytes_array([JPEG])),), RequestContext())
    message = encode_request(request)
    # Without gRPC's own retries, which would hide a loss.
    with grpc.insecure_channel(f"127.0.0.1:{options.grpc_port}", options=[("grpc.enable_retries", 0)]) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        while not stop.is_set():
            try:
                infer(message, timeout=30)
            except grpc.RpcError as error:
                if error.code() in _NOT_BEGUN:
                    tally.turned_away += 1
                else:
                    tally.lost.append(f"{error.code()} {error.details()}")
                return
            tally.answered.append(time.monotonic())


def test_a_transformer_told_to_stop_answers_everything_it_accepted(start_servers: Callable[..., LocalServers]) -> None:
    servers = start_servers(transformer_arguments=("--drain_delay", "4"))
    process = dict(servers.processes)["transformer"]
    rest, rpc, stop = Tally(), Tally(), threading.Event()
    threads = [
        threading.Thread(target=call, args=(servers.options, tally, stop))
        for call, tally in ((call_rest, rest), (call_grpc, rpc))
        for _ in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(rest.answered) > 5 and len(rpc.answered) > 5)
    signalled = time.monotonic()
    process.send_signal(signal.SIGTERM)
    with httpx2.Client(base_url=servers.options.url) as probe:
        wait_for(lambda: probe.get("/v2/health/ready").status_code == 503)
        assert probe.get("/v2/health/live").status_code == 200
    for thread in threads:
        thread.join(60)
    stop.set()
    assert process.wait(60) == 0
    accepted = codes_logged(servers.options.log_directory / "transformer.log")
    for protocol, good, tally in (("rest", "200", rest), ("grpc", "OK", rpc)):
        assert not tally.lost
        assert tally.turned_away == CALLERS
        assert any(moment > signalled for moment in tally.answered), "requests during the delay were not answered"
        # Nobody who was turned away was one whom the server had accepted.
        assert accepted[protocol] == {good: len(tally.answered)}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_predictor_told_to_stop_answers_what_it_computes(
    start_servers: Callable[..., LocalServers], sig: signal.Signals
) -> None:
    servers = start_servers(predictor_arguments=("--drain_delay", "0"))
    process = dict(servers.processes)["predictor"]
    images = bytes_array([JPEG] * 16)
    message = encode_request(InferenceRequest("shapes", (Tensor("image", images),), RequestContext()))
    with grpc.insecure_channel(f"127.0.0.1:{servers.options.grpc_port}") as channel:
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(message, timeout=60)
        url = f"http://127.0.0.1:{servers.options.predictor_http_port}/metrics"
        wait_for(lambda: 'yolo_requests_in_flight{protocol="grpc"} 1.0' in httpx2.get(url).text)
        process.send_signal(sig)
        assert answer.result()
    assert process.wait(60) == 0


def codes_logged(log: Path) -> dict[str, Counter[str]]:
    """Return how many inferences of each protocol ended in each code."""
    codes: dict[str, Counter[str]] = {"rest": Counter(), "grpc": Counter()}
    for line in map(orjson.loads, log.read_bytes().splitlines()):
        if line["event"] == "request" and line["call"] in {"detect", "infer"}:
            codes[line["protocol"]][line["code"]] += 1
    return codes
