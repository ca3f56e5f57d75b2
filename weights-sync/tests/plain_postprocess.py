"""Plain numpy and OpenCV around a prepared graph: the letterbox before it, the NMS behind it."""

import cv2
import numpy as np


def letterbox(path, size, placement):
    """Return uint8 RGB (1, H, W, 3), and the scale and the offset (x, y) that lead back."""
    picture = cv2.imread(str(path))[:, :, ::-1]
    height, width = picture.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = round(width * scale), round(height * scale)
    left, top = (
        (0, 0)
        if placement == "top-left"
        else (round((size[1] - inner[0]) / 2 - 0.1), round((size[0] - inner[1]) / 2 - 0.1))
    )
    boxed = np.full((1, *size, 3), 114, np.uint8)
    boxed[0, top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    return boxed, scale, np.array([left, top, left, top]), np.array([width, height, width, height])


def iou(box, boxes):
    """Intersection over union of one box with many, (N,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inner = np.clip(high - low, 0, None).prod(1)
    return inner / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - inner + 1e-9)


def nms(boxes, scores, classes, threshold=0.65):
    """Greedy, a class at a time, best first; return the kept positions."""
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[(iou(boxes[best], boxes[left]) <= threshold) | (classes[left] != classes[best])]
    return np.array(kept, int)


def detections(outputs, scale, offset, limits, confidence, overlap=0.65):
    """Return the boxes in pixels of the picture, scores and classes that survive, and their positions."""
    boxes, scores, classes = (value[0] for value in outputs[:3])
    good = scores >= confidence
    boxes, scores, classes, at = boxes[good], scores[good], classes[good], np.flatnonzero(good)
    kept = nms(boxes, scores, classes, overlap)[:300]
    return np.clip((boxes[kept] - offset) / scale, 0, limits), scores[kept], classes[kept], at[kept]


def mask(coefficients, prototypes, box, back, side):
    """Return the bool mask of one box in its picture, off the whole cells that the picture covers in the letterbox."""
    (scale, offset, limits), cells = back, prototypes.shape[1]
    near = np.round(offset[:2] * cells / side).astype(int)
    far = np.round((offset[:2] + np.round(limits[:2] * scale)) * cells / side).astype(int)
    logits = np.tensordot(coefficients.astype(np.float32), prototypes.astype(np.float32), 1)
    covered = logits[near[1] : far[1], near[0] : far[0]]
    whole = cv2.resize(covered, tuple(int(length) for length in limits[:2]), interpolation=cv2.INTER_LINEAR) > 0
    left, top, right, bottom = (*np.floor(box[:2]).astype(int), *np.ceil(box[2:]).astype(int))
    inside = np.zeros_like(whole)
    inside[top:bottom, left:right] = whole[top:bottom, left:right]
    return inside


def unpack(rle):
    """Return the bool mask of COCO's compressed run lengths: five bits a character, less the one before the last."""
    counts, value, shift = [], 0, 0
    for character in rle["counts"].encode():
        digit = character - 48
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (1 << shift) if digit & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return runs.reshape(rle["size"][::-1]).T
