"""Names of a detector's classes."""

import ast
from collections.abc import Mapping

from weights_sync.errors import UnsupportedModelError

MAX_TEXT = 1 << 20
"""Characters of a label list that are read: a million make ten thousand long names."""

# fmt: off
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)
# fmt: on


def labels_for(metadata: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return `count` names: those in the metadata, else COCO's where there are 80, else numbered ones."""
    names = given_names(metadata)
    if not names:
        return default_labels(count)
    if len(names) != count:
        raise UnsupportedModelError(f"its metadata names {len(names)} classes, but its head has {count}")
    return names


def default_labels(count: int) -> tuple[str, ...]:
    """Return the names of classes that nobody named: COCO's where there are 80, else numbered ones."""
    return COCO if count == len(COCO) else tuple(f"class{number}" for number in range(count))


def given_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names in the metadata, none where it has none."""
    return parse_names(metadata["names"]) if "names" in metadata else ()


def parse_names(text: str) -> tuple[str, ...]:
    """Read `names` as Ultralytics writes it: the literal of a Python dict from 0, 1, 2… to names, or of a list."""
    if len(text) > MAX_TEXT:
        raise UnsupportedModelError(
            f"its metadata holds class names of {len(text)} characters; {MAX_TEXT} are the limit"
        )
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UnsupportedModelError("its metadata holds class names that are no Python or JSON list or dict") from error
    if isinstance(value, dict):
        if set(value) != set(range(len(value))):
            raise UnsupportedModelError("its metadata holds class names that are not numbered 0, 1, 2…")
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str | int) for name in value):
        raise UnsupportedModelError("its metadata holds class names that are no list of texts")
    return tuple(str(name) for name in value)
