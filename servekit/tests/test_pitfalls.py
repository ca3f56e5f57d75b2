"""One test a pitfall of KServe's SDK that is mended here, each held against the stock server as well.

When the half about `stock` fails, KServe has mended it: the mend here, and its test, can go.
P4 to P6, P17 and P22 are about calling a predictor, and are mended where that is done; P18 is in test_drain.py.
"""

from __future__ import annotations

import gzip
import json
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import grpc
import httpx2
import kserve
import numpy as np
import orjson
import pytest
from kserve.protocol.infer_type import to_grpc_parameters

from servekit.inference import RequestContext
from servekit.rest import v2
from servekit.rpc.messages import message_class

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) + b"\xff\xd9"
INFER = "/v2/models/echo/infer"


def one(name, datatype, *values):
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": list(values)}


def status(server, body, **headers):
    return server.http.post(INFER, content=body, headers=headers).status_code


def test_p1_a_numeric_binary_input_is_read_in_place(server):
    """Stock: the SDK turns each element into a Python object, 270 times the CPU of gRPC."""
    document = {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [4], "parameters": {"binary_data_size": 4}}]}
    head = orjson.dumps(document)
    body = head + b"abcd"
    array = v2.decode("m", "", body, str(len(head)), RequestContext())[0].inputs[0].array
    whole = np.frombuffer(body, np.uint8)
    assert array.ctypes.data == whole.ctypes.data + len(head)
    answer = server.infer_binary(("x", "UINT8", [4], b"abcd")).json()
    assert answer["parameters"]["views"] is True
    assert answer["outputs"][0]["data"] == [97, 98, 99, 100]

    stock = kserve.InferRequest.from_bytes(body, len(head), "m").inputs[0]
    assert isinstance(stock.data, list)


def test_p2_a_picture_travels_raw_in_a_bytes_tensor_over_rest_both_ways(server, stock):
    """Stock: 500, whose body holds the whole request's repr."""
    tensor = ("picture", "BYTES", [1], len(JPEG).to_bytes(4, "little") + JPEG)
    answer = server.infer_binary(tensor, parameters={"binary_data_output": True})
    assert answer.status_code == 200
    assert answer.content.endswith(JPEG)
    assert stock.infer_binary(tensor).status_code == 500


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/x-www-form-urlencoded"}])
def test_p3_json_is_read_whatever_its_content_type_says(server, stock, headers):
    """Stock: 400; so `curl -d` and tritonclient's JSON mode fail there."""
    body = orjson.dumps({"inputs": [one("x", "FP32", 1.0)]})
    assert status(server, body, **headers) == 200
    assert status(stock, body, **headers) == 400


def test_p7_workers_are_accepted_and_one_process_serves(server):
    """Stock: `--workers 8`, which the controller adds, forks servers that hold no model or no predictor."""
    assert server.options["workers"] == 8
    tasks = Path(f"/proc/{server.process.pid}/task")
    assert [(task / "children").read_text() for task in tasks.iterdir() if (task / "children").exists()]
    assert not "".join((task / "children").read_text() for task in tasks.iterdir())
    assert server.infer(one("x", "FP32", 1.0)).status_code == 200


def test_p8_the_loop_that_serves_is_uvloops(server):
    """Stock: one process runs plain asyncio, whatever --event-loop says."""
    assert server.infer(one("loop", "FP32", 1.0)).json()["outputs"][0]["data"] == ["uvloop"]


