"""KServe's stock servers doing the same work, for comparison: `python stock.py transformer|predictor --http_port …`.

The transformer decodes, letterboxes and selects with this project's own functions, where the SDK calls them: on the
event loop. It sends the tensor the fastest way the SDK has (gRPC, raw bytes); the predictor runs the same hollow graph.
Logs are off, which the SDK is faster with.
"""

from __future__ import annotations

import sys

import cv2
import kserve
import numpy as np
from hollow import CANDIDATES, OBJECTS, SIDE, hollow_graph
from kserve import InferInput, InferOutput, InferRequest, InferResponse

from yolo_predictor.session import Session, SessionOptions
from yolo_transformer.boxes import to_picture
from yolo_transformer.images import PictureLimits, decode
from yolo_transformer.letterbox import Placement, letterbox_into, plan
from yolo_transformer.nms import select

DATATYPES = {"float32": "FP32", "int32": "INT32"}


class Transformer(kserve.Model):
    """A picture in, its detections out; one picture a request."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.canvas = np.zeros((1, SIDE, SIDE, 3), np.uint8)
        self.ready = True
        cv2.setNumThreads(1)

    async def preprocess(self, payload: InferRequest, headers: object = None) -> InferRequest:
        """Return the predictor's request."""
        del headers
        image = decode(payload.inputs[0].as_numpy().flat[0], PictureLimits())
        self.plan = plan(*image.shape[:2], SIDE, SIDE, Placement.CENTER)
        letterbox_into(image, self.canvas[0], self.plan)
        images = InferInput("images", list(self.canvas.shape), "UINT8")
        images.set_data_from_numpy(self.canvas, binary_data=True)
        return InferRequest(model_name=self.name, infer_inputs=[images])

    async def postprocess(self, result: InferResponse, headers: object = None) -> InferResponse:
        """Return the client's answer."""
        del headers
        boxes, scores, class_ids = (output.as_numpy()[0] for output in result.outputs)
        kept = select(boxes, scores, class_ids, confidence=0.25, iou=0.65, max_detections=300)
        labels = np.array([str(class_id).encode() for class_id in class_ids[kept].tolist()], object)
        outputs = {
            "num_detections": np.array([len(kept)], np.int32),
            "boxes": to_picture(boxes[kept], self.plan)[np.newaxis],
            "scores": scores[kept][np.newaxis],
            "class_ids": class_ids[kept][np.newaxis],
            "labels": labels[np.newaxis],
        }
        return _response(self.name, outputs)


class Predictor(kserve.Model):
    """Runs the hollow graph."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.session = Session(hollow_graph(CANDIDATES, OBJECTS, SIDE), SessionOptions("cpu", 1))
        self.ready = True

    async def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:
        """Return the candidates."""
        del headers
        return _response(self.name, self.session.run(payload.inputs[0].as_numpy()))


def _response(name: str, arrays: dict[str, np.ndarray]) -> InferResponse:
    outputs = []
    for output_name, array in arrays.items():
        output = InferOutput(output_name, list(array.shape), DATATYPES.get(array.dtype.name, "BYTES"))
        output.set_data_from_numpy(array, binary_data=True)
        outputs.append(output)
    return InferResponse("1", name, outputs)


if __name__ == "__main__":
    kind = {"transformer": Transformer, "predictor": Predictor}[sys.argv[1]]
    kserve.ModelServer(enable_latency_logging=False).start([kind("hollow")])
