"""The answer: its tensors, its documents, and what the parameters make of the same candidates."""

from __future__ import annotations

import base64
import json
import struct

import cv2
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco

from servekit.tensors import Tensor, bytes_array

OUTPUTS = ["num_detections", "boxes", "scores", "class_ids", "labels"]


@pytest.fixture
async def segmenter(predictor, start_transformer, toy):
    """A transformer before a predictor whose answers have masks: the left half, for traffic lights the right one."""
    predictor.orders.weights.task = "segment"
    predictor.orders.answer = toy.canned_with_masks
    return await start_transformer(predictor.host)


def by_name(response) -> dict:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def pixels_of(answer: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_COLOR_RGB)


async def test_the_outputs_have_the_names_types_and_values_of_the_reference(transformer, grey) -> None:
    answer = await transformer.detect(grey())
    assert list(answer) == OUTPUTS
    assert [answer[name].dtype.str for name in OUTPUTS] == ["<i4", "<f4", "<f4", "<i4", "|O"]
    assert answer["num_detections"].tolist() == [2]
    np.testing.assert_allclose(answer["boxes"], [[[8, 8, 40, 40], [16, 24, 32, 56]]])
    np.testing.assert_allclose(answer["scores"], [[0.9, 0.5]])
    assert answer["class_ids"].tolist() == [[0, 2]]
    assert answer["labels"].tolist() == [[b"person", b"traffic light"]]


async def test_json_has_the_same_outputs_with_their_types_and_shapes(transformer, grey) -> None:
    outputs = by_name(await transformer.v2(grey()))
    described = {name: (output["datatype"], output["shape"]) for name, output in outputs.items()}
    assert described == {
        "num_detections": ("INT32", [1]),
        "boxes": ("FP32", [1, 2, 4]),
        "scores": ("FP32", [1, 2]),
        "class_ids": ("INT32", [1, 2]),
        "labels": ("BYTES", [1, 2]),
    }
    assert outputs["boxes"]["data"] == [8, 8, 40, 40, 16, 24, 32, 56]
    assert outputs["labels"]["data"] == ["person", "traffic light"]


async def test_only_the_wanted_outputs_are_answered_in_their_order(transformer, grey) -> None:
    response = await transformer.v2(grey(), outputs=[{"name": "labels"}, {"name": "scores"}])
    assert list(by_name(response)) == ["labels", "scores"]
    missing = await transformer.v2(grey(), outputs=[{"name": "masks"}])
    assert missing.status_code == 400
    assert "no output 'masks' here: it has num_detections, boxes" in missing.json()["error"]


async def test_a_batch_is_padded_with_zeros_to_its_most_detections(predictor, transformer, toy, grey) -> None:
    predictor.orders.answer = toy.as_many_as_dark
    answer = await transformer.detect(grey(3), grey(0), grey(1))
    assert answer["num_detections"].tolist() == [3, 0, 1]
    assert (answer["boxes"].shape, answer["scores"].shape) == ((3, 3, 4), (3, 3))
    assert (answer["scores"] > 0).tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert answer["labels"].tolist() == [[b"bicycle"] * 3, [b""] * 3, [b"bicycle", b"", b""]]
    for name in ("boxes", "scores", "class_ids"):
        assert not answer[name][1].any()
        assert not answer[name][2, 1:].any()


async def test_a_batch_in_which_nothing_is_found_has_outputs_of_no_detections(
    predictor, transformer, toy, grey
) -> None:
    predictor.orders.answer = toy.as_many_as_dark
    answer = await transformer.detect(grey(0), grey(0))
    assert answer["num_detections"].tolist() == [0, 0]
    assert [answer[name].shape for name in OUTPUTS[1:]] == [(2, 0, 4), (2, 0), (2, 0), (2, 0)]
    outputs = by_name(await transformer.v2(grey(0)))
    assert (outputs["labels"]["shape"], outputs["labels"]["data"]) == ([1, 0], [])
    assert (await transformer.v1((grey(0), {}))).json() == {
        "predictions": [{"detections": [], "width": 64, "height": 64}]
    }


