"""The model before a predictor whose weights change while it runs."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from servekit import errors
from servekit.tensors import Tensor, bytes_array

CATS = ("cat", "dog", "person")


@pytest.fixture
def change(predictor):
    """Gives the predictor other weights, as a load there would."""

    def give(**changes) -> None:
        orders = predictor.orders
        orders.weights = replace(orders.weights, **{"digest": "sha256:second", "version": "2", **changes})

    return give


def labels_of(answer) -> list[bytes]:
    return answer["labels"][0].tolist()


async def test_the_very_answer_of_new_weights_has_their_labels(change, transformer, grey) -> None:
    assert labels_of(await transformer.detect(grey())) == [b"person", b"traffic light"]
    change(labels=CATS)
    assert labels_of(await transformer.detect(grey())) == [b"cat", b"person"]


async def test_new_weights_are_in_the_metadata_and_the_version_of_the_next_answers(change, transformer, grey) -> None:
    change(labels=CATS)
    response = (await transformer.v2(grey())).json()
    assert response["model_version"] == "2"
    metadata = (await transformer.http.get("/v2/models/toy")).json()
    assert metadata["versions"] == ["2"]
    assert metadata["properties"]["model.digest"] == "sha256:second"
    assert (await transformer.http.get("/v2/models/toy/versions/1")).status_code == 404


async def test_class_names_are_those_of_the_weights_that_answered(change, transformer, grey) -> None:
    change(labels=CATS)
    # Of the first weights "person" was class 0, of the new ones it is class 2.
    assert labels_of(await transformer.detect(grey(), classes="person")) == [b"person"]
    change(digest="sha256:third", labels=("fish", "bird", "tree"))
    refusal = await transformer.refusal(grey(), classes="person")
    assert (refusal.code().name, "no class 'person'" in refusal.details()) == ("INVALID_ARGUMENT", True)


async def test_the_card_is_read_again_once_whatever_number_of_answers_tell_of_new_weights(
    change, predictor, transformer, grey
) -> None:
    change(labels=CATS)
    predictor.orders.card_reads = 0
    answers = await asyncio.gather(*(transformer.detect(grey()) for _ in range(12)))
    assert all(labels_of(answer) == [b"cat", b"person"] for answer in answers)
    await transformer.detect(grey())
    assert predictor.orders.card_reads == 1


async def test_suppression_is_that_of_the_weights_that_answered(change, transformer, grey) -> None:
    change(nms=False)
    assert (await transformer.detect(grey()))["num_detections"].tolist() == [3]


@pytest.mark.parametrize("protocol", ["grpc", "v1", "people"])
async def test_new_weights_of_another_size_answer_the_very_request_that_met_them(
    protocol, change, predictor, transformer, grey
) -> None:
    await transformer.detect(grey())
    change(height=96, width=128)
    picture = grey(9, 96, 128)
    if protocol == "grpc":
        boxes = (await transformer.detect(picture))["boxes"][0, 0]
    else:
        request = (
            transformer.v1((picture, {}))
            if protocol == "v1"
            else transformer.http.post("/inference/detect", content=picture)
        )
        boxes = (await request).json()["predictions"][0]["detections"][0]["box"]
    np.testing.assert_allclose(boxes, [8, 8, 40, 40])
    # The old size, which it did not take, and the new one, once.
    assert [seen.images.shape for seen in predictor.orders.seen[1:]] == [(1, 64, 64, 3), (1, 96, 128, 3)]
    await transformer.detect(picture)
    assert predictor.orders.seen[-1].images.shape == (1, 96, 128, 3)
    assert len(predictor.orders.seen) == 4


async def test_requests_at_once_all_survive_a_change_of_size(change, transformer, grey) -> None:
    change(height=32, width=32)
    answers = await asyncio.gather(*(transformer.detect(grey(9, 32, 32)) for _ in range(12)))
    for answer in answers:
        np.testing.assert_allclose(answer["boxes"][0, 0], [8, 8, 32, 32])


async def test_a_refusal_of_the_same_weights_is_the_clients(predictor, transformer, grey) -> None:
    predictor.orders.failing = errors.InvalidRequest("a batch of 1 is too large here")
    response = await transformer.v2(grey())
    assert (response.status_code, response.json()["error"]) == (400, "a batch of 1 is too large here")
    assert len(predictor.orders.seen) == 1


async def test_a_refusal_of_other_weights_too_is_passed_on_after_one_more_attempt(
    change, predictor, transformer, grey
) -> None:
    change()
    predictor.orders.failing = errors.InvalidRequest("no")
    assert (await transformer.v2(grey())).status_code == 400
    assert len(predictor.orders.seen) == 2


async def test_weights_of_any_size_answer_the_size_that_was_sent_masks_included(
    change, predictor, transformer, toy, grey
) -> None:
    change(height=128, width=256, dynamic=True, task="segment")
    predictor.orders.answer = toy.canned_with_masks
    (prediction,) = (await transformer.v1((grey(), {"classes": "person"}))).json()["predictions"]
    (found,) = prediction["detections"]
    assert found["box"] == [8, 8, 40, 40]
    assert max(found["mask"][0][0::2]) == pytest.approx(32, abs=1)
    await transformer.detect(grey())
    assert [seen.images.shape for seen in predictor.orders.seen] == [(1, 64, 64, 3), (1, 128, 256, 3)]


async def test_replicas_with_different_weights_are_each_answered_with_their_own_labels(
    start_predictor, start_transformer, grey
) -> None:
    first, second = await start_predictor(), await start_predictor()
    weights = second.orders.weights
    weights.digest, weights.labels = "sha256:second", CATS
    transformer = await start_transformer(f"ipv4:{first.host},{second.host}")
    answered = 0
    async with asyncio.timeout(20):
        while not (first.orders.seen and second.orders.seen) or answered < 20:
            before = len(first.orders.seen)
            response = await transformer.v1((grey(), {}))
            assert response.status_code in {200, 503}
            if response.status_code == 200:
                answered += 1
                found = response.json()["predictions"][0]["detections"][0]["label"]
                assert found == ("person" if len(first.orders.seen) > before else "cat")


async def test_without_the_card_of_the_weights_that_answered_no_labels_are_guessed(
    predictor, transformer, grey
) -> None:
    predictor.orders.digest = "sha256:gone"
    response = await transformer.v2(grey())
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"] == "the predictor's weights are being changed: try again in a moment"
    predictor.orders.digest = ""
    assert (await transformer.v2(grey())).status_code == 200


async def test_the_interface_is_the_one_of_pictures_and_the_properties_are_the_card(predictor, transformer) -> None:
    metadata = (await transformer.http.get("/v2/models/toy")).json()
    assert metadata["platform"] == "yolo-kserve_transformer"
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]
    assert [output["name"] for output in metadata["outputs"]] == [
        "num_detections",
        "boxes",
        "scores",
        "class_ids",
        "labels",
        "annotated_image",
    ]
    assert metadata["properties"] == predictor.orders.weights.properties


async def test_every_described_output_is_what_an_answer_holds(predictor, start_transformer, toy, grey) -> None:
    predictor.orders.weights.task = "segment"
    predictor.orders.answer = toy.canned_with_masks
    transformer = await start_transformer(predictor.host)
    described = (await transformer.http.get("/v2/models/toy")).json()["outputs"]
    response = await transformer.infer(Tensor("image", bytes_array([grey()])), return_image=True)
    answered = {tensor.name: (tensor.datatype, len(tensor.shape)) for tensor in response.outputs}
    assert {output["name"]: (output["datatype"], len(output["shape"])) for output in described} == answered


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [{"image": {"b64": 7}}]}, 'instance 1 needs an "image": {"b64": "…"}'),
        ({"instances": [{}]}, 'instance 1 needs an "image"'),
        ({"instances": [{"image": "AAAA"}, {"image": {"b64": "A"}}]}, "instance 2: its image is no base64"),
        ({"instances": [{"image": "AAAA", "classes": [1]}]}, "instance 1: options must be texts, numbers or booleans"),
        ({"instances": [{"image": "AAAA", "classes": None}]}, "instance 1: options must be texts"),
    ],
)
async def test_an_instance_that_can_not_be_read_is_named(body, words, transformer) -> None:
    response = await transformer.http.post("/v1/models/toy:predict", json=body)
    assert response.status_code == 400
    assert words in response.json()["error"]


async def test_more_waiting_requests_than_allowed_are_told_to_come_again(
    predictor, start_transformer, toy, grey
) -> None:
    transformer = await start_transformer(predictor.host, workers=1, max_waiting=1)
    busy = threading.Event()
    occupied = asyncio.create_task(transformer.executor.run(busy.wait))
    waiting = asyncio.create_task(transformer.v2(grey()))
    await toy.until(lambda: transformer.executor.waiting == 1)
    refused = await transformer.v2(grey())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (await transformer.refusal(grey())).code().name == "RESOURCE_EXHAUSTED"
    busy.set()
    await occupied
    assert (await waiting).status_code == 200
    assert (await transformer.v2(grey())).status_code == 200
