"""The channel to the predictor: what goes along, what comes back, and what happens when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

from servekit import errors
from servekit.inference import RequestContext
from yolo_transformer.predictor import Predictor, target_of

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=opaque,other=1",
    "b3": "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
    "x-b3-spanid": "e457b5a2e4d86bd1",
    "x-b3-parentspanid": "05e3ac9a4f6e3b90",
    "x-b3-sampled": "1",
}
# What the predictor says, and what the transformer's clients get: REST, gRPC, and when to come again.
PASSED_ON = [
    (errors.InvalidRequest, 400, "INVALID_ARGUMENT", None),
    (errors.Unauthenticated, 401, "UNAUTHENTICATED", None),
    (errors.Forbidden, 403, "PERMISSION_DENIED", None),
    (errors.NotFound, 404, "NOT_FOUND", None),
    (errors.TooLarge, 400, "INVALID_ARGUMENT", None),
    (errors.Overloaded, 429, "RESOURCE_EXHAUSTED", "1"),
    (errors.Unavailable, 503, "UNAVAILABLE", "1"),
    (errors.DeadlineExceeded, 504, "DEADLINE_EXCEEDED", None),
]


@pytest.mark.parametrize("passed_on", PASSED_ON, ids=lambda case: case[0].__name__)
async def test_a_refusal_of_the_predictor_reaches_the_client_as_it_was(passed_on, predictor, transformer, grey) -> None:
    error, status, code, retry_after = passed_on
    predictor.orders.failing = error("the toy does not want to")
    over_rest = await transformer.v2(grey())
    assert (over_rest.status_code, over_rest.json()) == (status, {"error": "the toy does not want to"})
    assert over_rest.headers.get("retry-after") == retry_after
    over_grpc = await transformer.refusal(grey())
    assert (over_grpc.code().name, over_grpc.details()) == (code, "the toy does not want to")
    assert dict(over_grpc.trailing_metadata()).get("retry-after") == retry_after


@pytest.mark.parametrize("path", ["/inference/detect", "/v1/models/toy:predict"])
async def test_every_protocol_passes_the_refusal_on(path, predictor, transformer, grey) -> None:
    predictor.orders.failing = errors.Overloaded("the queue is full")
    response = await (
        transformer.http.post(path, content=grey()) if "inference" in path else transformer.v1((grey(), {}))
    )
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


async def test_a_defect_of_the_predictor_is_one_line_without_its_words(predictor, transformer, grey) -> None:
    predictor.orders.failing = RuntimeError("/secret/path exploded")
    response = await transformer.v2(grey())
    assert (response.status_code, response.json()["error"]) == (500, "the upstream server failed with INTERNAL")


def frame(kind: int, flags: int, stream: bytes = bytes(4), payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream + payload


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Speak HTTP/2 by hand, with a frame for each request's stream; yield the address, and the streams so far."""
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Our settings, and theirs acknowledged.
        await reader.readexactly(24)
        writer.write(frame(kind=4, flags=0))
        while len(head := await reader.read(9)) == 9:
            await reader.readexactly(int.from_bytes(head[:3]))
            if head[3] == 4 and not head[4]:
                writer.write(frame(kind=4, flags=1))
            if head[3] == 1:
                asked.append(head[5:])
                writer.write(answer(head[5:]))

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_gateway_that_does_not_know_the_predictor_is_no_defect() -> None:
    # ":status: 404" (RFC 7541).
    async with answering(lambda stream: frame(kind=1, flags=5, stream=stream, payload=b"\x8d")) as (address, _):
        predictor = Predictor(address, timeout_s=20)
        with pytest.raises(errors.Unavailable, match="can't be reached"):
            await predictor.models()
        await predictor.close()


async def test_a_server_that_stops_just_as_a_request_comes_is_asked_again() -> None:
    # RST_STREAM with CANCEL: what a gRPC server does with a request that it has not begun when it is stopped.
    async with answering(lambda stream: frame(kind=3, flags=0, stream=stream, payload=(8).to_bytes(4))) as (
        address,
        asked,
    ):
        predictor = Predictor(address, timeout_s=20)
        with pytest.raises(errors.Unavailable, match="can't be reached"):
            await predictor.models()
        await predictor.close()
    assert len(asked) == 3


