from __future__ import annotations

import gzip
import json
import socket
from http.client import HTTPConnection

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

INFER = "/v2/models/echo/infer"


def test_the_server_tells_its_name_version_and_extensions(server):
    for path in ("/v2", "/v2/"):
        metadata = server.http.get(path).json()
        assert (metadata["name"], bool(metadata["version"])) == ("echo", True)
        assert {"model_repository", "statistics", "binary_tensor_data"} <= set(metadata["extensions"])


@pytest.mark.parametrize("path", ["/v2/models/echo", "/v2/models/echo/versions/3"])
def test_a_model_tells_its_tensors_platform_and_properties(server, path):
    metadata = server.http.get(path).json()
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ]
    properties = metadata.pop("properties")
    assert properties["yolo.task"] == "none"
    assert metadata == {
        "name": "echo",
        "versions": ["3"],
        "platform": "echo_test",
        "inputs": tensors,
        "outputs": tensors,
    }


@pytest.mark.parametrize("path", ["/v2/models/echo/config", "/v2/models/echo/versions/3/config"])
def test_a_models_configuration_has_tritons_words(server, path):
    configuration = server.http.get(path).json()
    assert configuration["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [-1]},
        {"name": "text", "data_type": "TYPE_STRING", "dims": [-1]},
    ]
    assert configuration["parameters"]["yolo.task"] == {"string_value": "none"}
    assert (configuration["name"], configuration["platform"], configuration["max_batch_size"]) == (
        "echo",
        "echo_test",
        0,
    )


@pytest.mark.parametrize("path", ["/v2/models/echo/stats", "/v2/models/echo/versions/3/stats", "/v2/models/stats"])
def test_statistics_count_what_succeeded_and_what_failed(server, x, path):
    def statistics():
        (entry,) = [entry for entry in server.http.get(path).json()["model_stats"] if entry["name"] == "echo"]
        return entry

    before = statistics()
    assert server.infer(x).status_code == 200
    for name in ("fail", "error"):
        assert server.infer({"name": name, "datatype": "BYTES", "shape": [1], "data": ["NotFound"]}).status_code >= 400
    after = statistics()
    assert after["version"] == "3"
    assert after["inference_count"] - before["inference_count"] == 2  # a batch of two
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["last_inference"] >= before["last_inference"] > 1_600_000_000_000 or not before["last_inference"]
    counts = {
        stage: after["inference_stats"][stage]["count"] - before["inference_stats"][stage]["count"]
        for stage in after["inference_stats"]
    }
    assert counts["success"] == counts["compute_infer"] == counts["compute_input"] == counts["compute_output"] == 1
    assert counts["fail"] == 2
    assert after["inference_stats"]["fail"]["ns"] > before["inference_stats"]["fail"]["ns"]