@contextmanager
def computing(server, end):
    """The model has begun and goes on computing within this block."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.infer, one("until", "BYTES", str(end)))
        try:
            server.wait_until(end.with_suffix(".begun").exists)
            yield
        finally:
            end.touch()
        assert answer.result().status_code == 200


def test_p9_the_server_is_live_while_a_model_computes(server, stock, tmp_path):
    """Stock: a `predict` that is not async holds the event loop, and liveness with it."""
    with computing(server, tmp_path / "server"):
        assert server.http.get("/v2/health/live").status_code == 200
    with computing(stock, tmp_path / "stock"), pytest.raises(httpx2.ReadTimeout):
        stock.http.get("/v2/health/live", timeout=1)


def test_p10_the_server_is_ready_only_when_its_models_are(servers, gate, stock):
    """Stock: always ready, with every model unloaded too."""

    server = servers["loading"].wait_live()

    def ready(url="/v2/health/ready"):
        return server.http.get(url).status_code

    assert server.rpc("ServerLive").live
    assert (ready(), server.rpc("ServerReady").ready) == (503, False)
    assert server.infer(one("x", "FP32", 1.0)).status_code == 503
    assert (ready("/v2/models/echo/ready"), ready("/v1/models/echo")) == (503, 503)
    assert not server.rpc("ModelReady", name="echo").ready
    gate.touch()
    server.wait_ready()
    assert server.rpc("ServerReady").ready
    assert server.rpc("ModelReady", name="echo").ready
    server.http.post("/v2/repository/models/echo/unload")
    assert (ready(), server.rpc("ServerReady").ready) == (503, False)

    assert stock.http.get("/v2/models/echo/ready").status_code == 200
    assert stock.http.post("/v2/repository/models/echo/unload").status_code == 200
    assert stock.http.get("/v2/models/echo/ready").status_code == 404
    assert stock.http.get("/v2/health/ready").status_code == 200
    assert stock.http.post("/v2/repository/models/echo/load").status_code == 200


def test_p11_every_error_has_its_own_status_over_grpc(server, stock):
    """Stock: ModelNotReady is UNKNOWN, with the words of a Python AttributeError."""
    request = message_class("ModelInferRequest")
    tensor = {"datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"Unavailable"]}}
    data = request(model_name="echo", inputs=[{"name": "error", **tensor}]).SerializeToString()
    assert server.rpc_error("ModelInfer", data) == (grpc.StatusCode.UNAVAILABLE, "as asked")

    data = request(model_name="echo", inputs=[{"name": "not_ready", **tensor}]).SerializeToString()
    code, words = stock.rpc_error("ModelInfer", data)
    assert code == grpc.StatusCode.UNKNOWN
    assert "AttributeError" in words


def hangs_up(connection):
    # A server that closes does so after the reply: until then the socket looks open.
    readable, _, _ = select.select([connection], [], [], 0.5)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def test_p12_a_defect_leaves_the_connection_open_and_tells_the_client_nothing_of_the_code(server, stock):
    """Stock: the connection is closed after the reply, and the next pooled request on it is reset."""
    body = json.dumps({"inputs": [one("fail", "FP32", 1.0)]})

    def twice(tested):
        connection = HTTPConnection("127.0.0.1", tested.http_port, timeout=60)
        connection.request("POST", INFER, body, {"content-type": "application/json", "x-request-id": "defect-12"})
        answer = connection.getresponse()
        words = answer.read().decode()
        assert answer.status == 500
        connection.auto_open = False
        closed = connection.sock is None or hangs_up(connection.sock)
        if not closed:
            connection.request("GET", "/v2/health/live")
            assert connection.getresponse().status == 200
        connection.close()
        return closed, words

    closed, words = twice(server)
    assert not closed
    assert json.loads(words) == {"error": "internal error: the server's log tells more under request id defect-12"}
    (defect,) = [line for line in server.log_of("defect-12") if line["event"] == "defect"]
    assert "exploded" in json.dumps(defect["exception"])

    closed, words = twice(stock)
    assert closed
    assert "RuntimeError" in words


P13 = {
    "a shape that does not fit": (
        orjson.dumps({"inputs": [{**one("x", "FP32", 1.0), "shape": [7]}]}),
        {"content-type": "application/json"},
    ),
    "binary data cut short": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}1234',
        {"inference-header-content-length": "91"},
    ),
    "a header length of words": (b"{}", {"inference-header-content-length": "many"}),
    "binary JSON without inputs": (b"{}", {"inference-header-content-length": "2"}),
}


@pytest.mark.parametrize(("body", "headers"), P13.values(), ids=P13.keys())
def test_p13_a_clients_mistake_is_a_400_with_one_line(server, stock, body, headers):
    """Stock: each of these is a 500."""
    answer = server.http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    assert status(stock, body, **headers) == 500


@pytest.mark.parametrize("shape", [[-1], [1 << 62, 4]])
def test_p13_a_shape_that_is_none_is_refused(server, shape):
    """Stock: `[-1]` is accepted."""
    answer = server.infer({**one("x", "FP32", 1.0), "shape": shape})
    assert (answer.status_code, "x" in answer.json()["error"]) == (400, True)


def test_p13_compressed_bodies_are_read(server, stock):
    """Stock: 400, for it reads the compressed bytes as JSON."""
    body = gzip.compress(orjson.dumps({"inputs": [one("x", "FP32", 1.0)]}))
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert status(server, body, **headers) == 200
    assert 400 <= status(stock, body, **headers) < 500


def test_p13_an_output_that_there_is_not_is_refused_over_grpc_as_over_rest(server, stock):
    """Stock: 400 over REST, ignored over gRPC."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    fields = {"model_name": "echo", "inputs": [tensor], "outputs": [{"name": "z"}]}
    code, words = server.rpc_error("ModelInfer", **fields)
    assert (code, "no output 'z'" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    over_rest = server.infer(one("x", "FP32", 1.0), outputs=[{"name": "z"}])
    assert (over_rest.status_code, over_rest.json()["error"]) == (400, words)
    assert [output.name for output in stock.rpc("ModelInfer", **fields).outputs] == ["x"]


def test_p13_the_version_is_read_over_grpc_as_over_rest(server, stock):
    """Stock: 501 over REST, ignored over gRPC."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    fields = {"model_name": "echo", "inputs": [tensor]}
    assert server.rpc("ModelInfer", model_version="3", **fields).model_version == "3"
    assert server.rpc_error("ModelInfer", model_version="4", **fields)[0] == grpc.StatusCode.NOT_FOUND
    body = orjson.dumps({"inputs": [one("x", "FP32", 1.0)]})
    path = "/v2/models/echo/versions/{}/infer"
    assert server.http.post(path.format(3), content=body).json()["model_version"] == "3"
    assert server.http.post(path.format(4), content=body).status_code == 404
    stock.rpc("ModelInfer", model_version="4", **fields)


def test_p14_messages_of_more_than_8_mib_are_taken_over_grpc(server, stock):
    """Stock: RESOURCE_EXHAUSTED."""
    raw = bytes(9 << 20)
    fields = {
        "model_name": "echo",
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [len(raw)]}],
        "raw_input_contents": [raw],
    }
    assert server.rpc("ModelInfer", **fields).raw_output_contents[0] == raw
    assert stock.rpc_error("ModelInfer", **fields)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_p15_parameters_of_every_type_arrive_and_go_out_over_both_protocols(server):
    """Stock: the SDK can't write a float into gRPC, and drops Triton's `double_param` without a word."""
    parameters = {"number": 0.25, "text": "0.25", "whole": 3, "flag": True}
    answer = server.infer(one("x", "FP32", 1.0), parameters=parameters).json()
    assert parameters.items() <= answer["parameters"].items()

    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    request = message_class("ModelInferRequest")(model_name="echo", inputs=[tensor])
    request.parameters["number"].double_param = 0.25
    request.parameters["text"].string_param = "0.25"
    request.parameters["whole"].int64_param = 3
    request.parameters["flag"].bool_param = True
    echoed = server.rpc("ModelInfer", request.SerializeToString()).parameters
    assert {name: echoed[name] for name in parameters} == dict(request.parameters)

    with pytest.raises(kserve.errors.InvalidInput):
        to_grpc_parameters({"number": 0.25})


def test_p16_outputs_are_binary_where_asked_with_the_headers_that_http_wants(server, stock):
    """Stock: ignored unless each model passes the wish on; and then chunked, without a content type."""
    wish = {"outputs": [{"name": "x", "parameters": {"binary_data": True}}], "id": "an id"}
    answer = server.infer(one("x", "FP16", 1.5), **wish)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(answer.content))
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length:] == np.float16(1.5).tobytes()
    head = orjson.loads(answer.content[:length])
    assert (head["id"], head["model_name"], head["model_version"]) == ("an id", "echo", "3")
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 2}
    stocks = stock.infer(one("x", "FP32", 1.5), **wish)
    assert stocks.status_code == 200
    assert "inference-header-content-length" not in stocks.headers


def test_p16_the_id_is_echoed_and_absent_when_there_was_none(server):
    """Stock: each model must pass it on."""
    assert server.infer(one("x", "FP32", 1.0), id="i" * 100_000).json()["id"] == "i" * 100_000
    assert "id" not in server.infer(one("x", "FP32", 1.0)).json()


def test_p16_fp16_can_be_read_as_json(server):
    """Stock: 400."""
    assert server.infer(one("x", "FP16", 1.5)).json()["outputs"][0]["data"] == [1.5]


def test_p19_a_request_is_one_line_of_json_and_a_probe_is_none(server, stock):
    """Stock: five lines of text a request."""
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready", "/metrics"):
        server.http.get(path, headers={"x-request-id": "a-probe"})
    answer = server.http.post(INFER, json={"inputs": [one("x", "FP32", 1.0)]}, headers={"x-request-id": "a-request"})
    assert answer.headers["x-request-id"] == "a-request"
    (line,) = server.log_of("a-request")
    assert line.items() >= {"event": "request", "code": "200", "model": "echo", "call": "infer"}.items()
    assert line["ms"] > 0
    assert "compute_ms" in line
    assert "a-probe" not in server.log_path.read_text()
    before = len(stock.log_path.read_text().splitlines())
    assert stock.infer(one("x", "FP32", 1.0)).status_code == 200
    stock.wait_until(lambda: len(stock.log_path.read_text().splitlines()) > before + 1)


def test_p19_a_grpc_request_and_an_unknown_route_are_one_line_too(server):
    """Stock: as above."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    metadata = (("x-request-id", "over-grpc"),)
    server.rpc("ModelInfer", model_name="echo", inputs=[tensor], metadata=metadata)
    (line,) = server.log_of("over-grpc")
    assert (line["protocol"], line["call"], line["code"]) == ("grpc", "infer", "OK")
    server.http.get("/nowhere", headers={"x-request-id": "to-nowhere"})
    (line,) = server.log_of("to-nowhere")
    assert (line["call"], line["code"]) == ("unrouted", "404")


def test_p20_requests_and_errors_are_counted_by_status_and_in_flight(server, stock):
    """Stock: four histograms of stages, nothing of requests or errors."""
    counted = 'yolo_request_seconds_count{call="infer",code="%s",model="echo",protocol="rest"}'
    before = {code: server.metric(counted % code) for code in ("200", "429", "500")}
    server.infer(one("x", "FP32", 1.0))
    server.infer(one("error", "BYTES", "Overloaded"))
    server.infer(one("fail", "FP32", 1.0))
    assert {code: server.metric(counted % code) - count for code, count in before.items()} == {
        "200": 1,
        "429": 1,
        "500": 1,
    }
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(server.infer, one("delay_s", "FP32", 1.0))
        server.wait_until(lambda: server.in_flight() == 1)
        computing.result()
    assert server.in_flight() == 0
    assert server.metric("yolo_models_loaded") == 1
    assert server.metric('yolo_stage_seconds_count{model="echo",stage="compute"}') > 0
    assert "in_flight" not in stock.http.get("/metrics").text


@pytest.mark.parametrize("chunked", [False, True])
def test_p21_a_body_beyond_the_limit_is_413(server, chunked):
    """Stock: no limit."""
    size = (16 << 20) + 1
    body = (bytes(1 << 20) for _ in range(17)) if chunked else bytes(size)
    answer = server.http.post(INFER, content=body)
    assert answer.status_code == 413
    assert answer.json() == {"error": "the body is larger than 16777216 bytes"}


def test_p21_a_bomb_is_413(server):
    """Stock: compressed bodies are not read."""
    bomb = gzip.compress(bytes(17 << 20))
    assert status(server, bomb, **{"content-encoding": "gzip"}) == 413


def test_p21_a_message_beyond_the_limit_is_invalid_over_grpc_compressed_or_not(server):
    """Stock: RESOURCE_EXHAUSTED, which invites a retry."""
    raw = bytes((16 << 20) + 1)
    fields = {"model_name": "echo", "raw_input_contents": [raw]}
    assert server.rpc_error("ModelInfer", **fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message is larger than 16777216 bytes",
    )
    method = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    bomb = message_class("ModelInferRequest")(raw_input_contents=[bytes(64 << 20)]).SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        method(bomb, compression=grpc.Compression.Gzip, timeout=60)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.rpc("ServerLive").live


def test_p21_a_full_queue_is_429_with_retry_after_and_the_accepted_are_answered(server):
    """Stock: no bound; requests pile up until memory ends."""
    assert server.infer(one("delay_s", "FP32", 0.0)).status_code == 200  # what an earlier test left has run
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(server.infer, one("delay_s", "FP32", 0.3)) for _ in range(12)]
        codes = sorted(answer.result().status_code for answer in answers)
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 5  # one computes, four wait
    refused = next(answer.result() for answer in answers if answer.result().status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"error": "4 requests are waiting already: try again in a moment"}


