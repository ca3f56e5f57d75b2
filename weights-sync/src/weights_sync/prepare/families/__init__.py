"""The families that `prepare` knows, one module each: how to tell them, and how to decode their heads."""

from collections.abc import Callable
from dataclasses import dataclass

from weights_sync.prepare.card import Placement
from weights_sync.prepare.facts import Facts
from weights_sync.prepare.families import yolov5, yolov8, yolox
from weights_sync.prepare.graph import Editor
from weights_sync.prepare.head import Candidates


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of head, and what the network in front of it wants."""

    name: str
    fits: Callable[[Facts], bool]
    """Whether the predictions have a shape that `decode` can work on."""
    matches: Callable[[Facts], bool]
    """Whether a network of unknown family is of this one."""
    classes: Callable[[Facts, int], int]
    """Number of classes, given the number of mask coefficients."""
    decode: Callable[[Editor, Facts, int, int], Candidates]
    """Append the decoding nodes; takes the number of candidates and of mask coefficients."""
    placement: Placement = "center"
    divisor: float = 255
    """What the pixels are multiplied with."""
    bgr: bool = False


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "yolox", yolox.fits, yolox.matches, yolox.classes, yolox.decode, placement="top-left", divisor=1, bgr=True
        ),
        Family("yolov5", yolov5.fits, yolov5.matches, yolov5.classes, yolov5.decode),
        Family("yolov8", yolov8.fits, yolov8.matches, yolov8.classes, yolov8.decode),
    )
}