UNKNOWN = [
    ("GET", "/v2/models/nothing"),
    ("GET", "/v2/models/echo/versions/9"),
    ("GET", "/v2/models/nothing/ready"),
    ("GET", "/v2/models/echo/versions/9/ready"),
    ("GET", "/v2/models/nothing/stats"),
    ("GET", "/v2/models/echo/versions/9/config"),
    ("POST", "/v2/models/nothing/infer"),
    ("POST", "/v2/models/echo/versions/9/infer"),
    ("POST", "/v2/repository/models/nothing/load"),
    ("POST", "/v2/repository/models/nothing/unload"),
    ("GET", "/v1/models/nothing"),
    ("POST", "/v1/models/nothing:predict"),
    ("GET", "/v2/nowhere"),
    ("GET", "/v2/models/echo/"),
    ("POST", "/v2/models//infer"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
def test_what_there_is_not_is_a_404_with_one_line(server, method, path):
    answer = server.http.request(method, path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]
    assert answer.headers["x-request-id"]


def test_a_wrong_method_is_a_405_that_names_the_right_ones(server):
    for method in ("DELETE", "OPTIONS", "PUT"):
        answer = server.http.request(method, INFER)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            assert list(answer.json()) == ["error"]


def test_head_answers_as_get_without_a_body(server):
    for path in ("/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/echo"):
        got, head = server.http.get(path), server.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_the_index_lists_every_model_with_its_state_and_can_be_cut_to_the_ready(server):
    index = {entry["name"]: entry for entry in server.http.post("/v2/repository/index").json()}
    assert index["echo"] == {"name": "echo", "version": "3", "state": "READY", "reason": ""}
    assert index["sick"].items() >= {"version": "", "state": "UNAVAILABLE"}.items()
    assert index["sick"]["reason"] in {"not loaded", "unloaded"}
    ready = server.http.post("/v2/repository/index", json={"ready": True}).json()
    assert [entry["name"] for entry in ready] == ["echo"]
    assert server.http.post("/v2/repository/index", json={"ready": False}).json() == list(index.values())
    for wrong in (b"{", b"[]", b'{"ready": "yes"}'):
        assert server.http.post("/v2/repository/index", content=wrong).status_code == 400


def test_a_model_can_be_loaded_used_and_unloaded(server, x):
    assert server.infer(x, model="second").status_code == 404
    assert server.http.post("/v2/repository/models/second/load").json() == {"name": "second", "load": True}
    assert server.infer(x, model="second").json()["model_name"] == "second"
    assert server.http.get("/v2/models").json() == {"models": ["echo", "second"]}
    body = {"parameters": {"unload_dependents": True}}
    assert server.http.post("/v2/repository/models/second/unload", json=body).status_code == 200
    assert server.http.get("/v2/models/second/ready").status_code == 404
    assert server.http.post("/v2/repository/models/second/unload").status_code == 404


def test_a_load_that_fails_says_why_and_leaves_the_rest_alone(server, x):
    answer = server.http.post("/v2/repository/models/broken/load")
    assert (answer.status_code, answer.json()) == (400, {"error": "the weights are damaged"})
    index = {entry["name"]: entry["reason"] for entry in server.http.post("/v2/repository/index").json()}
    assert index["broken"] == "the weights are damaged"
    answer = server.infer(x, model="broken")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert server.http.post("/v2/repository/models/defect/load").status_code == 500
    assert server.http.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, "all"])
def test_a_load_of_something_else_than_the_repository_holds_is_refused(server, parameters):
    answer = server.http.post("/v2/repository/models/echo/load", json={"parameters": parameters})
    assert answer.status_code == 400


def test_a_model_whose_health_check_breaks_makes_the_server_unready_and_no_error(server):
    assert server.http.post("/v2/repository/models/sick/load").status_code == 200
    assert server.http.get("/v2/health/ready").json() == {"ready": False}
    assert server.http.get("/v2/models/sick/ready").status_code == 503
    assert not server.rpc("ServerReady").ready
    assert server.http.post("/v2/repository/models/sick/unload").status_code == 200
    assert server.http.get("/v2/health/ready").json() == {"ready": True}


def test_v1_predicts_and_tells_its_models(server):
    assert server.http.get("/v1/models").json() == {"models": ["echo"]}
    assert server.http.get("/v1/models/echo").json() == {"name": "echo", "ready": True}
    answer = server.http.post("/v1/models/echo:predict", json={"instances": [1.5, 2.5]})
    assert answer.json() == {"predictions": [{"x": 1.5}, {"x": 2.5}]}
    answer = server.http.post("/v1/models/echo:predict", json={"instances": "x"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_a_body_of_raw_data_is_the_first_input_and_the_outputs_are_binary(server):
    answer = server.http.post(INFER, content=b"\0\0\x80?", headers={"inference-header-content-length": "0"})
    length = int(answer.headers["inference-header-content-length"])
    assert orjson.loads(answer.content[:length])["outputs"][0]["shape"] == [1]
    assert answer.content[length:] == b"\0\0\x80?"


def test_outputs_that_are_no_text_are_refused_as_json(server):
    answer = server.infer_binary(("b", "BYTES", [1], b"\1\0\0\0\xff"))
    assert (answer.status_code, "ask for it as binary data" in answer.json()["error"]) == (400, True)


def test_a_large_answer_is_compressed_for_those_who_read_it(server):
    wide = {"name": "x", "datatype": "FP32", "shape": [5000], "data": [1.0] * 5000}
    answer = server.http.post(INFER, json={"inputs": [wide]}, headers={"accept-encoding": "gzip"})
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "accept-encoding")
    assert answer.json()["outputs"][0]["data"] == wide["data"]
    answer = server.http.post(INFER, json={"inputs": [wide]}, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers


def test_compressed_binary_requests_count_their_json_uncompressed(server):
    head = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}
    ).encode()
    headers = {"content-encoding": "gzip", "inference-header-content-length": str(len(head))}
    answer = server.http.post(INFER, content=gzip.compress(head + b"\0\0\x80?"), headers=headers)
    assert answer.json()["outputs"][0]["data"] == [1.0]


