"""Writes the golden files of what the transformer sends and what the predictor answers, beside itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.rpc.codec import encode_request, encode_response
from servekit.rpc.messages import ModelInferResponse
from servekit.tensors import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "bench"))

from hollow import candidates, card  # noqa: E402 (its folder is no package)

MODEL, SIDE, COUNT, OBJECTS, DIGEST = "contract", 32, 8, 3, "sha256:contract"


def picture() -> np.ndarray:
    """Return the picture, (32, 32, 3) uint8, RGB: red rises to the right, green downwards, blue is 7."""
    image = np.full((SIDE, SIDE, 3), 7, np.uint8)
    image[..., 0] = np.arange(SIDE) * 8
    image[..., 1] = (np.arange(SIDE) * 8)[:, None]
    return image


def main() -> None:
    """Write the files."""
    request = InferenceRequest(MODEL, (Tensor("images", picture()[None]),), RequestContext())
    (HERE / "request.binpb").write_bytes(encode_request(request))
    outputs = candidates(COUNT, OBJECTS, SIDE)
    response = InferenceResponse(
        MODEL,
        tuple(Tensor(name, array) for name, array in outputs.items()),
        model_version="1",
        parameters={"model.digest": DIGEST, "queue_us": 100, "compute_us": 2000},
    )
    # A protobuf map has no order of its own: without being asked, each process writes it in another one.
    message = ModelInferResponse.FromString(encode_response(response))
    (HERE / "response.binpb").write_bytes(message.SerializeToString(deterministic=True))
    metadata = {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}],
        "outputs": [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape[1:]]}
            for tensor in response.outputs
        ],
        "properties": {**card(SIDE, DIGEST), "model.version": "1"},
    }
    (HERE / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


if __name__ == "__main__":
    main()
