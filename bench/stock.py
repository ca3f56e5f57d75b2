"""KServe's stock servers doing nothing, for comparison: `python stock.py transformer|predictor --http_port …`.

The transformer answers a JPEG with the predictor's answer to a blank 640x640x3 tensor, sent the fastest way the SDK has
(gRPC, raw bytes); the predictor answers with 1000 constant candidates. Logs are off, which the SDK is faster with.
"""

from __future__ import annotations

import sys

import kserve
import numpy as np
from hollow import candidates
from kserve import InferInput, InferOutput, InferRequest, InferResponse

SIDE = 640
DATATYPES = {"boxes": "FP32", "scores": "FP32", "class_ids": "INT32"}


class Transformer(kserve.Model):
    """Sends a blank tensor on, whatever comes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.canvas = np.zeros((1, SIDE, SIDE, 3), np.uint8)
        self.ready = True

    async def preprocess(self, payload: InferRequest, headers: object = None) -> InferRequest:
        """Return the predictor's request."""
        del payload, headers
        images = InferInput("images", list(self.canvas.shape), "UINT8")
        images.set_data_from_numpy(self.canvas, binary_data=True)
        return InferRequest(model_name=self.name, infer_inputs=[images])


class Predictor(kserve.Model):
    """Answers with constants."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.outputs = candidates(1000, 50, SIDE)
        self.ready = True

    async def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:
        """Return the candidates."""
        del headers
        payload.inputs[0].as_numpy()
        outputs = []
        for name, array in self.outputs.items():
            output = InferOutput(name, list(array.shape), DATATYPES[name])
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return InferResponse("1", self.name, outputs)


if __name__ == "__main__":
    kind = {"transformer": Transformer, "predictor": Predictor}[sys.argv[1]]
    kserve.ModelServer(enable_latency_logging=False).start([kind("hollow")])