@pytest.mark.parametrize("request_id", ["", "x" * 129, "ü", "tab\tbed"])
def test_a_request_id_that_can_not_be_logged_is_replaced(server, x, request_id):
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    headers = {"x-request-id": request_id.encode("latin-1")}
    connection.request("POST", INFER, json.dumps({"inputs": [x]}), headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert len(answer.headers["x-request-id"]) == 32
    connection.close()


def test_a_request_id_can_not_bring_a_header_of_its_own(server):
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.sendall(
            b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-request-id: a\rset-cookie: b\r\nconnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"set-cookie" not in answer.lower()


def test_trace_headers_travel_with_the_request_unless_they_could_not_travel_on(server, x):
    headers = [("traceparent", "00-1-2-01"), ("b3", "ü".encode("latin-1")), ("tracestate", "v=" + "x" * 600)]
    answer = server.http.post(INFER, json={"inputs": [x]}, headers=headers)
    assert answer.json()["parameters"]["trace"] == "traceparent=00-1-2-01"


def test_two_requests_on_one_connection_after_a_413_are_both_answered(server, x):
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    connection.request("POST", INFER, bytes((16 << 20) + 1))
    answer = connection.getresponse()
    assert (answer.status, bool(answer.read())) == (413, True)
    connection.request("POST", INFER, json.dumps({"inputs": [x]}))
    assert connection.getresponse().status == 200
    connection.close()


def test_deep_json_is_refused(server):
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (
        deep,
        b'{"inputs":' + deep + b"}",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 900 + b"]" * 900 + b"}]}",
    ):
        answer = server.http.post(INFER, content=body)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_an_empty_tensor_comes_back_empty(server):
    answer = server.infer({"name": "x", "datatype": "FP32", "shape": [0, 4], "data": []})
    assert answer.json()["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [0, 4], "data": []}]
    answer = server.infer_binary(("x", "FP32", [0], b""), parameters={"binary_data_output": True})
    assert orjson.loads(answer.content)["outputs"][0]["parameters"] == {"binary_data_size": 0}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PARTS = ["name", "datatype", "shape", "data", "parameters"]
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | VALUES,
        "datatype": st.sampled_from(["FP32", "BYTES", "BOOL"]) | VALUES,
        "shape": st.just([1]) | VALUES,
        "data": st.just([1]) | VALUES,
        "parameters": VALUES,
    },
)
DOCUMENT = st.fixed_dictionaries(
    {}, optional={"inputs": st.lists(INPUT, max_size=2) | VALUES, "outputs": VALUES, "parameters": VALUES, "id": VALUES}
)
BODY = st.binary(max_size=100) | (DOCUMENT | VALUES).map(lambda value: json.dumps(value).encode())


@settings(max_examples=150)
@given(BODY, st.binary(max_size=10), st.none() | st.integers(-1, 120), st.sampled_from(["identity", "gzip", "deflate"]))
def test_no_body_is_answered_with_a_5xx(server, body, binary, header_length, encoding):
    headers = {"content-encoding": encoding}
    if header_length is not None:
        headers["inference-header-content-length"] = str(header_length)
    answer = server.http.post(INFER, content=body + binary, headers=headers)
    assert answer.status_code in {200, 400}, answer.text
    assert answer.status_code == 200 or list(answer.json()) == ["error"]
    answer = server.http.post("/v1/models/echo:predict", content=body)
    assert answer.status_code in {200, 400}, answer.text
