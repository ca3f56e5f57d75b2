"""The card of a prepared graph, as the predictor's metadata tells it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.errors import Unavailable
from yolo_transformer.card import ModelCard
from yolo_transformer.letterbox import Placement

CARD = {
    "yolo.task": "segment",
    "yolo.labels": '["person", "traffic light"]',
    "yolo.nms": "true",
    "yolo.input": '{"size": [384, 640], "stride": 32, "dynamic": false, "placement": "top-left"}',
    "model.digest": "sha256:ab",
    "model.version": "7",
    "someone.elses": "key",
}


def size(**changes) -> str:
    return json.dumps({"size": [64, 64], "placement": "center", **changes})


def test_a_card_holds_what_the_properties_say() -> None:
    card = ModelCard.from_properties(CARD)
    assert (card.task, card.labels, card.needs_nms) == ("segment", ("person", "traffic light"), True)
    assert (card.height, card.width, card.placement) == (384, 640, Placement.TOP_LEFT)
    assert (card.digest, card.version, card.properties) == ("sha256:ab", "7", CARD)


def test_a_card_may_have_no_version() -> None:
    without = {key: value for key, value in CARD.items() if key != "model.version"}
    assert ModelCard.from_properties(without).version == ""


@pytest.mark.parametrize(("text", "needs_nms"), [("true", True), ("false", False)])
def test_suppression_is_owed_where_the_card_says_so(text, needs_nms) -> None:
    assert ModelCard.from_properties({**CARD, "yolo.nms": text}).needs_nms is needs_nms


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    card = ModelCard.from_properties(CARD)
    assert [card.label(number) for number in (0, 1, 2, 80)] == ["person", "traffic light", "2", "80"]


@pytest.mark.parametrize(
    "changes",
    [
        {"yolo.labels": "person"},
        {"yolo.labels": "null"},
        {"yolo.labels": '"person"'},
        {"yolo.labels": '{"0": "person"}'},
        {"yolo.input": "640"},
        {"yolo.input": "[]"},
        {"yolo.input": "{"},
        {"yolo.input": size(size=[64])},
        {"yolo.input": size(size=[1, 64, 64])},
        {"yolo.input": size(size=[0, 64])},
        {"yolo.input": size(size=[64, -64])},
        {"yolo.input": size(size=None)},
        {"yolo.input": size(size=["wide", "high"])},
        {"yolo.input": size(placement="somewhere")},
        {"yolo.input": '{"size": [64, 64]}'},
    ],
)
def test_properties_that_can_not_be_true_are_no_card(changes) -> None:
    with pytest.raises(Unavailable, match="no card of a prepared YOLO graph"):
        ModelCard.from_properties({**CARD, **changes})


jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "placement"]), inner),
    max_leaves=5,
)


@given(st.sampled_from(["yolo.labels", "yolo.input"]), jsons.map(json.dumps) | st.text(max_size=20))
def test_whatever_a_property_holds_it_is_a_card_or_none(key, text) -> None:
    try:
        card = ModelCard.from_properties({**CARD, key: text})
    except Unavailable:
        return
    assert card.height > 0
    assert card.width > 0
    assert all(isinstance(label, str) for label in card.labels)
