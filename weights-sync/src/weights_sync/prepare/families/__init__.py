"""The families that `prepare` knows, one module each: how to tell them, and how to decode their heads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from weights_sync.prepare.card import Placement
from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families import apart, end2end, listed, nanodet, raw, yolov5, yolov6, yolov8, yolox
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of head, and what the network in front of it wants."""

    names: tuple[str, ...]
    """What it is called where nothing else is known, and the other models that share the head."""
    fits: Callable[[Facts], bool]
    """Whether the outputs have shapes that `decode` can work on."""
    matches: Callable[[Facts], bool]
    """Whether a network of unknown family is of this one."""
    classes: Callable[[Facts, int], int]
    """Number of classes, given the number of mask coefficients; 0 where the graph does not tell."""
    decode: Callable[[Editor, Facts, int, int], Candidates]
    """Append the decoding nodes; takes the number of candidates and of mask coefficients."""
    placement: Placement = "center"
    divisor: float | tuple[float, ...] = 255
    """What the pixels are divided by; of each channel, in the network's order, where they differ."""
    mean: tuple[float, ...] = ()
    """What is taken off the pixels of each channel before that."""
    bgr: bool = False
    nms_inside: bool = False
    """Whether no two candidates are the same object."""


ANCHORS = ("yolov5", "yolov3", "yolov4", "yolov7", "yolov7-tiny")
ANCHOR_FREE = ("yolov8", "yolov3u", "yolov5u", "yolov9", "yolov10", "yolo11", "yolo12", "yolo26")
CHOSEN = ("end2end", "yolov5", "yolov6", "yolov7", *ANCHOR_FREE)

FAMILIES = (
    # In front, for the others insist on an output of rank 3.
    Family(CHOSEN, end2end.fits, end2end.matches, end2end.classes, end2end.decode, nms_inside=True),
    Family(CHOSEN, apart.fits, apart.matches, end2end.classes, apart.decode, nms_inside=True),
    Family(CHOSEN, listed.fits, listed.matches, end2end.classes, listed.decode, nms_inside=True),
    Family(("yolov7",), raw.fits, raw.matches, raw.classes, partial(raw.decode, anchors=raw.YOLOV7)),
    Family(("yolov5", "yolov7-tiny"), raw.fits, raw.matches, raw.classes, partial(raw.decode, anchors=raw.YOLOV5)),
    # In front of those with decoded boxes: its four grids are YOLOv6's and YOLOv8's too.
    Family(
        ("nanodet",),
        nanodet.fits,
        nanodet.matches,
        nanodet.classes,
        nanodet.decode,
        placement="stretch",
        divisor=nanodet.DEVIATION,
        mean=nanodet.MEAN,
        bgr=True,
    ),
    # In front of YOLOX, whose rows have one column more.
    Family(ANCHOR_FREE, yolov8.fits, yolov8.matches, yolov8.classes, yolov8.decode),
    Family(
        ("yolox",), yolox.fits, yolox.matches, yolox.classes, yolox.decode, placement="top-left", divisor=1, bgr=True
    ),
    Family(ANCHORS, yolov5.fits, yolov5.matches, yolov5.classes, yolov5.decode),
    # What YOLOX leaves of this shape, and rows like YOLOv5's.
    Family(("yolov6",), yolov6.fits, yolov6.matches, yolov5.classes, yolov5.decode),
)