async def test_a_closed_port_is_a_predictor_that_can_not_be_reached_until_it_opens_again(
    predictor, transformer, toy, grey
) -> None:
    await predictor.stop()
    over_rest = await transformer.v2(grey())
    assert (over_rest.status_code, over_rest.json()["error"]) == (503, "the predictor can't be reached")
    assert over_rest.headers["retry-after"] == "1"
    over_grpc = await transformer.refusal(grey())
    assert (over_grpc.code(), over_grpc.details()) == (grpc.StatusCode.UNAVAILABLE, "the predictor can't be reached")
    await predictor.start()

    async def answers() -> bool:
        response = await transformer.v2(grey())
        assert response.status_code in {200, 503}
        return response.status_code == 200

    await toy.until(answers)


async def test_a_request_whose_connection_dies_is_asked_again(predictor, start_transformer, toy, grey) -> None:
    wire = toy.Wire(predictor.port)
    await wire.lay()
    transformer = await start_transformer(f"127.0.0.1:{wire.port}")
    predictor.orders.gate = asyncio.Event()
    answer = asyncio.create_task(transformer.v2(grey()))
    await toy.until(lambda: len(predictor.orders.seen) == 1)
    wire.cut()
    await toy.until(lambda: len(predictor.orders.seen) == 2)
    predictor.orders.gate.set()
    assert (await answer).status_code == 200
    assert wire.connections == 2
    await wire.remove()


async def test_a_predictor_that_ends_in_the_middle_of_a_request_is_unavailable(
    predictor, transformer, toy, grey
) -> None:
    predictor.orders.gate = asyncio.Event()
    answer = asyncio.create_task(transformer.v2(grey()))
    await toy.until(lambda: predictor.orders.seen)
    await predictor.stop()
    response = await answer
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_predictor_that_is_loading_for_a_moment_is_asked_again(predictor, transformer, grey) -> None:
    predictor.orders.errors = [errors.Unavailable("loading"), errors.Unavailable("loading")]
    assert (await transformer.v2(grey())).status_code == 200
    assert len(predictor.orders.seen) == 3


@pytest.mark.parametrize("error", [errors.Overloaded, errors.InvalidRequest, errors.NotFound])
async def test_what_another_attempt_would_not_mend_is_asked_once(error, predictor, transformer, grey) -> None:
    predictor.orders.failing = error("no")
    await transformer.v2(grey())
    assert len(predictor.orders.seen) == 1


async def test_the_request_id_and_the_trace_go_along_over_rest(predictor, transformer, grey) -> None:
    response = await transformer.http.post(
        "/inference/detect", content=grey(), headers={"x-request-id": "request-7", "x-other": "stays", **TRACE}
    )
    assert response.headers["x-request-id"] == "request-7"
    (seen,) = predictor.orders.seen
    assert (seen.request_id, seen.trace) == ("request-7", TRACE)


async def test_the_request_id_and_the_trace_go_along_over_grpc(predictor, transformer, grey) -> None:
    await transformer.detect(grey(), metadata=(("x-request-id", "request-8"), *TRACE.items()))
    (seen,) = predictor.orders.seen
    assert (seen.request_id, seen.trace) == ("request-8", TRACE)


async def test_a_request_without_an_id_gets_one_that_both_servers_know(predictor, transformer, grey) -> None:
    response = await transformer.v2(grey())
    (seen,) = predictor.orders.seen
    assert seen.request_id == response.headers["x-request-id"]


@pytest.mark.parametrize("microseconds", [9_000_000, "9000000"])
async def test_what_is_left_of_the_timeout_parameter_is_the_predictors_deadline(
    microseconds, predictor, transformer, grey
) -> None:
    await transformer.v2(grey(), timeout=microseconds)
    await transformer.detect(grey(), timeout=microseconds)
    assert all(0 < seen.remaining_s < 10 for seen in predictor.orders.seen)
    assert len(predictor.orders.seen) == 2


async def test_what_is_left_of_the_clients_grpc_deadline_is_the_predictors(predictor, transformer, grey) -> None:
    await transformer.detect(grey(), timeout_s=7)
    (seen,) = predictor.orders.seen
    assert 0 < seen.remaining_s < 8


