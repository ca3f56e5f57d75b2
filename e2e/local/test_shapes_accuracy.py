"""The embedded model's accuracy on pictures it never saw, through the prepared graph and the transformer's steps."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask

from weights_sync.prepare import prepare_model
from yolo_client.shapes import LABELS, TRAINING_SEEDS, Scene, draw_scene
from yolo_predictor.session import Session, SessionOptions
from yolo_transformer.card import ModelCard
from yolo_transformer.options import DetectionOptions
from yolo_transformer.pictures import RequestLimits, place
from yolo_transformer.results import detect

SEEDS = range(1000, 1300)
SIDE = 320
OPTIONS = DetectionOptions(confidence_threshold=0.001, iou_threshold=0.65, max_detections=100, mask_format="rle")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    assert max(SEEDS) < TRAINING_SEEDS
    return [draw_scene(seed, SIDE, SIDE) for seed in SEEDS]


@pytest.fixture(scope="module")
def truth(scenes: list[Scene]) -> COCO:
    annotations = []
    for number, scene in enumerate(scenes):
        for box, class_id, mask in zip(scene.boxes, scene.class_ids, scene.masks, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(class_id),
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "segmentation": {"size": rle["size"], "counts": as_text(rle["counts"])},
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                }
            )
    return COCO(
        {
            "images": [{"id": number, "height": SIDE, "width": SIDE} for number in range(len(scenes))],
            "categories": [{"id": number, "name": label} for number, label in enumerate(LABELS)],
            "annotations": annotations,
        }
    )


@pytest.fixture(scope="module")
def found(scenes: list[Scene]) -> list[dict[str, object]]:
    weights = files("weights_sync") / "models" / "shapes.onnx"
    session = Session(prepare_model(weights.read_bytes()).SerializeToString(), SessionOptions("cpu", 2))
    card = ModelCard.from_properties({**session.properties, "model.version": "1"})
    results = []
    for number, scene in enumerate(scenes):
        canvas, (picture,) = place(scene.image[None], card, RequestLimits(), [False])
        result = detect(session.run(canvas), 0, picture, card, OPTIONS)
        detections = result.detections
        for box, score, class_id, mask in zip(
            detections.boxes.tolist(),
            detections.scores.tolist(),
            detections.class_ids.tolist(),
            result.masks,
            strict=True,
        ):
            results.append(
                {
                    "image_id": number,
                    "category_id": class_id,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                    "segmentation": mask,
                }
            )
    return results


@pytest.mark.parametrize(("kind", "least"), [("bbox", 0.85), ("segm", 0.75)])
def test_the_mean_average_precision_is_high_enough(
    kind: str, least: float, truth: COCO, found: list[dict[str, object]]
) -> None:
    evaluation = COCOeval_faster(truth, truth.loadRes(found), iouType=kind, print_function=lambda *_: None)
    evaluation.run()
    assert evaluation.stats[0] >= least


def as_text(counts: bytes | str) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts
