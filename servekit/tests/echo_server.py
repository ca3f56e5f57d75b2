"""A server of toy models, for the tests: `python echo_server.py HTTP_PORT GRPC_PORT [OPTIONS_AS_JSON]`.

Model `echo` returns its inputs; inputs with these names do something first:
`delay_s` computes that long in the executor, `until` till there is a file of that name, `fail` raises a defect,
`error` raises the class of that name, `loop` is answered with the event loop's module, `late` raises the
interpreter's own TimeoutError.
With the option `gate`, models load once there is a file of that name.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import orjson

import servekit.errors
from servekit import flags
from servekit.executor import BoundedExecutor
from servekit.flags import ServerOptions
from servekit.inference import InferenceRequest, InferenceResponse
from servekit.model import ModelMetadata, ServedModel, TensorSpec
from servekit.repository import Repository
from servekit.server import Server, StartupFailed, exit_with
from servekit.tensors import Tensor, bytes_array


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def burn_until(end: Path) -> None:
    end.with_suffix(".begun").touch()
    while not end.exists():
        burn(0.01)


class Echo(ServedModel):
    def __init__(self, name: str, executor: BoundedExecutor, load: int) -> None:
        super().__init__(name, "3")
        self.executor = executor
        self.load_number = load

    @property
    def metadata(self) -> ModelMetadata:
        spec = TensorSpec("x", "FP32", (-1,))
        text = TensorSpec("text", "BYTES", (-1,))
        properties = {"yolo.task": "none", "load": str(self.load_number)}
        return ModelMetadata("echo_test", (spec, text), (spec, text), properties)

    async def predict(self, request: InferenceRequest, _headers=None, _response_headers=None) -> InferenceResponse:
        arrays = {tensor.name: tensor.array for tensor in request.inputs}
        if "fail" in arrays:
            raise RuntimeError("/secret/path exploded")
        if "late" in arrays:
            raise TimeoutError("/secret/path was slow")
        if "error" in arrays:
            raise getattr(servekit.errors, arrays["error"].flat[0].decode())("as asked")
        if "loop" in arrays:
            loop = f"{type(asyncio.get_running_loop()).__module__}".encode()
            return InferenceResponse(self.name, (Tensor("loop", bytes_array([loop])),))
        if "delay_s" in arrays:
            completed = await self.executor.run(burn, float(arrays["delay_s"].flat[0]))
            request.context.durations_ns.update(queue=completed.queued_ns, compute=completed.ran_ns)
        if "until" in arrays:
            await self.executor.run(burn_until, Path(arrays["until"].flat[0].decode()))
        view = all(not array.flags.owndata and not array.flags.writeable for array in arrays.values())
        trace = " ".join(f"{name}={value}" for name, value in request.context.trace)
        told = {"views": view, "waiting": self.executor.waiting, "trace": trace}
        return InferenceResponse(self.name, request.inputs, parameters={**told, **request.parameters})


class Sick(Echo):
    async def healthy(self) -> bool:
        raise ConnectionError("/secret/path is gone")


class Echoes(Repository):
    def __init__(self, gate: Path | None, waiting: int) -> None:
        super().__init__()
        self.gate = gate
        self.loads = 0
        self.executor = BoundedExecutor("echo", 1, waiting)

    def available(self) -> list[str]:
        return ["broken", "defect", "echo", "second", "sick"]

    async def open(self, name: str) -> Echo:
        self.loads += 1
        while self.gate and not self.gate.exists():  # noqa: ASYNC110 (a file tells nobody)
            await asyncio.sleep(0.05)
        if name not in self.available():
            raise servekit.errors.NotFound(f"there is no model '{name}' to load")
        if name == "broken":
            raise servekit.errors.InvalidRequest("the weights are damaged")
        if name == "defect":
            raise RuntimeError("/secret/path exploded")
        return (Sick if name == "sick" else Echo)(name, self.executor, self.loads)


def main() -> None:
    http_port, grpc_port = sys.argv[1:3]
    given = orjson.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    gate = given.pop("gate", None)
    repository = Echoes(gate and Path(gate), given.pop("waiting", 4))
    arguments = [f"--{name}={value}" for name, value in given.items()]
    arguments += [f"--http_port={http_port}", f"--grpc_port={grpc_port}", "--host=127.0.0.1"]
    options = ServerOptions.from_arguments(flags.parser("echo", "", 8080, 8081).parse_args(arguments))
    server = Server("echo", repository, options)
    try:
        server.serve(partial(repository.load, "echo"))
    except StartupFailed as error:
        exit_with(error)


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
