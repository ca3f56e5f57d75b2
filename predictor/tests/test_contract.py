"""The predictor's half of the contract with the transformer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from servekit.executor import BoundedExecutor
from servekit.inference import RequestContext
from servekit.rpc.codec import decode_request, decode_response
from yolo_predictor.model import Limits, PredictorModel
from yolo_predictor.session import Session, SessionOptions

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "contract"


@pytest.fixture
def model(hollow):
    executor = BoundedExecutor("test", 1, 4)
    graph = hollow.hollow_graph(8, 3, 32, "sha256:contract")
    yield PredictorModel("contract", "1", Session(graph, SessionOptions("cpu", 1)), executor, Limits())
    executor.close()


async def test_the_golden_request_gets_the_golden_response(model) -> None:
    request = decode_request((CONTRACT / "request.binpb").read_bytes(), RequestContext())
    answer = await model.infer(request)
    golden = decode_response((CONTRACT / "response.binpb").read_bytes())
    assert [tensor.name for tensor in answer.outputs] == [tensor.name for tensor in golden.outputs]
    for mine, theirs in zip(answer.outputs, golden.outputs, strict=True):
        assert mine.datatype == theirs.datatype
        np.testing.assert_array_equal(mine.array, theirs.array)
    assert answer.parameters.keys() == golden.parameters.keys()
    assert answer.parameters["model.digest"] == golden.parameters["model.digest"]


def test_the_metadata_is_the_golden_one(model) -> None:
    golden = json.loads((CONTRACT / "metadata.json").read_text())
    assert dict(model.metadata.properties) == golden["properties"]
    assert model.metadata.platform == golden["platform"]
    assert [output["datatype"] for output in model.get_output_types()] == [o["datatype"] for o in golden["outputs"]]