async def test_the_servers_own_limit_is_the_deadline_where_the_client_sets_none(
    predictor, start_transformer, grey
) -> None:
    transformer = await start_transformer(predictor.host, timeout_s=11)
    await transformer.v2(grey())
    await transformer.v2(grey(), timeout=500_000_000)
    assert all(0 < seen.remaining_s < 13 for seen in predictor.orders.seen)


async def test_a_predictor_that_answers_too_late_is_given_up(predictor, start_transformer, grey) -> None:
    transformer = await start_transformer(predictor.host, timeout_s=0.3)
    predictor.orders.gate = asyncio.Event()
    response = await transformer.v2(grey())
    assert response.status_code == 504
    assert (await transformer.refusal(grey())).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_passed_timeout_ends_the_predictors_work_too(predictor, transformer, toy, grey) -> None:
    predictor.orders.gate = asyncio.Event()
    assert (await transformer.v2(grey(), timeout=300_000)).status_code == 504
    await toy.until(lambda: predictor.orders.cancelled == 1)


async def test_a_client_that_leaves_ends_the_predictors_work_too(predictor, transformer, toy, grey) -> None:
    predictor.orders.gate = asyncio.Event()
    leaving = asyncio.create_task(transformer.detect(grey()))
    await toy.until(lambda: predictor.orders.seen)
    leaving.cancel()
    await toy.until(lambda: predictor.orders.cancelled == 1)


async def test_two_predictors_in_one_process_each_have_their_own_channel(
    start_predictor, start_transformer, toy, grey
) -> None:
    first, second = await start_predictor(), await start_predictor()
    second.orders.weights.labels = ("cat", "dog", "bird")
    before_first, before_second = await start_transformer(first.host), await start_transformer(second.host)
    answers = await asyncio.gather(*(each.detect(grey()) for each in [before_first, before_second] * 4))
    assert [answer["labels"][0, 0] for answer in answers] == [b"person", b"cat"] * 4
    assert (len(first.orders.seen), len(second.orders.seen)) == (4, 4)


async def test_requests_are_spread_over_every_address(start_predictor, start_transformer, toy, grey) -> None:
    first, second = await start_predictor(), await start_predictor()
    transformer = await start_transformer(f"ipv4:{first.host},{second.host}")

    async def both_are_connected() -> bool:
        await transformer.detect(grey())
        return first.orders.seen and second.orders.seen

    await toy.until(both_are_connected)
    first.orders.seen.clear()
    second.orders.seen.clear()
    for _ in range(10):
        await transformer.detect(grey())
    assert (len(first.orders.seen), len(second.orders.seen)) == (5, 5)


async def test_requests_go_to_the_address_that_is_left(start_predictor, start_transformer, grey) -> None:
    first, second = await start_predictor(), await start_predictor()
    transformer = await start_transformer(f"ipv4:{first.host},{second.host}")
    await first.stop()
    for _ in range(6):
        assert (await transformer.v2(grey())).status_code == 200


async def test_an_answer_without_candidates_is_a_defect_in_one_line(predictor, transformer, grey) -> None:
    predictor.orders.answer = lambda images: {"boxes": np.zeros((len(images), 0, 4), np.float32)}
    response = await transformer.v2(grey())
    assert response.status_code == 500
    assert response.json()["error"].startswith("internal error: the server's log tells more under request id ")


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("predictor", "dns:///predictor:8081"),
        ("predictor.ns.svc:9000", "dns:///predictor.ns.svc:9000"),
        ("127.0.0.1:9081", "dns:///127.0.0.1:9081"),
        ("dns:///predictor:1", "dns:///predictor:1"),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1"),
        ("unix:/run/predictor.sock", "unix:/run/predictor.sock"),
    ],
)
def test_a_host_becomes_a_name_that_grpc_resolves(host, target) -> None:
    assert target_of(host) == target


async def test_a_request_that_is_late_already_is_not_sent(predictor) -> None:
    channel = Predictor(predictor.host, 5)
    with pytest.raises(errors.DeadlineExceeded):
        await channel.infer(b"", RequestContext(deadline=0.0))
    assert predictor.orders.seen == []
    await channel.close()
