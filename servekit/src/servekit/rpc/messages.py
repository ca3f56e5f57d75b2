"""The service's message classes, in a descriptor pool of their own.

KServe's SDK registers a narrower version of the same messages (no `properties`, no statistics, no index) in
protobuf's default pool, where a second definition of a name is refused.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    compiled = descriptor_pb2.FileDescriptorSet.FromString((files(__package__) / "open_inference.binpb").read_bytes())
    for file in compiled.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Final = _load_pool()


def message_class(name: str) -> Any:
    """Return the class of the message called `name`, as in open_inference.proto."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


ModelInferRequest: Final = message_class("ModelInferRequest")
ModelInferResponse: Final = message_class("ModelInferResponse")
