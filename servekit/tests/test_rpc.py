from __future__ import annotations

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2, grpc_predict_v2_pb2_grpc

from servekit.rpc.messages import ModelInferRequest, message_class

X = {"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}


def test_metadata_tells_what_rest_tells_properties_included(server):
    over_rest = server.http.get("/v2/models/echo").json()
    over_grpc = server.rpc("ModelMetadata", name="echo")
    assert dict(over_grpc.properties) == over_rest["properties"]
    assert (over_grpc.platform, list(over_grpc.versions)) == ("echo_test", ["3"])
    assert [(t.name, t.datatype, list(t.shape)) for t in over_grpc.inputs] == [
        (t["name"], t["datatype"], t["shape"]) for t in over_rest["inputs"]
    ]
    assert list(server.rpc("ServerMetadata").extensions) == server.http.get("/v2").json()["extensions"]


def test_configuration_and_statistics_tell_what_rest_tells(server):
    configuration = server.rpc("ModelConfig", name="echo", version="3").config
    assert (configuration.name, configuration.platform) == ("echo", "echo_test")
    assert [(i.name, i.data_type, list(i.dims)) for i in configuration.input] == [("x", 11, [-1]), ("text", 13, [-1])]
    assert configuration.parameters["yolo.task"].string_value == "none"
    server.rpc("ModelInfer", model_name="echo", inputs=[X])
    (over_rest,) = server.http.get("/v2/models/echo/stats").json()["model_stats"]
    for fields in ({"name": "echo"}, {"name": "echo", "version": "3"}, {}, {"version": "9"}):
        (over_grpc,) = server.rpc("ModelStatistics", **fields).model_stats
        assert (over_grpc.name, over_grpc.version) == ("echo", "3")
        assert over_grpc.inference_count == over_rest["inference_count"] > 0
        assert over_grpc.inference_stats.success.ns == over_rest["inference_stats"]["success"]["ns"] > 0


def test_the_index_can_be_cut_to_the_ready(server):
    everything = {model.name: model.state for model in server.rpc("RepositoryIndex").models}
    assert {"echo": "READY", "sick": "UNAVAILABLE"}.items() <= everything.items()
    assert [model.name for model in server.rpc("RepositoryIndex", ready=True).models] == ["echo"]


@pytest.mark.parametrize("field", ["model_name", "repository_name"], ids=["Triton's numbering", "KServe's numbering"])
def test_a_model_is_loaded_and_unloaded_by_either_numbering(server, field):
    loaded = server.rpc("RepositoryModelLoad", **{field: "second"})
    assert (loaded.model_name, loaded.isLoaded) == ("second", True)
    assert server.rpc("ModelReady", name="second").ready
    unloaded = server.rpc("RepositoryModelUnload", **{field: "second"})
    assert (unloaded.model_name, unloaded.isUnloaded) == ("second", True)
    assert server.rpc_error("RepositoryModelUnload", **{field: "second"})[0] == grpc.StatusCode.NOT_FOUND
    assert server.rpc_error("RepositoryModelLoad", **{field: "nothing"})[0] == grpc.StatusCode.NOT_FOUND


def test_kserves_own_stub_works(server):
    stub = grpc_predict_v2_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    messages = grpc_predict_v2_pb2
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ModelMetadata(messages.ModelMetadataRequest(name="echo")).platform == "echo_test"
    request = messages.ModelInferRequest(model_name="echo", id="7", inputs=[X])
    answer = stub.ModelInfer(request)
    assert (answer.id, answer.model_version, answer.outputs[0].shape) == ("7", "3", [1])
    assert stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="second")).isLoaded
    assert stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="second")).isUnloaded


@pytest.mark.parametrize("call", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_a_call_that_names_no_model_is_invalid(server, call):
    assert server.rpc_error(call) == (grpc.StatusCode.INVALID_ARGUMENT, "the request names no model")


def test_a_load_of_something_else_than_the_repository_holds_is_refused(server):
    parameters = {"config": {"string_param": "{}"}}
    code, words = server.rpc_error("RepositoryModelLoad", model_name="echo", parameters=parameters)
    assert (code, "'config'" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("call", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_an_unknown_model_or_version_is_not_found(server, call):
    assert server.rpc_error(call, name="nothing")[0] == grpc.StatusCode.NOT_FOUND
    assert server.rpc_error(call, name="echo", version="9")[0] == grpc.StatusCode.NOT_FOUND


def test_a_call_that_there_is_not_is_unimplemented(server):
    method = server.channel.unary_unary("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=60)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_id_and_parameters_come_back_and_raw_outputs_are_raw(server):
    request = ModelInferRequest(model_name="echo", id="i" * 100_000, inputs=[{**X, "contents": None}])
    request.raw_input_contents.append(b"\0\0\x80?")
    answer = server.rpc("ModelInfer", request.SerializeToString())
    assert answer.id == request.id
    assert list(answer.raw_output_contents) == [b"\0\0\x80?"]
    assert answer.parameters["views"].bool_param


@settings(max_examples=100)
@given(
    st.sampled_from(["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"]),
    st.binary(max_size=60),
    st.binary(max_size=4),
)
def test_no_bytes_are_answered_with_a_defect(server, call, data, cut):
    valid = ModelInferRequest(model_name="echo", inputs=[X]).SerializeToString()
    for message in (data, valid + data, valid[: -len(cut) or None]):
        try:
            server.rpc(call, message)
        except grpc.RpcError as error:
            assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}, error  # noqa: PT017
        assert server.rpc("ServerLive").live


def test_a_connection_grown_old_is_given_up_between_calls_so_that_its_client_asks_for_addresses_again(start):
    server = start(max_connection_age=0.2)
    server.wait_ready()
    connections = []
    with server.open_channel() as channel:
        channel.subscribe(lambda state: connections.append(state is grpc.ChannelConnectivity.READY))
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        request = message_class("ModelInferRequest")(model_name="echo", inputs=[X]).SerializeToString()
        # Each call would raise if it went down with its connection.
        server.wait_until(lambda: bool(infer(request)) and sum(connections) >= 3)
