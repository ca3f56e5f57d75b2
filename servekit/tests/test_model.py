from __future__ import annotations

import numpy as np
import pytest

from servekit.errors import InvalidRequest
from servekit.inference import InferenceRequest, InferenceResponse, RequestContext
from servekit.model import ModelMetadata, ServedModel, TensorSpec
from servekit.tensors import Tensor, bytes_array


class Doubler(ServedModel):
    metadata = ModelMetadata("test", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))

    async def preprocess(self, request, _headers=None):
        return request.input("x")

    async def predict(self, array, _headers=None, _response_headers=None):
        return 2 * array

    async def postprocess(self, array, _headers=None, _response_headers=None):
        return InferenceResponse(self.name, (Tensor("y", array),))


async def test_the_three_stages_follow_each_other_and_are_timed():
    context = RequestContext()
    request = InferenceRequest("m", (Tensor("x", np.ones((1, 2), "<f4")),), context)
    response = await Doubler("m").infer(request)
    assert response.outputs[0].array.tolist() == [[2.0, 2.0]]
    assert set(context.durations_ns) == {"preprocess", "compute", "postprocess"}
    through_the_sdk, headers = await Doubler("m")(request)
    assert through_the_sdk.outputs[0].array.tolist() == [[2.0, 2.0]]
    assert headers == {}


def test_the_sdk_gets_the_tensors_it_asks_for():
    assert Doubler("m").get_input_types() == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert Doubler("m").get_output_types() == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]


def test_v1_instances_are_the_batch_of_the_only_input():
    request = Doubler("m").request_from_v1({"instances": [[1, 2], [3, 4], [5, 6]]}, RequestContext())
    assert request.input("x").tolist() == [[1, 2], [3, 4], [5, 6]]
    assert request.input("y") is None


@pytest.mark.parametrize(
    "body",
    [{}, {"instances": []}, {"instances": {}}, {"instances": [[1], [2, 3]]}, {"instances": [{"b64": ""}]}],
)
def test_v1_instances_that_are_no_tensor_are_refused(body):
    with pytest.raises(InvalidRequest):
        Doubler("m").request_from_v1(body, RequestContext())


def test_v1_predictions_are_rows_and_bytes_among_them_are_texts_or_base64():
    outputs = (
        Tensor("y", np.array([[1, 2], [3, 4]], "<f4")),
        Tensor("label", bytes_array([b"cat", b"\xff"])),
        Tensor("masks", bytes_array([b"a", b"b"]).reshape(2, 1)),
    )
    assert Doubler("m").response_to_v1(InferenceResponse("m", outputs)) == {
        "predictions": [
            {"y": [1.0, 2.0], "label": "cat", "masks": ["a"]},
            {"y": [3.0, 4.0], "label": {"b64": "/w=="}, "masks": ["b"]},
        ]
    }
    assert Doubler("m").response_to_v1(InferenceResponse("m", ())) == {"predictions": []}
