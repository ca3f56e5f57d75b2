"""The transformer's half of the contract with the predictor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from servekit.errors import Unavailable
from servekit.inference import InferenceRequest, RequestContext
from servekit.rpc.codec import decode_request, decode_response, encode_request
from servekit.tensors import Tensor
from yolo_transformer.card import ModelCard
from yolo_transformer.letterbox import Placement
from yolo_transformer.options import DetectionOptions
from yolo_transformer.pictures import RequestLimits, place
from yolo_transformer.results import detect

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "contract"


@pytest.fixture
def card() -> ModelCard:
    return ModelCard.from_properties(json.loads((CONTRACT / "metadata.json").read_text())["properties"])


def golden_picture() -> np.ndarray:
    image = np.full((32, 32, 3), 7, np.uint8)
    image[..., 0] = np.arange(32) * 8
    image[..., 1] = (np.arange(32) * 8)[:, None]
    return image


def test_the_card_is_read_from_the_golden_metadata(card) -> None:
    assert (card.task, card.height, card.width, card.placement) == ("detect", 32, 32, Placement.CENTER)
    assert card.needs_nms
    assert card.digest == "sha256:contract"
    assert card.label(3) == "3"


def test_the_golden_request_is_what_is_sent_for_its_picture(card) -> None:
    canvas, _ = place(golden_picture()[None], card, RequestLimits(), [False])
    sent = decode_request(
        encode_request(InferenceRequest("contract", (Tensor("images", canvas),), RequestContext())), RequestContext()
    )
    golden = decode_request((CONTRACT / "request.binpb").read_bytes(), RequestContext())
    assert sent.model_name == golden.model_name
    (mine,), (theirs,) = sent.inputs, golden.inputs
    assert (mine.name, mine.datatype) == (theirs.name, theirs.datatype)
    np.testing.assert_array_equal(mine.array, theirs.array)


def test_the_golden_response_becomes_detections(card) -> None:
    golden = decode_response((CONTRACT / "response.binpb").read_bytes())
    candidates = {tensor.name: tensor.array for tensor in golden.outputs}
    _, (picture,) = place(golden_picture()[None], card, RequestLimits(), [False])
    result = detect(candidates, 0, picture, card, DetectionOptions(iou_threshold=1.0))
    assert len(result.detections) == 3
    np.testing.assert_allclose(result.detections.scores, [0.95, 0.625, 0.3], atol=1e-6)
    np.testing.assert_allclose(result.detections.boxes, np.clip(candidates["boxes"][0, :3], 0, 32), atol=1e-4)


@pytest.mark.parametrize("missing", ["yolo.task", "yolo.labels", "yolo.nms", "yolo.input", "model.digest"])
def test_a_predictor_without_a_card_is_no_yolo(missing) -> None:
    properties = json.loads((CONTRACT / "metadata.json").read_text())["properties"]
    del properties[missing]
    with pytest.raises(Unavailable, match="no card of a prepared YOLO graph"):
        ModelCard.from_properties(properties)


def test_a_candidate_in_the_padding_alone_is_nowhere_in_the_picture(card) -> None:
    _, (picture,) = place(np.zeros((1, 16, 32, 3), np.uint8), card, RequestLimits(), [False])
    candidates = {
        "boxes": np.array([[[0, 0, 32, 6], [4, 10, 20, 20]]], np.float32),  # the first ends above the picture's rows
        "scores": np.array([[0.9, 0.8]], np.float32),
        "class_ids": np.array([[1, 2]], np.int32),
    }
    found = detect(candidates, 0, picture, card, DetectionOptions()).detections
    assert found.class_ids.tolist() == [2]
    assert found.scores.tolist() == pytest.approx([0.8])