async def test_v1_tells_box_score_class_and_label_as_plain_values(transformer, grey) -> None:
    response = await transformer.v1((grey(1, 128, 64), {}))
    assert response.status_code == 200
    (prediction,) = response.json()["predictions"]
    assert (prediction["width"], prediction["height"]) == (64, 128)
    best, other = prediction["detections"]
    assert best == {"box": [0, 16, 48, 80], "score": pytest.approx(0.9), "class_id": 0, "label": "person"}
    assert (other["class_id"], other["label"]) == (2, "traffic light")
    assert type(best["class_id"]) is int
    assert all(type(value) is float for value in [*best["box"], best["score"]])


@pytest.mark.parametrize(
    ("parameters", "scores"),
    [
        ({}, [0.9, 0.5]),
        ({"confidence_threshold": 0.6}, [0.9]),
        ({"confidence_threshold": "0.6"}, [0.9]),
        ({"confidence_threshold": 0.95}, []),
        ({"iou_threshold": 0.9}, [0.9, 0.8, 0.5]),
        ({"iou_threshold": "0.9", "max_detections": "2"}, [0.9, 0.8]),
        ({"max_detections": 1}, [0.9]),
        ({"classes": "traffic light"}, [0.5]),
        ({"classes": "2"}, [0.5]),
        ({"classes": "bicycle"}, []),
        ({"classes": "0,traffic light"}, [0.9, 0.5]),
        ({"iou_threshold": 0.15, "agnostic_nms": False}, [0.9, 0.5]),
        ({"iou_threshold": 0.15, "agnostic_nms": True}, [0.9]),
        ({"iou_threshold": "0.15", "agnostic_nms": "true"}, [0.9]),
        ({"priority": 1, "sequence_id": "x"}, [0.9, 0.5]),
    ],
)
async def test_parameters_mean_the_same_over_every_protocol(parameters, scores, transformer, grey) -> None:
    expected = pytest.approx(scores)
    assert (await transformer.detect(grey(), **parameters))["scores"][0].tolist() == expected
    assert by_name(await transformer.v2(grey(), **parameters))["scores"]["data"] == expected
    form = {name: str(value) for name, value in parameters.items()}
    for response in (
        await transformer.v1((grey(), parameters)),
        await transformer.http.post("/inference/detect", files={"file": ("a.png", grey())}, data=form),
        await transformer.http.post("/inference/detect", content=grey(), params=form),
    ):
        (prediction,) = response.json()["predictions"]
        assert [found["score"] for found in prediction["detections"]] == expected


async def test_a_graph_that_suppresses_itself_is_not_suppressed_again(predictor, start_transformer, grey) -> None:
    predictor.orders.weights.nms = False
    transformer = await start_transformer(predictor.host)
    answer = await transformer.detect(grey(), iou_threshold=0.1)
    np.testing.assert_allclose(answer["scores"], [[0.9, 0.8, 0.5]])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"confidence_threshold": "high"}, "'confidence_threshold' must be a number from 0 to 1, not 'high'"),
        ({"max_detections": 0}, "'max_detections' must be a whole number from 1 to 1000"),
        ({"classes": "dragon"}, "the model knows no class 'dragon'"),
        ({"mask_format": "png"}, "'mask_format' must be one of polygon, rle, none, not 'png'"),
        ({"return_image": "perhaps"}, "'return_image' must be true or false, not 'perhaps'"),
    ],
)
async def test_a_bad_parameter_is_named_over_every_protocol(parameters, words, predictor, transformer, grey) -> None:
    over_grpc = await transformer.refusal(grey(), **parameters)
    assert over_grpc.code().name == "INVALID_ARGUMENT"
    assert words in over_grpc.details()
    for response in (
        await transformer.v2(grey(), **parameters),
        await transformer.v1((grey(), parameters)),
        await transformer.http.post("/inference/detect", content=grey(), params=parameters),
    ):
        assert (response.status_code, response.json()["error"]) == (400, over_grpc.details())
    assert predictor.orders.seen == []


