"""What the predictor tells about its model: the properties of its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from servekit.errors import Unavailable
from yolo_transformer.letterbox import Placement


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A prepared graph's card; `height` and `width` are the letterbox in pixels."""

    task: str
    labels: tuple[str, ...]
    needs_nms: bool
    height: int
    width: int
    placement: Placement
    digest: str
    version: str
    properties: Mapping[str, str]

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ModelCard:
        """Return the card in a metadata's properties.

        Raises:
            Unavailable: they are no card, so that no picture can be answered with this predictor.

        """
        try:
            size = orjson.loads(properties["yolo.input"])
            height, width = map(int, size["size"])
            labels = orjson.loads(properties["yolo.labels"])
            if min(height, width) < 1 or not isinstance(labels, list):
                raise ValueError
            return cls(
                task=properties["yolo.task"],
                labels=tuple(str(label) for label in labels),
                needs_nms=properties["yolo.nms"] == "true",
                height=height,
                width=width,
                placement=Placement(size["placement"]),
                digest=properties["model.digest"],
                version=properties.get("model.version", ""),
                properties=properties,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Unavailable("the predictor's model metadata is no card of a prepared YOLO graph") from error

    def label(self, class_id: int) -> str:
        """Return a class's name, or its number where the card has no name for it."""
        return self.labels[class_id] if class_id < len(self.labels) else str(class_id)
