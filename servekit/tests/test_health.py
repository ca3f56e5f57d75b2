from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servekit.rpc.messages import SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def health(server):
    return health_pb2_grpc.HealthStub(server.channel)


def ask(service):
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_ready_server_is_serving(server, health, service):
    server.wait_until(lambda: health.Check(ask(service)).status == SERVING)


def test_a_server_that_is_not_ready_is_live_all_the_same(server, health):
    server.http.post("/v2/repository/models/sick/load")
    server.wait_until(lambda: health.Check(ask("")).status == NOT_SERVING)
    assert health.Check(ask("live")).status == SERVING
    server.http.post("/v2/repository/models/sick/unload")
    server.wait_until(lambda: health.Check(ask("")).status == SERVING)


def test_an_unknown_service_is_not_found_and_unknown_to_watchers(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(ask("nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watching = health.Watch(ask("nothing"), timeout=60)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


def test_every_watcher_sees_each_change_and_one_that_leaves_disturbs_no_other(server, health):
    first, second = (health.Watch(ask(""), timeout=60) for _ in range(2))
    assert (next(first).status, next(second).status) == (SERVING, SERVING)
    server.http.post("/v2/repository/models/sick/load")
    assert (next(first).status, next(second).status) == (NOT_SERVING, NOT_SERVING)
    first.cancel()
    server.http.post("/v2/repository/models/sick/unload")
    assert next(second).status == SERVING
    second.cancel()
