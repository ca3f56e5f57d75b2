from __future__ import annotations

import grpc
import orjson
import pytest

from servekit.errors import Internal, InvalidRequest, ServingError, from_grpc

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TABLE = {
    "InvalidRequest": (400, INVALID, None),
    "Unauthenticated": (401, grpc.StatusCode.UNAUTHENTICATED, None),
    "Forbidden": (403, grpc.StatusCode.PERMISSION_DENIED, None),
    "NotFound": (404, grpc.StatusCode.NOT_FOUND, None),
    "TooLarge": (413, INVALID, None),
    "UnsupportedPicture": (415, INVALID, None),
    "Overloaded": (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "1"),
    "Internal": (500, grpc.StatusCode.INTERNAL, None),
    "Unavailable": (503, grpc.StatusCode.UNAVAILABLE, "1"),
    "DeadlineExceeded": (504, grpc.StatusCode.DEADLINE_EXCEEDED, None),
}


def test_the_table_holds_every_error_there_is():
    assert {error.__name__ for error in ServingError.__subclasses__()} == set(TABLE)


@pytest.mark.parametrize(("name", "expected"), TABLE.items(), ids=TABLE.keys())
def test_an_error_has_its_status_over_rest_and_over_grpc(server, name, expected):
    http_status, grpc_status, retry_after = expected
    answer = server.infer({"name": "error", "datatype": "BYTES", "shape": [1], "data": [name]})
    assert (answer.status_code, answer.headers.get("retry-after")) == (http_status, retry_after)
    assert answer.json() == {"error": "as asked"}
    assert ("www-authenticate" in answer.headers) is (http_status == 401)

    tensor = {"name": "error", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [name.encode()]}}
    with pytest.raises(grpc.RpcError) as caught:
        server.rpc("ModelInfer", model_name="echo", inputs=[tensor])
    assert (caught.value.code(), caught.value.details()) == (grpc_status, "as asked")
    trailers = dict(caught.value.trailing_metadata() or ())
    assert trailers.get("retry-after") == retry_after


@pytest.mark.parametrize("name", ["fail", "late"])
def test_a_defect_is_internal_over_both_and_keeps_its_words_to_the_log(server, name):
    request_id = f"a-defect-{name}"
    tensor = {"name": name, "datatype": "FP32", "shape": [1]}
    body = orjson.dumps({"inputs": [{**tensor, "data": [1.0]}]})
    answer = server.http.post("/v2/models/echo/infer", content=body, headers={"x-request-id": request_id})
    words = f"internal error: the server's log tells more under request id {request_id}"
    assert (answer.status_code, answer.json()) == (500, {"error": words})
    fields = {"model_name": "echo", "inputs": [{**tensor, "contents": {"fp32_contents": [1.0]}}]}
    metadata = (("x-request-id", request_id),)
    assert server.rpc_error("ModelInfer", metadata=metadata, **fields) == (grpc.StatusCode.INTERNAL, words)
    lines = server.log_of(request_id)
    assert sorted(line["event"] for line in lines) == ["defect", "defect", "request", "request"]
    assert all("/secret/path" in str(line["exception"]) for line in lines if line["event"] == "defect")


@pytest.mark.parametrize("status", [status for _, status, _ in TABLE.values() if status != grpc.StatusCode.INTERNAL])
def test_an_upstream_status_becomes_the_error_that_has_it(status):
    error = from_grpc(status, "as they say")
    assert (error.grpc_status, error.message) == (status, "as they say")


@pytest.mark.parametrize("status", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED])
def test_an_upstream_defect_is_internal_without_its_words(status):
    error = from_grpc(status, "Unexpected <class 'AttributeError'> at /secret/path")
    assert isinstance(error, Internal)
    assert error.message == f"the upstream server failed with {status.name}"


def test_a_message_is_one_line_of_bounded_length():
    assert InvalidRequest("two\n  lines\tand\r\na tab").message == "two lines and a tab"
    assert len(InvalidRequest("x" * 1_000_000).message) <= 601


def test_an_error_that_quotes_a_megabyte_reaches_the_client_over_both(server):
    name = "ü" * 500_000
    answer = server.infer({"name": name, "datatype": "FP32", "shape": [1], "data": []})
    assert answer.status_code == 400
    code, words = server.rpc_error(
        "ModelInfer", model_name="echo", inputs=[{"name": name, "datatype": "FP32", "shape": [1]}]
    )
    assert (code, words[:9]) == (INVALID, "tensor 'ü")
