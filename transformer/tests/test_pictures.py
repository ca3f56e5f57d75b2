"""Pictures in every form that a request may bring them in, placed for the predictor."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import string

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servekit.tensors import Tensor, bytes_array
from yolo_transformer.pictures import as_picture_bytes

LETTERS = (string.ascii_letters + string.digits + "+/").encode()


def pnm(magic: bytes, pixels: bytes, width: int, height: int) -> bytes:
    return b"%s\n%d %d\n255\n%s" % (magic, width, height, pixels)


# Pictures whose every byte is also one of base64 text, as many as such a text has.
PPM_OF_LETTERS = pnm(b"P6", b"ABC" * 80, 10, 8)
PGM_OF_LETTERS = pnm(b"P5", b"x" * 80, 10, 8)
PBM_OF_LETTERS = b"P4\n8 67\n" + b"U" * 67


@pytest.mark.parametrize("picture", [PPM_OF_LETTERS, PGM_OF_LETTERS, PBM_OF_LETTERS])
def test_a_picture_that_could_be_base64_text_is_a_picture(picture) -> None:
    assert as_picture_bytes(picture) == picture
    assert as_picture_bytes(base64.b64encode(picture)) == picture


@given(
    st.sampled_from([b"P4", b"P5", b"P6"]),
    st.lists(st.sampled_from(LETTERS), min_size=64, max_size=192).map(bytes),
    st.integers(1, 8),
)
def test_no_pnm_is_taken_for_text(magic, pixels, side) -> None:
    picture = pnm(magic, pixels, side, side)
    assert as_picture_bytes(picture) == picture
    assert as_picture_bytes(base64.b64encode(picture)) == picture
    assert as_picture_bytes(base64.encodebytes(picture)) == picture


@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6\n", b"\0\0\1\0"]
    ),
    st.binary(min_size=40, max_size=80),
)
def test_whatever_follows_a_formats_first_bytes_they_come_raw_or_as_text(magic, rest) -> None:
    picture = magic + rest
    assert as_picture_bytes(picture) == picture
    assert as_picture_bytes(base64.b64encode(picture)) == picture


@given(st.binary(max_size=200))
def test_other_bytes_never_fail_here(data) -> None:
    assume(not re.fullmatch(rb"[A-Za-z0-9+/=\s]*", data[:32]))
    assert as_picture_bytes(data) == data


@pytest.mark.parametrize("text", [b"", b"A", b"AAAAA", b"====", b"no base64 at all"])
def test_text_that_is_no_base64_never_fails_here(text) -> None:
    assert isinstance(as_picture_bytes(text), bytes)


async def test_a_raw_picture_of_letters_is_served_over_every_protocol(predictor, transformer) -> None:
    (sent,) = (await transformer.detect(PPM_OF_LETTERS))["num_detections"]
    assert sent == 2
    for response in (
        await transformer.v2(PPM_OF_LETTERS),
        await transformer.v1((PPM_OF_LETTERS, {})),
        await transformer.http.post("/inference/detect", content=PPM_OF_LETTERS),
    ):
        assert response.status_code == 200, response.text
    first = predictor.orders.seen[0].images
    assert first[0, 32, 0].tolist() == [65, 66, 67]
    assert all((seen.images == first).all() for seen in predictor.orders.seen)


async def test_raw_text_and_text_as_binary_data_are_the_same_picture(predictor, transformer, grey) -> None:
    picture = grey(77)
    text = base64.b64encode(picture)
    await transformer.v2(picture)
    await transformer.binary(picture)
    await transformer.binary(text)
    await transformer.detect(picture)
    await transformer.detect(text)
    await transformer.http.post("/inference/detect", content=text)
    whole = await transformer.http.post(
        "/v2/models/toy/infer", content=picture, headers={"inference-header-content-length": "0"}
    )
    assert whole.status_code == 200
    assert len(predictor.orders.seen) == 7
    assert all((seen.images == 77).all() for seen in predictor.orders.seen)


@pytest.mark.parametrize("shape", [[2], [2, 1], [1, 2]])
async def test_a_batch_may_have_an_axis_of_one(shape, transformer, grey) -> None:
    pictures = bytes_array([grey(), grey()]).reshape(shape)
    response = await transformer.infer(Tensor("image", pictures))
    assert {tensor.name: tensor.shape[0] for tensor in response.outputs} == dict.fromkeys(
        ["num_detections", "boxes", "scores", "class_ids", "labels"], 2
    )


async def test_pixels_are_placed_as_they_are(predictor, transformer) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    response = await transformer.infer(Tensor("pixels", pixels))
    (seen,) = predictor.orders.seen
    np.testing.assert_array_equal(seen.images, pixels)
    assert response.outputs[0].array.tolist() == [2, 2, 2]


async def test_pixels_of_another_size_are_letterboxed(predictor, transformer) -> None:
    response = await transformer.infer(Tensor("pixels", np.full((1, 30, 60, 3), 200, np.uint8)))
    image = predictor.orders.seen[0].images[0]
    assert (image[16:48] == 200).all()
    assert (image[:16] == 114).all()
    assert (image[48:] == 114).all()
    # (8, 8, 40, 40) of a canvas whose picture begins at row 16, at 64/60 of its size.
    box = response.outputs[1].array[0, 0]
    np.testing.assert_allclose(box, [7.5, 0, 37.5, 22.5], atol=1e-4)


async def test_pixels_in_json_are_pixels(predictor, transformer) -> None:
    described = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [[[[9, 9, 9], [9, 9, 9]]]]}
    response = await transformer.http.post("/v2/models/toy/infer", json={"inputs": [described]})
    assert response.status_code == 200
    assert (predictor.orders.seen[0].images[0, 16:48] == 9).all()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([], "the request has no inputs"),
        ([Tensor("image", np.zeros((1, 2), np.uint8))], "'image' must be BYTES"),
        ([Tensor("pixels", np.zeros((1, 4, 4, 3), np.float32))], "'pixels' must be UINT8 of shape"),
        ([Tensor("pixels", np.zeros((4, 4, 3), np.uint8))], "'pixels' must be UINT8 of shape"),
        ([Tensor("pixels", np.zeros((1, 4, 4, 4), np.uint8))], "'pixels' must be UINT8 of shape"),
        ([Tensor("pixels", np.zeros((0, 4, 4, 3), np.uint8))], "'pixels' must be UINT8 of shape"),
        ([Tensor("image", bytes_array([]))], "has no picture"),
        ([Tensor("images", bytes_array([b"x"]))], "has one input: 'image'"),
        ([Tensor("image", bytes_array([b"x"])), Tensor("pixels", np.zeros((1, 1, 1, 3), np.uint8))], "has one input"),
        ([Tensor("image", bytes_array([b"x"])), Tensor("size", np.zeros(1, np.uint8))], "has one input"),
    ],
)
async def test_other_inputs_are_refused_before_the_predictor_is_asked(
    tensors, words, predictor, transformer, grpc_refusal
) -> None:
    with grpc_refusal("INVALID_ARGUMENT", words):
        await transformer.infer(*tensors)
    assert predictor.orders.seen == []


async def test_pixels_over_the_limit_are_too_large(predictor, start_transformer, grpc_refusal) -> None:
    transformer = await start_transformer(predictor.host, max_pixels=100)
    await transformer.infer(Tensor("pixels", np.zeros((2, 10, 10, 3), np.uint8)))
    with grpc_refusal("INVALID_ARGUMENT", "11x10 pixels are more than the 100 allowed"):
        await transformer.infer(Tensor("pixels", np.zeros((1, 10, 11, 3), np.uint8)))


async def test_more_pictures_than_a_batch_may_have_are_too_large(
    predictor, start_transformer, grey, grpc_refusal
) -> None:
    transformer = await start_transformer(predictor.host, max_batch=2)
    assert (await transformer.v2(grey(), grey())).status_code == 200
    for response in (
        await transformer.v2(grey(), grey(), grey()),
        await transformer.v1(*[(grey(), {})] * 3),
        await transformer.http.post("/inference/detect", files=[("file", ("a.png", grey()))] * 3),
    ):
        assert (response.status_code, response.json()["error"]) == (413, "3 pictures in one request are more than 2")
    with grpc_refusal("INVALID_ARGUMENT", "3 pictures in one request are more than 2"):
        await transformer.infer(Tensor("pixels", np.zeros((3, 1, 1, 3), np.uint8)))


async def test_pictures_of_several_sizes_in_a_batch_are_each_placed_and_answered_in_their_own_pixels(
    predictor, transformer, grey
) -> None:
    answer = await transformer.detect(grey(10, 64, 64), grey(20, 128, 64), grey(30, 32, 32))
    (seen,) = predictor.orders.seen
    assert seen.images.shape == (3, 64, 64, 3)
    assert (seen.images[0] == 10).all()
    assert (seen.images[1, :, 16:48] == 20).all()
    assert (seen.images[1, :, :16] == 114).all()
    assert (seen.images[1, :, 48:] == 114).all()
    assert (seen.images[2] == 30).all()
    np.testing.assert_allclose(answer["boxes"][:, 0], [[8, 8, 40, 40], [0, 16, 48, 80], [4, 4, 20, 20]])


@pytest.mark.parametrize(
    ("picture", "status", "words"),
    [
        (b"", 400, "the picture is empty: it has 0 bytes"),
        (b"no picture at all, and no text in base64!", 415, "the bytes are no picture that is read here"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, 400, ""),
        (b"%PDF-1.7" + b"\xff" * 50, 415, "a PDF document is not read here"),
    ],
)
async def test_one_bad_picture_of_a_batch_is_named_by_its_number(
    picture, status, words, predictor, transformer, grey
) -> None:
    over_form = await transformer.http.post(
        "/inference/detect", files=[("file", ("a", each)) for each in (grey(), picture, grey())]
    )
    assert over_form.status_code == status
    message = over_form.json()["error"]
    assert message.startswith(f"picture 2 of 3: {words}")
    over_grpc = await transformer.refusal(grey(), picture, grey())
    assert (over_grpc.code().name, over_grpc.details()) == ("INVALID_ARGUMENT", message)
    alone = await transformer.refusal(picture)
    assert f"picture 2 of 3: {alone.details()}" == message
    assert predictor.orders.seen == []


async def test_a_batch_after_a_damaged_one_has_its_own_pictures(predictor, start_transformer, toy, grey) -> None:
    transformer = await start_transformer(predictor.host, workers=1)
    predictor.orders.answer = toy.middle
    await transformer.refusal(grey(1), b"damaged!")
    answer = await transformer.detect(grey(2), grey(3, 10, 50))
    assert answer["class_ids"].tolist() == [[2], [3]]
    assert (predictor.orders.seen[-1].images[1, :20] == 114).all()


async def test_fifty_requests_at_once_each_get_the_answer_to_their_own_picture(
    predictor, start_transformer, toy, grey
) -> None:
    transformer = await start_transformer(predictor.host, workers=4)
    predictor.orders.answer = toy.middle
    # Sizes differ, so that a canvas that another request still used would show.
    pictures = [(number * 5, grey(number * 5, 16 + number * 7 % 90, 16 + number * 13 % 90)) for number in range(50)]

    async def ask(number: int, value: int, picture: bytes) -> tuple[int, list[int]]:
        if number % 3 == 0:
            document = (await transformer.v1((picture, {}))).json()
            return value, [found["class_id"] for found in document["predictions"][0]["detections"]]
        if number % 3 == 1:
            outputs = (await transformer.v2(picture, grey(255 - value))).json()["outputs"]
            ids = next(output["data"] for output in outputs if output["name"] == "class_ids")
            assert ids[1] == 255 - value
            return value, ids[:1]
        return value, (await transformer.detect(picture))["class_ids"].ravel().tolist()

    for value, found in await asyncio.gather(*(ask(number, *each) for number, each in enumerate(pictures))):
        assert found == [value]
    assert len(predictor.orders.seen) == 50


async def test_a_compressed_body_holds_the_same_picture(predictor, transformer, grey) -> None:
    text = base64.b64encode(grey(5)).decode()
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    response = await transformer.http.post(
        "/v2/models/toy/infer", content=gzip.compress(json.dumps(body).encode()), headers={"content-encoding": "gzip"}
    )
    assert response.status_code == 200
    assert (predictor.orders.seen[0].images == 5).all()