async def test_each_picture_of_v1_has_its_own_options(transformer, grey) -> None:
    response = await transformer.v1(
        (grey(), {"classes": "person"}),
        (grey(), {"confidence_threshold": "0.95"}),
        (grey(), {"return_image": True, "iou_threshold": 0.9}),
        (grey(), {}),
    )
    predictions = response.json()["predictions"]
    labels = [[found["label"] for found in prediction["detections"]] for prediction in predictions]
    assert labels == [["person"], [], ["person", "person", "traffic light"], ["person", "traffic light"]]
    assert ["annotated_image" in prediction for prediction in predictions] == [False, False, True, False]


async def test_an_annotated_picture_has_its_pictures_size_and_the_boxes_on_it(transformer, grey) -> None:
    picture = grey(200, 240, 320)
    answer = await transformer.detect(picture, return_image="true")
    (annotated,) = answer["annotated_image"]
    assert annotated.startswith(b"\xff\xd8\xff")
    drawn = pixels_of(annotated)
    assert drawn.shape == (240, 320, 3)
    x1, _, x2, y2 = answer["boxes"][0, 1].round().astype(int)
    assert np.abs(drawn[y2 - 3 : y2 + 3, (x1 + x2) // 2].astype(int) - 200).max() > 20
    assert np.abs(drawn[235, 315].astype(int) - 200).max() < 8

    (prediction,) = (await transformer.v1((picture, {"return_image": True}))).json()["predictions"]
    assert base64.b64decode(prediction["annotated_image"]["b64"]) == annotated


async def test_an_annotated_picture_of_pixels_is_drawn_on_a_copy(predictor, transformer) -> None:
    head = {
        "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192}],
        "parameters": {"return_image": True, "binary_data_output": True},
    }
    response = await transformer.http.post("/v2/models/toy/infer", json=head)
    assert response.status_code == 200
    assert b"\xff\xd8\xff" in response.content


async def test_an_annotated_picture_leaves_as_binary_data_only(transformer, grey) -> None:
    refused = await transformer.v2(grey(), return_image=True)
    assert refused.status_code == 400
    assert "ask for it as binary data" in refused.json()["error"]
    document, binary = await transformer.binary(grey(), grey(), return_image=True)
    assert [output["name"] for output in document["outputs"]] == [*OUTPUTS, "annotated_image"]
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert sum(sizes) == len(binary)
    annotated = binary[-sizes[-1] :]
    (length,) = struct.unpack_from("<I", annotated)
    assert pixels_of(annotated[4 : 4 + length]).shape == (64, 64, 3)


async def test_in_a_batch_only_the_asked_for_pictures_are_annotated(transformer, grey) -> None:
    answer = await transformer.detect(grey(), grey(0, 32, 48), return_image=True)
    assert [pixels_of(image).shape for image in answer["annotated_image"]] == [(64, 64, 3), (32, 48, 3)]
    assert "annotated_image" not in await transformer.detect(grey(), return_image=False)


async def test_masks_are_polygons_where_nothing_else_is_asked_for(segmenter, grey) -> None:
    answer = await segmenter.detect(grey())
    assert list(answer) == [*OUTPUTS, "masks"]
    person, light = (json.loads(mask) for mask in answer["masks"][0])
    # The canvas's left half, within the box.
    (ring,) = person
    assert min(ring[0::2]) == 8
    assert max(ring[0::2]) == pytest.approx(32, abs=1)
    assert (min(ring[1::2]), max(ring[1::2])) == (8, 40)
    assert light == []  # its half begins where its box ends


async def test_run_lengths_mean_the_same_pixels(segmenter, grey) -> None:
    answer = await segmenter.detect(grey(), mask_format="rle")
    person, light = (coco.decode(json.loads(mask)) for mask in answer["masks"][0])
    assert person.shape == (64, 64)
    assert person[8:40, 8:31].all()
    assert person.sum() == pytest.approx(32 * 24, abs=32)
    assert not light.any()


async def test_without_masks_there_is_no_such_output(segmenter, grey) -> None:
    assert list(await segmenter.detect(grey(), mask_format="none")) == OUTPUTS
    (prediction,) = (await segmenter.v1((grey(), {"mask_format": "none"}))).json()["predictions"]
    assert all("mask" not in found for found in prediction["detections"])


async def test_masks_are_texts_in_json_and_objects_in_v1(segmenter, grey) -> None:
    outputs = by_name(await segmenter.v2(grey(), mask_format="rle"))
    assert (outputs["masks"]["datatype"], outputs["masks"]["shape"]) == ("BYTES", [1, 2])
    texts = [json.loads(text) for text in outputs["masks"]["data"]]
    assert texts[0]["size"] == [64, 64]
    polygon, rle = (await segmenter.v1((grey(), {}), (grey(), {"mask_format": "rle"}))).json()["predictions"]
    assert [found["mask"] for found in rle["detections"]] == texts
    polygons = json.loads((await segmenter.detect(grey()))["masks"][0, 0])
    assert polygon["detections"][0]["mask"] == polygons


async def test_masks_of_a_batch_are_padded_and_in_the_pixels_of_each_picture(segmenter, grey) -> None:
    answer = await segmenter.detect(grey(), grey(0, 128, 64), mask_format="rle", classes="person")
    sizes = [json.loads(masks[0])["size"] for masks in answer["masks"]]
    assert sizes == [[64, 64], [128, 64]]
    tall = coco.decode(json.loads(answer["masks"][1, 0]))
    # Left of the canvas's middle is left of the picture's; its box spans x 0 to 48 and y 16 to 80.
    assert tall[16:80, :31].all()
    assert not tall[:, 33:].any()
    assert not tall[:16].any()


async def test_a_detectors_answer_has_no_masks_whatever_is_asked_for(transformer, grey) -> None:
    assert list(await transformer.detect(grey(), mask_format="rle")) == OUTPUTS
    response = await transformer.http.post("/inference/segment", content=grey())
    assert all("mask" not in found for found in response.json()["predictions"][0]["detections"])


async def test_the_masks_are_drawn_even_where_they_are_not_sent(segmenter, grey) -> None:
    answer = await segmenter.detect(grey(200, 256, 256), return_image=True, mask_format="none", classes="person")
    assert "masks" not in answer
    drawn = pixels_of(answer["annotated_image"][0]).astype(int)
    assert np.abs(drawn[100, 80] - 200).max() > 20  # within the mask
    assert np.abs(drawn[100, 145] - 200).max() < 10  # within the box, beside the mask


@pytest.mark.parametrize("protocol", ["grpc", "v2", "people"])
async def test_the_answer_tells_the_version_and_the_time_of_each_stage(protocol, transformer, grey) -> None:
    if protocol == "grpc":
        response = await transformer.infer(Tensor("image", bytes_array([grey()])))
        parameters, version = response.parameters, response.model_version
    else:
        path = "/inference/detect"
        answer = await (transformer.v2(grey()) if protocol == "v2" else transformer.http.post(path, content=grey()))
        parameters, version = answer.json()["parameters"], answer.json()["model_version"]
    assert version == "1"
    stages = ["preprocess_us", "queue_us", "compute_us", "postprocess_us"]
    assert sorted(parameters) == sorted(["model_version", "model.digest", "cached", *stages])
    assert (parameters["model_version"], parameters["cached"]) == ("1", False)
    assert parameters["model.digest"].startswith("sha256:")
    # What the predictor says of itself, not the round trip.
    assert (parameters["queue_us"], parameters["compute_us"]) == (1500, 2500)
    assert all(type(parameters[stage]) is int and parameters[stage] >= 0 for stage in stages)


async def test_the_request_id_and_version_of_v2_are_echoed(transformer, grey) -> None:
    document = {
        "id": "mine",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(grey()).decode()]},
        ],
    }
    response = await transformer.http.post("/v2/models/toy/versions/1/infer", json=document)
    assert (response.json()["id"], response.json()["model_name"], response.json()["model_version"]) == (
        "mine",
        "toy",
        "1",
    )
    other = await transformer.http.post("/v2/models/toy/versions/2/infer", json=document)
    assert other.status_code == 404


async def test_the_statistics_count_the_stages_of_the_predictor(transformer, grey) -> None:
    await transformer.v2(grey(), grey())
    (stats,) = (await transformer.http.get("/v2/models/toy/stats")).json()["model_stats"]
    assert (stats["inference_count"], stats["execution_count"]) == (2, 1)
    assert stats["inference_stats"]["queue"]["ns"] == 1_500_000
    assert stats["inference_stats"]["compute_infer"]["ns"] == 2_500_000
