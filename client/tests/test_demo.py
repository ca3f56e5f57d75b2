"""The demonstration's own check: it must see what is wrong."""

from __future__ import annotations

import pytest

from yolo_client.client import Answer, Detection
from yolo_client.demo import DemoFailed, generated_samples, mistakes, samples_in
from yolo_client.shapes import LABELS, draw_scene

SCENE = draw_scene(10, 480, 640)


def answer_of(detections) -> Answer:
    return Answer(tuple(detections), b"", {}, 0.0)


def truth() -> list[Detection]:
    return [
        Detection(tuple(box.tolist()), 0.9, int(class_id), LABELS[class_id])
        for box, class_id in zip(SCENE.boxes, SCENE.class_ids, strict=True)
    ]


def test_the_truth_has_no_mistakes() -> None:
    assert mistakes(SCENE, answer_of(truth())) == []


def test_an_object_that_was_not_found_is_a_mistake() -> None:
    found = truth()
    lost = found.pop()
    assert mistakes(SCENE, answer_of(found)) == [f"a {lost.label} was not found"]


def test_a_wrong_label_is_two_mistakes() -> None:
    found = truth()
    other = next(label for label in LABELS if label != found[0].label)
    found[0] = Detection(found[0].box, 0.9, 0, other)
    assert len(mistakes(SCENE, answer_of(found))) == 2


def test_a_box_that_is_off_is_two_mistakes() -> None:
    found = truth()
    x1, y1, x2, y2 = found[0].box
    found[0] = Detection((x1 + (x2 - x1) / 2, y1, x2 + (x2 - x1) / 2, y2), 0.9, found[0].class_id, found[0].label)
    assert len(mistakes(SCENE, answer_of(found))) == 2


def test_an_object_found_twice_is_a_mistake() -> None:
    found = truth()
    assert mistakes(SCENE, answer_of([*found, found[0]])) == [f"a {found[0].label} was found where there is none"]


def test_the_samples_are_the_same_every_time() -> None:
    assert [sample.data for sample in generated_samples()] == [sample.data for sample in generated_samples()]


def test_a_folder_without_pictures_is_named(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DemoFailed, match="there is no picture at"):
        samples_in(tmp_path)


def test_only_pictures_are_taken_from_a_folder(tmp_path) -> None:
    for name in ("b.jpg", "a.PNG", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    assert [sample.name for sample in samples_in(tmp_path)] == ["a", "b"]
