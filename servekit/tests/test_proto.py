from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from kserve.protocol.grpc import grpc_predict_v2_pb2

from servekit.rpc.messages import POOL, SERVICE

_FOLDER = Path(str(files("servekit.rpc")))
# KServe's SDK numbers these otherwise than Triton; the service reads both.
_RENUMBERED = {("RepositoryModelLoadRequest", "model_name"), ("RepositoryModelUnloadRequest", "model_name")}


def test_the_committed_descriptors_are_those_of_the_proto(tmp_path):
    compiled = tmp_path / "compiled.binpb"
    code = protoc.main(["protoc", f"-I{_FOLDER}", f"--descriptor_set_out={compiled}", "open_inference.proto"])
    assert code == 0
    committed = (_FOLDER / "open_inference.binpb").read_bytes()
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(committed) == read(compiled.read_bytes())


def _messages(message):
    yield message
    for nested in message.nested_types:
        yield from _messages(nested)


KSERVES = [m for top in grpc_predict_v2_pb2.DESCRIPTOR.message_types_by_name.values() for m in _messages(top)]


@pytest.mark.parametrize("message", KSERVES, ids=lambda message: message.full_name)
def test_every_field_of_kserves_own_messages_is_here_with_its_number_and_type(message):
    ours = POOL.FindMessageTypeByName(message.full_name)
    for field in message.fields:
        if (message.name, field.name) in _RENUMBERED:
            assert ours.fields_by_number[field.number].type == field.type  # so its name arrives in that field
            continue
        assert ours.fields_by_name[field.name].number == field.number, field.full_name
        assert ours.fields_by_name[field.name].type == field.type, field.full_name


def test_every_call_of_kserves_own_service_is_here():
    (kserves,) = grpc_predict_v2_pb2.DESCRIPTOR.services_by_name.values()
    ours = POOL.FindServiceByName(SERVICE)
    assert kserves.full_name == SERVICE
    for method in kserves.methods:
        same = ours.methods_by_name[method.name]
        assert (same.input_type.full_name, same.output_type.full_name) == (
            method.input_type.full_name,
            method.output_type.full_name,
        )
