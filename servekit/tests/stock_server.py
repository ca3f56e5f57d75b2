"""KServe's own server with a toy model, for the tests: `python stock_server.py HTTP_PORT GRPC_PORT`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import kserve


class Echo(kserve.Model):
    def __init__(self) -> None:
        super().__init__("echo")
        self.ready = True

    def predict(self, payload, _headers=None, _response_headers=None):  # not async, as most users write it
        if isinstance(payload, dict):
            return payload
        first = payload.inputs[0]
        if first.name == "until":
            end = Path(first.data[0])
            end.with_suffix(".begun").touch()
            while not end.exists():
                time.sleep(0.01)
        if first.name == "fail":
            raise RuntimeError("/secret/path exploded")
        if first.name == "not_ready":
            raise kserve.errors.ModelNotReady("echo")
        output = kserve.InferOutput(first.name, first.shape, first.datatype)
        output.set_data_from_numpy(first.as_numpy(), binary_data=False)
        return kserve.InferResponse(payload.id or "none", "echo", [output])


class Echoes(kserve.ModelRepository):
    def load(self, name):  # noqa: ARG002 (the SDK's signature)
        self.update(Echo())
        return True


if __name__ == "__main__":
    http_port, grpc_port = (int(text) for text in sys.argv[1:3])
    kserve.ModelServer(http_port=http_port, grpc_port=grpc_port, registered_models=Echoes()).start([Echo()])
