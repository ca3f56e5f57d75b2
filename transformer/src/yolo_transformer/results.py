"""From the predictor's candidates to the answer: detections, and their forms on the wire."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from servekit.inference import InferenceResponse
from servekit.tensors import Tensor, bytes_array
from yolo_transformer.annotate import annotate, encode_jpeg
from yolo_transformer.boxes import to_picture
from yolo_transformer.card import ModelCard
from yolo_transformer.detections import Detections
from yolo_transformer.masks import Mask, encode, instance_masks
from yolo_transformer.nms import select
from yolo_transformer.options import DetectionOptions
from yolo_transformer.pictures import PlacedPicture


@dataclass(frozen=True, slots=True)
class PictureResult:
    """What was found in a picture of `height` x `width` pixels.

    `labels` and `masks` go with the detections, `masks` encoded as asked and empty without; `annotated` is a JPEG,
    empty unless it was asked for.
    """

    height: int
    width: int
    detections: Detections
    labels: tuple[str, ...]
    masks: tuple[Any, ...] = ()
    annotated: bytes = b""


@dataclass(frozen=True, slots=True)
class DetectionResponse(InferenceResponse):
    """A response that also holds its results by picture, for the answers that are no tensors."""

    pictures: tuple[PictureResult, ...] = ()


def detect(
    candidates: Mapping[str, npt.NDArray[Any]],
    index: int,
    picture: PlacedPicture,
    card: ModelCard,
    options: DetectionOptions,
) -> PictureResult:
    """Return what the candidates of picture `index` of a batch come to."""
    kept = select(
        candidates["boxes"][index],
        candidates["scores"][index],
        candidates["class_ids"][index],
        confidence=options.confidence_threshold,
        iou=options.iou_threshold if card.needs_nms else 1.0,
        max_detections=options.max_detections,
        classes=options.classes,
        agnostic=options.agnostic_nms,
    )
    boxes = to_picture(candidates["boxes"][index][kept], picture.plan)
    # What lies in the padding alone is nowhere in the picture.
    visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = kept[visible]
    detections = Detections(boxes[visible], candidates["scores"][index][kept], candidates["class_ids"][index][kept])
    labels = tuple(card.label(class_id) for class_id in detections.class_ids.tolist())
    masks: tuple[Mask, ...] = ()
    if "prototypes" in candidates and (options.mask_format != "none" or options.return_image):
        coefficients = candidates["mask_coefficients"][index][kept]
        prototypes = candidates["prototypes"][index]
        masks = instance_masks(coefficients, prototypes, detections.boxes, picture.plan, card.height, card.width)
    annotated = b""
    if picture.image is not None:
        drawn = annotate(picture.image, detections.boxes, detections.class_ids, detections.scores, labels, masks)
        annotated = encode_jpeg(drawn)
    encoded: tuple[Any, ...] = ()
    if options.mask_format != "none":
        encoded = tuple(encode(mask, options.mask_format, picture.height, picture.width) for mask in masks)
    return PictureResult(picture.height, picture.width, detections, labels, encoded, annotated)


def tensors_of(
    results: Sequence[PictureResult], card: ModelCard, options: Sequence[DetectionOptions]
) -> tuple[Tensor, ...]:
    """Return the results as the protocol's outputs, padded with zeros to the most detections of any picture."""
    most = max(len(result.detections) for result in results)
    batch = len(results)
    boxes = np.zeros((batch, most, 4), np.float32)
    scores = np.zeros((batch, most), np.float32)
    class_ids = np.zeros((batch, most), np.int32)
    labels = np.full((batch, most), b"", object)
    masks = np.full((batch, most), b"", object)
    for index, result in enumerate(results):
        count = len(result.detections)
        boxes[index, :count] = result.detections.boxes
        scores[index, :count] = result.detections.scores
        class_ids[index, :count] = result.detections.class_ids
        labels[index, :count] = [label.encode() for label in result.labels]
        masks[index, : len(result.masks)] = [orjson.dumps(mask) for mask in result.masks]
    tensors = [
        Tensor("num_detections", np.array([len(result.detections) for result in results], np.int32)),
        Tensor("boxes", boxes),
        Tensor("scores", scores),
        Tensor("class_ids", class_ids),
        Tensor("labels", labels),
    ]
    if card.task == "segment" and any(option.mask_format != "none" for option in options):
        tensors.append(Tensor("masks", masks))
    if any(option.return_image for option in options):
        tensors.append(Tensor("annotated_image", bytes_array([result.annotated for result in results])))
    return tuple(tensors)


def document_of(result: PictureResult) -> dict[str, Any]:
    """Return a result as the JSON object of V1 and of plain HTTP."""
    found = result.detections
    detections = [
        {"box": box, "score": score, "class_id": class_id, "label": label}
        for box, score, class_id, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), result.labels, strict=True
        )
    ]
    for detection, mask in zip(detections, result.masks, strict=False):
        detection["mask"] = mask
    document: dict[str, Any] = {"detections": detections, "width": result.width, "height": result.height}
    if result.annotated:
        document["annotated_image"] = {"b64": base64.b64encode(result.annotated).decode()}
    return document


def result_of(document: Mapping[str, Any]) -> PictureResult:
    """Return the result that `document_of` made this object of, to the bit.

    Raises:
        KeyError, TypeError, ValueError: it did not.

    """
    found = document["detections"]
    detections = Detections(
        np.array([each["box"] for each in found], np.float32).reshape(-1, 4),
        np.array([each["score"] for each in found], np.float32),
        np.array([each["class_id"] for each in found], np.int32),
    )
    return PictureResult(
        document["height"],
        document["width"],
        detections,
        tuple(each["label"] for each in found),
        tuple(each["mask"] for each in found if "mask" in each),
        base64.b64decode(document["annotated_image"]["b64"]) if "annotated_image" in document else b"",
    )