def test_p21_a_deadline_ends_the_request_over_grpc_and_a_timeout_parameter_over_both(server):
    """Stock: neither is read."""
    tensor = {"name": "delay_s", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    fields = {"model_name": "echo", "inputs": [tensor]}
    code, _ = server.rpc_error("ModelInfer", timeout_s=0.2, **fields)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    request = message_class("ModelInferRequest")(**fields)
    request.parameters["timeout"].int64_param = 100_000
    assert server.rpc_error("ModelInfer", request.SerializeToString()) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "the request's time limit passed before it was answered",
    )
    for timeout in (100_000, "100000", 100_000.0):
        assert server.infer(one("delay_s", "FP32", 1.0), parameters={"timeout": timeout}).status_code == 504
    assert server.infer(one("x", "FP32", 1.0), parameters={"timeout": 0}).status_code == 200
    for wrong in (-1, "soon", 1 << 63, 1e300, "9" * 5000):
        assert server.infer(one("x", "FP32", 1.0), parameters={"timeout": wrong}).status_code == 400


def test_p21_a_client_that_leaves_frees_its_place_in_the_queue(server):
    """Stock: the work goes on for nobody."""
    assert server.infer(one("delay_s", "FP32", 0.0)).status_code == 200  # what an earlier test left has run
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(server.infer, one("delay_s", "FP32", 3.0))
        server.wait_until(lambda: server.in_flight() == 1)
        waiting = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(2)]
        body = orjson.dumps({"inputs": [one("delay_s", "FP32", 3.0)]})
        for connection in waiting:
            connection.sendall(
                f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
                "x-request-id: left-over-rest\r\n\r\n".encode()
                + body
            )
        tensor = {"name": "delay_s", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [3.0]}}
        method = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        request = message_class("ModelInferRequest")(model_name="echo", inputs=[tensor]).SerializeToString()
        calls = [method.future(request) for _ in range(2)]
        server.wait_until(lambda: server.in_flight() == 5)
        assert server.infer(one("delay_s", "FP32", 0.0)).status_code == 429
        for connection in waiting:
            connection.close()
        for call in calls:
            call.cancel()
        server.wait_until(lambda: server.in_flight() == 1)
        assert not computing.done()
        assert computing.result().status_code == 200
    answer = server.infer(one("x", "FP32", 1.0)).json()
    assert answer["parameters"]["waiting"] == 0
    assert {line["code"] for line in server.log_of("left-over-rest")} == {"499"}
