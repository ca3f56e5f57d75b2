# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["faster-coco-eval>=1.6", "numpy>=2", "onnxruntime>=1.20", "opencv-python-headless>=4.10"]
# ///
"""Measure an exported shapes model on scenes that it never saw: `uv run training/evaluate.py`. Needs no torch."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as coco_mask
from scenes import SIZE, letterbox
from shapes import LABELS, Scene, draw_scene

MODEL = Path(__file__).parents[1] / "weights-sync" / "src" / "weights_sync" / "models" / "shapes.onnx"
CONFIDENCE = 0.001
OVERLAP = 0.65
MOST = 300
_CLASS_GAP = 10_000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """N detections of one picture, best first: boxes (N, 4) float32 x1 y1 x2 y2 in its pixels, masks (N, H, W) bool."""

    boxes: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]


def detect(session: onnxruntime.InferenceSession, image: npt.NDArray[np.uint8], size: int = SIZE) -> Found:
    """Return what the model finds in the picture (H, W, 3) uint8 RGB, letterboxed to `size`."""
    boxed, scale, left, top = letterbox(image, size)
    tensor = (boxed.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    rows, prototypes = (np.asarray(output[0]) for output in session.run(["output0", "output1"], {"images": tensor}))
    probabilities = rows[4 : 4 + len(LABELS)]
    class_ids, anchors = np.nonzero(probabilities > CONFIDENCE)
    scores = probabilities[class_ids, anchors]
    cx, cy, width, height = rows[:4, anchors]
    corners = np.stack([cx - width / 2, cy - height / 2], axis=1) + class_ids[:, None] * float(_CLASS_GAP)
    spread = np.concatenate([corners, np.stack([width, height], axis=1)], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(spread.tolist(), scores.tolist(), CONFIDENCE, OVERLAP), np.int64).reshape(-1)
    kept = kept[:MOST]
    boxes = np.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], axis=1)[kept]
    boxes = (boxes - (left, top, left, top)) / scale
    height_px, width_px = image.shape[:2]
    boxes = np.clip(boxes, 0, (width_px, height_px, width_px, height_px)).astype(np.float32)
    coefficients = rows[4 + len(LABELS) :, anchors[kept]].T
    masks = _masks(coefficients, prototypes, boxes, (scale, left, top), image.shape[:2])
    return Found(boxes, scores[kept], class_ids[kept], masks)


def _masks(
    coefficients: Floats, prototypes: Floats, boxes: Floats, placed: tuple[float, int, int], shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return (N, H, W) bool: each mask enlarged to the picture and cut to its box."""
    scale, left, top = placed
    height, width = shape
    logits = np.tensordot(coefficients, prototypes, axes=1)
    masks = np.zeros((len(boxes), height, width), np.bool_)
    for index, (logit, box) in enumerate(zip(logits, boxes, strict=True)):
        x1, y1, x2, y2 = (int(v) for v in np.rint(box))
        if x2 <= x1 or y2 <= y1:
            continue
        x = ((np.arange(x1, x2) + 0.5) * scale + left) / 4 - 0.5
        y = ((np.arange(y1, y2) + 0.5) * scale + top) / 4 - 0.5
        grid_x, grid_y = (g.astype(np.float32) for g in np.meshgrid(x, y))
        enlarged = cv2.remap(logit, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        masks[index, y1:y2, x1:x2] = enlarged > 0
    return masks


def _encoded(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return dict(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))


def _rows(picture: int, found: Found | Scene) -> list[dict[str, Any]]:
    """Return the shapes of one picture as COCO rows, without scores and ids."""
    shapes = zip(found.boxes, found.class_ids, found.masks, strict=True)
    return [
        {
            "image_id": picture,
            "category_id": int(class_id),
            "bbox": [float(v) for v in (x1, y1, x2 - x1, y2 - y1)],
            "segmentation": _encoded(mask),
            "area": float(mask.sum()),
            "iscrowd": 0,
        }
        for (x1, y1, x2, y2), class_id, mask in shapes
    ]


def evaluate(path: Path, pictures: int, height: int = SIZE, width: int = SIZE) -> dict[str, float]:
    """Return the mean average precisions 0..1 on the scenes with seeds 0 to `pictures`, drawn at this size."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for picture in range(pictures):
        scene = draw_scene(picture, height, width)
        found = detect(session, scene.image)
        truths += _rows(picture, scene)
        rows = _rows(picture, found)
        answers += [row | {"score": float(score)} for row, score in zip(rows, found.scores, strict=True)]
    data = {
        "images": [{"id": n, "height": height, "width": width} for n in range(pictures)],
        "categories": [{"id": n, "name": label} for n, label in enumerate(LABELS)],
        "annotations": [truth | {"id": n + 1} for n, truth in enumerate(truths)],
    }
    result: dict[str, float] = {"pictures": pictures, "height": height, "width": width, "shapes": len(truths)}
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        with contextlib.redirect_stdout(io.StringIO()):
            logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
            reference = COCO(data)
            judge = COCOeval_faster(reference, reference.loadRes(answers), kind)
            judge.run()
        result |= {f"{name}_map50_95": round(judge.stats[0], 4), f"{name}_map50": round(judge.stats[1], 4)}
    return result


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--height", type=int, default=SIZE)
    parser.add_argument("--width", type=int, default=SIZE)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger(__name__).info(
        "%s", json.dumps(evaluate(arguments.model, arguments.pictures, arguments.height, arguments.width))
    )


if __name__ == "__main__":
    main()
