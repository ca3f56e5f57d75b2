"""A prepared graph in ONNX Runtime, on one core: what it finds in a picture, and what that costs."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto

from weights_sync.prepare.card import read_card
from weights_sync.quantise.accuracy import Detections, suppress
from weights_sync.quantise.pictures import Canvas

FAINTEST = 0.001
"""Score below which a candidate is none; COCO's evaluations are made with it."""
FATAL = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What a graph gives for one picture."""

    found: Detections
    masks: npt.NDArray[np.bool_]
    """(N, h, w): the mask of each confident detection in its box, in cells of the prototypes; (N, 0, 0) without."""
    cpu_ms: float


class Running:
    """A loaded graph."""

    def __init__(self, prepared: ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        self._card = read_card(prepared)
        self._session = onnxruntime.InferenceSession(
            prepared.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.generic]]:
        """Return the graph's outputs for pictures (B, H, W, 3) uint8."""
        outputs: list[npt.NDArray[np.generic]] = self._session.run(None, {"images": pictures})
        return outputs

    def look(self, canvas: Canvas) -> Seen:
        """Return what the graph finds in a picture, after the suppression that it owes."""
        begun = time.process_time()
        boxes, scores, classes, *segments = (output[0] for output in self.run(canvas[None]))
        cpu_ms = (time.process_time() - begun) * 1000
        found = Detections(
            boxes.astype(np.float64), scores.astype(np.float64), classes.astype(np.int64), np.arange(len(scores))
        )
        whole = np.isfinite(found.boxes).all(axis=1) & (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
        found = found.where((found.scores >= FAINTEST) & whole)
        found = suppress(found) if self._card.nms else found
        return Seen(found, _masks(found.confident(), segments, canvas.shape[0]), cpu_ms)


def _masks(found: Detections, segments: list[npt.NDArray[np.generic]], height: int) -> npt.NDArray[np.bool_]:
    """Return each detection's mask, off where its box is not; segments: coefficients (K, C), prototypes (C, h, w)."""
    if not segments:
        return np.zeros((len(found.scores), 0, 0), np.bool_)
    coefficients, prototypes = (part.astype(np.float32) for part in segments)
    masks = np.tensordot(coefficients[found.rows], prototypes, 1) > 0
    y, x = np.indices(prototypes.shape[1:]) + 0.5
    left, top, right, bottom = (found.boxes.T * prototypes.shape[1] / height)[:, :, None, None]
    return np.asarray(masks & (x > left) & (x < right) & (y > top) & (y < bottom), np.bool_)
