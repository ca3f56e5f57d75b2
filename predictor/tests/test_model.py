"""The predictor's model: what it takes, what it answers, what it refuses."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from servekit.errors import InvalidRequest, Overloaded, TooLarge
from servekit.executor import BoundedExecutor
from servekit.inference import InferenceRequest, RequestContext
from servekit.tensors import Tensor
from yolo_predictor.model import Limits, PredictorModel, check_images
from yolo_predictor.session import Session, SessionOptions

FREE = (-1, -1, -1, 3)


@pytest.fixture
def model(graph):
    executor = BoundedExecutor("test", 2, 4)
    yield PredictorModel("m", "7", Session(graph, SessionOptions("cpu", 1)), executor, Limits())
    executor.close()


def request_of(array: np.ndarray, name: str = "images") -> InferenceRequest:
    return InferenceRequest("m", (Tensor(name, array),), RequestContext())


async def test_candidates_come_back_with_the_digest_and_the_times(model, hollow) -> None:
    response = await model.infer(request_of(np.zeros((1, 32, 32, 3), np.uint8)))
    outputs = {tensor.name: tensor.array for tensor in response.outputs}
    for name, expected in hollow.candidates(8, 3, 32).items():
        np.testing.assert_array_equal(outputs[name], expected)
    assert response.parameters["model.digest"] == "sha256:hollow"
    assert response.parameters["compute_us"] > 0


async def test_a_graph_of_batch_one_answers_larger_batches_picture_by_picture(model) -> None:
    response = await model.infer(request_of(np.zeros((3, 32, 32, 3), np.uint8)))
    assert [tensor.array.shape[0] for tensor in response.outputs] == [3, 3, 3]


def test_metadata_is_the_graphs_with_its_card_as_properties(model) -> None:
    assert model.get_input_types() == [{"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3]}]
    assert [output["datatype"] for output in model.get_output_types()] == ["FP32", "FP32", "INT32"]
    assert model.metadata.properties["yolo.task"] == "detect"
    assert model.metadata.properties["model.version"] == "7"


async def test_an_input_of_another_name_is_refused(model) -> None:
    with pytest.raises(InvalidRequest, match="takes one input, 'images'"):
        await model.infer(request_of(np.zeros((1, 32, 32, 3), np.uint8), name="image"))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected", "message"),
    [
        ((1, 32, 32, 3), np.float32, FREE, "must be UINT8"),
        ((32, 32, 3), np.uint8, FREE, "the model takes"),
        ((1, 32, 32, 4), np.uint8, FREE, "the model takes"),
        ((0, 32, 32, 3), np.uint8, FREE, "the model takes"),
        ((1, 64, 32, 3), np.uint8, (1, 32, 32, 3), "the model takes"),
        ((1, 33, 32, 3), np.uint8, FREE, "multiples of 32"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(shape, dtype, expected, message) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_images(np.zeros(shape, dtype), expected, 32, Limits())


@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (1, 64, 64, 3)])
def test_a_tensor_over_a_limit_is_too_large(shape) -> None:
    with pytest.raises(TooLarge):
        check_images(np.zeros(shape, np.uint8), FREE, 32, Limits(max_batch=4, max_pixels=2048))


async def test_requests_beyond_the_queue_are_refused_and_the_accepted_ones_answered(graph) -> None:
    executor = BoundedExecutor("test", 1, 2)
    model = PredictorModel("m", "1", Session(graph, SessionOptions("cpu", 1)), executor, Limits())
    gate = threading.Event()
    held = asyncio.create_task(executor.run(gate.wait))
    await asyncio.sleep(0)
    requests = [asyncio.create_task(model.infer(request_of(np.zeros((1, 32, 32, 3), np.uint8)))) for _ in range(8)]
    answers = asyncio.as_completed(requests)
    # The one thread is held and two may wait; the others hear so at once.
    for _ in range(6):
        with pytest.raises(Overloaded):
            await next(answers)
    gate.set()
    for _ in range(2):
        assert (await next(answers)).outputs
    await held
    executor.close()
