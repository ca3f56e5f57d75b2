"""The card: what a prepared graph says about itself, as text beside the graph."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from onnx import ModelProto

from weights_sync.errors import DamagedModelError

PREPARED_FORMAT = "1"
"""Version of the prepared graph: its inputs, outputs and card."""

Task = Literal["detect", "segment"]
Placement = Literal["center", "top-left", "stretch"]


@dataclass(frozen=True, slots=True)
class Card:
    """What a transformer has to know of a model."""

    task: Task
    family: str
    labels: tuple[str, ...]
    nms: bool
    """Whether the transformer still owes the non-maximum suppression."""
    size: tuple[int, int]
    """Height and width of the letterbox, in pixels; the preferred one where the graph takes any."""
    stride: int
    """Sides of the letterbox are multiples of this, in pixels."""
    dynamic: bool
    """Whether the graph takes any height and width."""
    placement: Placement
    """Where the picture lies in the letterbox."""
    digest: str
    """`sha256:` and the hexadecimal digest of the file that was prepared."""

    def properties(self) -> dict[str, str]:
        """Return the keys and values that travel on the wire."""
        shape = {
            "size": list(self.size),
            "stride": self.stride,
            "dynamic": self.dynamic,
            "placement": self.placement,
        }
        return {
            "yolo.task": self.task,
            "yolo.family": self.family,
            "yolo.labels": json.dumps(self.labels, ensure_ascii=False),
            "yolo.nms": "true" if self.nms else "false",
            "yolo.input": json.dumps(shape),
            "model.digest": self.digest,
        }


def metadata(model: ModelProto) -> dict[str, str]:
    """Return the free text pairs beside a graph."""
    return {entry.key: entry.value for entry in model.metadata_props}


def is_prepared(model: ModelProto) -> bool:
    """Tell whether a graph came out of `prepare`, in this format."""
    return metadata(model).get("yolo.prepared") == PREPARED_FORMAT


def write_card(model: ModelProto, card: Card) -> None:
    """Put the card beside the graph; what else stood there (authors, licence) stays."""
    set_metadata(model, card.properties() | {"yolo.prepared": PREPARED_FORMAT})


def set_metadata(model: ModelProto, pairs: Mapping[str, str]) -> None:
    """Put pairs beside the graph; others stay."""
    merged = metadata(model) | dict(pairs)
    del model.metadata_props[:]
    for key, value in merged.items():
        model.metadata_props.add(key=key, value=value)


def read_card(model: ModelProto) -> Card:
    """Read the card of a prepared graph; a missing or unreadable one raises `DamagedModelError`."""
    pairs = metadata(model)
    try:
        shape = json.loads(pairs["yolo.input"])
        height, width = shape["size"]
        return Card(
            task=cast("Task", pairs["yolo.task"]),
            family=pairs["yolo.family"],
            labels=tuple(json.loads(pairs["yolo.labels"])),
            nms=pairs["yolo.nms"] == "true",
            size=(int(height), int(width)),
            stride=int(shape["stride"]),
            dynamic=bool(shape["dynamic"]),
            placement=shape["placement"],
            digest=pairs["model.digest"],
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedModelError(
            "the card of this prepared model is damaged: prepare the original file again"
        ) from error
