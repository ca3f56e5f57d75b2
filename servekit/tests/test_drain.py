from __future__ import annotations

import asyncio
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPConnection

import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servekit import logs
from servekit.errors import InvalidRequest
from servekit.flags import ServerOptions
from servekit.repository import Repository
from servekit.rpc.service import LINGER_S
from servekit.server import Server, StartupFailed

INFER = "/v2/models/echo/infer"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def body(name, value):
    tensor = {"name": name, "datatype": "FP32", "shape": [1], "data": [value]}
    return orjson.dumps({"inputs": [tensor]})


def fields(name, value):
    tensor = {"name": name, "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [value]}}
    return {"model_name": "echo", "inputs": [tensor]}


def test_p18_a_drain_is_unready_at_once_and_answers_all_that_was_sent_before_and_meanwhile(servers):
    """Stock: SIGTERM closes the REST listener at once, readiness stays on, and the two budgets follow each other."""
    server = servers["draining"].wait_ready()
    health = health_pb2_grpc.HealthStub(server.channel)
    watching = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    server.wait_until(lambda: next(watching).status == health_pb2.HealthCheckResponse.SERVING)
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().read() == b'{"ready":true}'
    idle = socket.create_connection(("127.0.0.1", server.http_port))
    with ThreadPoolExecutor(4) as pool:
        before = [pool.submit(server.http.post, INFER, content=body("delay_s", 1.0))]
        before += [pool.submit(server.rpc, "ModelInfer", **fields("delay_s", 1.0))]
        server.wait_until(lambda: server.in_flight() == 2)
        server.process.send_signal(signal.SIGTERM)

        assert next(watching).status == NOT_SERVING
        assert list(watching) == []  # ended, so that no drain waits for it
        assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        assert not server.rpc("ServerReady").ready
        assert not server.rpc("ModelReady", name="echo").ready
        assert server.rpc("ServerLive").live

        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (503, b'{"ready":false}')
        assert answer.headers["connection"] == "close"
        assert server.http.get("/v2/models/echo/ready").status_code == 503
        assert server.http.get("/v2/health/live").status_code == 200
        meanwhile = [pool.submit(server.http.post, INFER, content=body("delay_s", 0.5))]
        meanwhile += [pool.submit(server.rpc, "ModelInfer", **fields("delay_s", 0.5))]
        server.wait_until(lambda: len([1 for line in server.log() if line.get("call") == "infer"]) >= 3)

        # The delay of 30 s is far from over: a second signal ends it, and what was accepted is finished still.
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(25) == 0
        rest, rpc = (future.result() for future in (before[0], before[1]))
        assert (rest.status_code, rpc.model_name) == (200, "echo")
        rest, rpc = (future.result() for future in meanwhile)
        assert (rest.status_code, rpc.model_name) == (200, "echo")
    idle.close()
    assert [line["event"] for line in server.log() if line["event"] != "request"] == [
        "model loaded",
        "ready",
        "draining",
        "stopped",
    ]


def test_p18_what_outlasts_the_one_budget_ends_with_the_process(servers):
    """Stock: 30 s for REST and then 30 s for gRPC."""
    server = servers["overdue"].wait_ready()
    with ThreadPoolExecutor(2) as pool:
        rest = pool.submit(server.http.post, INFER, content=body("delay_s", 300.0))
        rpc = pool.submit(server.rpc, "ModelInfer", **fields("delay_s", 300.0))
        server.wait_until(lambda: server.in_flight() == 2)
        assert server.stop() == 1
        assert rest.exception() is not None
        assert rpc.exception().code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    (stopped,) = [line for line in server.log() if line["event"] == "stopped"]
    assert not stopped["finished"]


def test_a_call_ends_some_time_after_its_answer_when_the_server_stops(start):
    """gRPC closes a connection with the last call on it, and what the client has not read by then is lost."""
    server = start(drain_delay=0).wait_ready()
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(server.rpc, "ModelInfer", **fields("delay_s", 1.0))
        server.wait_until(lambda: server.in_flight() == 1)
        assert server.stop() == 0
        assert computing.result().model_name == "echo"
    answered, stopped = (datetime.fromisoformat(line["timestamp"]) for line in server.log()[-2:])
    assert (stopped - answered).total_seconds() >= LINGER_S


def test_a_server_that_still_loads_stops_without_waiting_for_anything(servers):
    server = servers["endless"].wait_live()
    assert server.http.get("/v2/health/ready").status_code == 503
    assert server.stop() == 0


class Nothing(Repository):
    def available(self):
        return []

    async def open(self, name):  # noqa: ARG002 (the signature)
        raise InvalidRequest("the weights of\nnothing are damaged")


@pytest.fixture
def serve(monkeypatch):
    """A server in this process, which can only fail to start."""
    monkeypatch.setattr(logs, "configure", lambda _: None)

    def begin(http_port=0, grpc_port=0, host="127.0.0.1"):
        repository = Nothing()
        Server("test", repository, ServerOptions(host, http_port, grpc_port)).serve(lambda: repository.load("nothing"))

    return begin


def test_a_first_model_that_can_not_be_loaded_ends_the_server_with_one_line(serve):
    with pytest.raises(StartupFailed, match=r"^the weights of nothing are damaged$"):
        serve()


@pytest.mark.parametrize("which", ["http_port", "grpc_port"])
def test_a_taken_port_ends_the_server_with_one_line(serve, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupFailed, match=f"^port {port} is taken"):
            serve(**{which: port})


def test_an_address_that_is_not_this_hosts_is_not_called_taken(serve):
    with pytest.raises(StartupFailed, match=r"^port 8080 can't be listened on"):
        serve(8080, 8081, host="192.0.2.1")


@pytest.fixture
def unstarted():
    return Server("test", Nothing(), ServerOptions())


def told(server):
    return server._stop.is_set(), server._hurry.is_set(), server._cut.is_set()


async def test_each_further_signal_hurries_more(unstarted):
    await asyncio.sleep(0)
    seen = []
    for _ in range(3):
        unstarted.stop(signal.SIGTERM)
        seen.append(told(unstarted))
    assert seen == [(True, False, False), (True, True, False), (True, True, True)]


async def test_an_interrupt_does_not_wait_for_routes_and_a_second_one_for_nothing(unstarted):
    unstarted.stop(signal.SIGINT)
    assert told(unstarted) == (True, True, False)
    unstarted.stop(signal.SIGINT)
    assert told(unstarted) == (True, True, True)
