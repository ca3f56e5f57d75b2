"""MindSpore's checkpoints of MindYOLO networks: read, and built as ONNX from their YAML."""

import hashlib
from pathlib import Path

from onnx import ModelProto

from weights_sync.errors import SourceError, UnsupportedModelError
from weights_sync.mindspore.build import build
from weights_sync.mindspore.checkpoint import read_checkpoint
from weights_sync.mindspore.config import read_config
from weights_sync.mindspore.parameters import find_parameters
from weights_sync.prepare.checks import MAX_BYTES, check_size, damage_named
from weights_sync.sidecar import beside

__all__ = ["read_network"]


def read_network(checkpoint: Path, config: Path | None = None, max_bytes: int = MAX_BYTES) -> tuple[ModelProto, str]:
    """Return the network of a checkpoint and its YAML, and the sha256 (hex) of both files' bytes.

    Without a `config` it is the YAML of the same name beside the checkpoint.
    """
    try:
        check_size(checkpoint.stat().st_size, max_bytes)
        data = checkpoint.read_bytes()
    except OSError as error:
        raise SourceError(f"can not read {checkpoint.name}: {error.strerror}") from error
    tensors = read_checkpoint(data)
    parameters = find_parameters(tensors)
    config = config or beside(checkpoint)
    if config is None:
        raise UnsupportedModelError(
            f"a checkpoint holds no network: say with --config which YAML {checkpoint.name} has"
        )
    described, text = read_config(config)
    digest = hashlib.sha256(data)
    digest.update(text)
    with damage_named():
        return build(described, parameters), digest.hexdigest()
