"""Plain HTTP: forms, bodies and queries, as curl and browsers send them."""

from __future__ import annotations

import tempfile

import cv2
import numpy as np
import pytest


async def detect(transformer, path="/inference/detect", **request) -> dict:
    response = await transformer.http.post(path, **request)
    assert response.status_code == 200, response.text
    return response.json()


async def refusal(transformer, **request) -> tuple[int, str]:
    response = await transformer.http.post("/inference/detect", **request)
    return response.status_code, response.json()["error"]


async def test_a_file_in_a_form_is_answered_with_what_was_found(transformer, grey) -> None:
    answer = await detect(transformer, files={"file": ("a.png", grey(), "image/png")})
    assert (answer["model_name"], answer["model_version"]) == ("toy", "1")
    (prediction,) = answer["predictions"]
    assert [found["label"] for found in prediction["detections"]] == ["person", "traffic light"]
    assert answer["parameters"]["queue_us"] == 1500


async def test_several_files_are_a_batch_in_their_order(predictor, transformer, toy, grey) -> None:
    predictor.orders.answer = toy.middle
    files = [("file", (f"{value}.png", grey(value, 32 + value, 64))) for value in (3, 1, 2)]
    answer = await detect(transformer, files=files)
    assert [(each["height"], each["detections"][0]["class_id"]) for each in answer["predictions"]] == [
        (35, 3),
        (33, 1),
        (34, 2),
    ]
    (seen,) = predictor.orders.seen
    assert len(seen.images) == 3


async def test_fields_of_a_form_are_options(transformer, grey) -> None:
    files = {"file": ("a.png", grey())}
    answer = await detect(transformer, files=files, data={"model_name": "toy", "classes": "person", "submit": "Go"})
    assert [found["label"] for found in answer["predictions"][0]["detections"]] == ["person"]
    answer = await detect(transformer, files=files, data={"return_image": "true", "confidence_threshold": "0.95"})
    assert answer["predictions"][0]["detections"] == []
    assert answer["predictions"][0]["annotated_image"]["b64"]


@pytest.mark.parametrize(
    "content_type", [None, "image/png", "application/octet-stream", "application/x-www-form-urlencoded"]
)
async def test_a_body_is_a_picture_whatever_its_type_with_options_in_the_query(content_type, transformer, grey) -> None:
    answer = await detect(
        transformer,
        content=grey(),
        params={"model_name": "toy", "max_detections": "1", "unknown": "1"},
        headers={"content-type": content_type} if content_type else {},
    )
    assert len(answer["predictions"][0]["detections"]) == 1


async def test_the_query_of_a_form_is_no_option(transformer, grey) -> None:
    answer = await detect(transformer, files={"file": ("a.png", grey())}, params={"max_detections": "1"})
    assert len(answer["predictions"][0]["detections"]) == 2


async def test_masks_come_with_segment_and_where_they_are_asked_for(predictor, start_transformer, toy, grey) -> None:
    predictor.orders.weights.task = "segment"
    predictor.orders.answer = toy.canned_with_masks
    transformer = await start_transformer(predictor.host)
    files = {"file": ("a.png", grey())}

    def mask(answer: dict) -> object:
        return answer["predictions"][0]["detections"][0].get("mask")

    assert isinstance(mask(await detect(transformer, "/inference/segment", files=files)), list)
    assert mask(await detect(transformer, "/inference/detect", files=files)) is None
    as_rle = {"mask_format": "rle"}
    assert mask(await detect(transformer, "/inference/detect", files=files, data=as_rle))["size"] == [64, 64]
    assert mask(await detect(transformer, "/inference/segment", content=grey(), params=as_rle))["counts"]
    assert mask(await detect(transformer, "/inference/segment", content=grey(), params={"mask_format": "none"})) is None


async def test_a_picture_in_another_field_is_refused_by_the_fields_name(transformer, grey) -> None:
    assert await refusal(transformer, files={"image": ("a.png", grey())}) == (
        400,
        "a picture belongs into the field 'file', not 'image'",
    )
    status, message = await refusal(transformer, files={"x" * 500: ("a.png", grey())})
    assert (status, len(message) < 120) == (400, True)


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b""},
        {"files": {"file": ("a.png", b"")}},
        {"files": [("file", ("a.png", b"")), ("file", ("b.png", b""))]},
        {"files": {"file": (None, "a text, and no file")}},
    ],
)
async def test_a_request_without_a_picture_is_told_how_to_send_one(request_, predictor, transformer) -> None:
    status, message = await refusal(transformer, **request_)
    assert (status, message.startswith("the request holds no picture: send it as the body, or as")) == (400, True)
    assert predictor.orders.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "multipart/form-data"},
        {"content-type": "multipart/form-data; boundary=b"},
        {"content-type": "Multipart/Form-Data; charset=klingon; boundary=b"},
    ],
)
@pytest.mark.parametrize("body", [b"\x89PNG", b"--b\r\n\r\nx\r\n--b--", b"--b\r\nContent-Disposition: x\r\n\r\nx"])
async def test_a_form_that_is_none_is_refused(headers, body, transformer) -> None:
    status, message = await refusal(transformer, content=body, headers=headers)
    assert (status, "\n" in message) == (400, False)


async def test_a_field_as_large_as_a_file_is_refused(transformer) -> None:
    data = {"classes": "x" * (2 << 20)}
    assert await refusal(transformer, files={"file": ("a.png", b"x")}, data=data) == (
        400,
        "the body is no multipart form",
    )


async def test_a_large_file_of_a_form_needs_no_disk(monkeypatch, tmp_path, predictor, transformer) -> None:
    # A pod's root file system can't be written to.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    noise = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
    _, encoded = cv2.imencode(".png", noise)
    assert len(encoded) > 2_000_000
    answer = await detect(transformer, files=[("file", ("large.png", bytes(encoded)))] * 2)
    assert [each["width"] for each in answer["predictions"]] == [900, 900]


async def test_the_one_model_there_is_needs_no_name_and_several_do(start_predictor, start_transformer, grey) -> None:
    predictor = await start_predictor("large", "small")
    transformer = await start_transformer(predictor.host)
    status, message = await refusal(transformer, content=grey())
    assert (status, message) == (404, "name one of the models in 'model_name': large, small is loaded")
    answer = await detect(transformer, content=grey(), params={"model_name": "small"})
    assert answer["model_name"] == "small"
    files = {"file": ("a.png", grey())}
    answer = await detect(transformer, files=files, data={"model_name": "large"})
    assert answer["model_name"] == "large"


async def test_an_unknown_model_is_not_found(predictor, transformer, grey) -> None:
    status, message = await refusal(transformer, content=grey(), params={"model_name": "dragon"})
    assert (status, message) == (404, "there is no model 'dragon' here: toy is loaded")
    assert predictor.orders.seen == []


async def test_before_a_model_is_loaded_there_is_none_to_name(start_transformer, toy, grey) -> None:
    transformer = await start_transformer(f"127.0.0.1:{toy.free_port()}", ready=False)
    assert await refusal(transformer, content=grey()) == (
        404,
        "name one of the models in 'model_name': none is loaded",
    )


async def test_a_large_answer_is_compressed_for_those_who_read_that(predictor, transformer, toy, grey) -> None:
    predictor.orders.answer = toy.as_many_as_dark
    files = [("file", ("a.png", grey(8)))] * 16
    response = await transformer.http.post("/inference/detect", files=files, headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert [len(each["detections"]) for each in response.json()["predictions"]] == [8] * 16
