"""The demonstration: both servers on this machine, sample pictures through them, and a check of what came back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console

from yolo_client.boxes import iou
from yolo_client.client import Answer, Client
from yolo_client.local import EMBEDDED_WEIGHTS, LocalOptions, LocalServers
from yolo_client.report import print_answers
from yolo_client.shapes import LABELS, Scene, draw_scene

# Of a range that no training picture was drawn from.
SAMPLE_SEEDS: Final = (5, 10, 47, 54)
_HEIGHT, _WIDTH = 480, 640
_MIN_IOU: Final = 0.75
_MIN_SCORE: Final = 0.4
_PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


class DemoFailed(Exception):
    """The demonstration did not come out right; the message is one line that says how."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to send; `scene` holds what is in it, where that is known."""

    name: str
    data: bytes = field(repr=False)
    scene: Scene | None = None


def generated_samples() -> list[Sample]:
    """Return drawn pictures whose contents are known, as JPEG."""
    scenes = [(seed, draw_scene(seed, _HEIGHT, _WIDTH)) for seed in SAMPLE_SEEDS]
    return [Sample(f"shapes-{seed}", _jpeg(scene.image), scene) for seed, scene in scenes]


def samples_in(directory: Path) -> list[Sample]:
    """Return the pictures in a folder, or the one picture at a path.

    Raises:
        DemoFailed: there is none.

    """
    paths = sorted(directory.iterdir()) if directory.is_dir() else [directory]
    pictures = [path for path in paths if path.suffix.lower() in _PICTURE_SUFFIXES and path.is_file()]
    if not pictures:
        raise DemoFailed(f"there is no picture at {directory}")
    return [Sample(path.stem, path.read_bytes()) for path in pictures]


def run(options: LocalOptions, images: Path | None, out: Path, console: Console) -> None:
    """Leave annotated pictures in `out` and tables on the terminal.

    Raises:
        DemoFailed: a known object was not found, or something was that is not there.
        LocalServersFailed: the servers can't run.
        RequestFailed: a picture was refused.

    """
    samples = generated_samples() if images is None else samples_in(images)
    known = images is None and options.weights == EMBEDDED_WEIGHTS
    out.mkdir(parents=True, exist_ok=True)
    with LocalServers(replace(options, log_directory=out / "logs")), Client(options.url, options.model) as client:
        threshold = {"confidence_threshold": _MIN_SCORE} if known else {}
        answers = [(sample, client.detect(sample.data, return_image=True, **threshold)) for sample in samples]
    for sample, answer in answers:
        (out / f"{sample.name}.jpg").write_bytes(answer.annotated)
    print_answers(console, [(sample.name, answer) for sample, answer in answers])
    if known:
        wrong = [f"{sample.name}: {what}" for sample, answer in answers for what in mistakes(sample.scene, answer)]
        if wrong:
            raise DemoFailed("; ".join(wrong))
    verdict = ", and every shape was found" if known else ""
    console.print(f"{len(answers)} annotated pictures are in {out}{verdict}.", soft_wrap=True)


def mistakes(scene: Scene | None, answer: Answer) -> list[str]:
    """Return what an answer got wrong of a scene: objects not found, and detections of nothing."""
    if scene is None:
        return []
    unmatched = list(answer.detections)
    missed = []
    for box, class_id in zip(scene.boxes, scene.class_ids, strict=True):
        label = LABELS[class_id]
        match = next((d for d in unmatched if d.label == label and iou(box, d.box) >= _MIN_IOU), None)
        if match is None:
            missed.append(f"a {label} was not found")
        else:
            unmatched.remove(match)
    return missed + [f"a {found.label} was found where there is none" for found in unmatched]


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return bytes(encoded)
