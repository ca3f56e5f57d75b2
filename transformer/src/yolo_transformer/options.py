"""What a request may ask for: its parameters, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from servekit.errors import InvalidRequest
from servekit.inference import Parameter

MASK_FORMATS: Final = ("polygon", "rle", "none")
MAX_DETECTIONS: Final = 1000
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How candidates become detections; `classes` holds the ids that are wanted, all when None.

    `use_cache` allows an answer that was found before.
    """

    confidence_threshold: float = 0.25
    iou_threshold: float = 0.65
    max_detections: int = 300
    classes: frozenset[int] | None = None
    agnostic_nms: bool = False
    return_image: bool = False
    mask_format: str = "polygon"
    use_cache: bool = True


OPTION_NAMES: Final = tuple(field.name for field in fields(DetectionOptions))


def parse_options(parameters: Mapping[str, Parameter], labels: Sequence[str]) -> DetectionOptions:
    """Return the options in a request's parameters; numbers and truth values may come as texts.

    Names that mean nothing here are left alone: protocols and proxies bring their own.

    Raises:
        InvalidRequest: a value is not one that its parameter takes.

    """
    defaults = DetectionOptions()

    def get(name: str, parse: Callable[[str, Parameter], Any], default: Any) -> Any:
        return parse(name, parameters[name]) if name in parameters else default

    return DetectionOptions(
        confidence_threshold=get("confidence_threshold", _fraction, defaults.confidence_threshold),
        iou_threshold=get("iou_threshold", _fraction, defaults.iou_threshold),
        max_detections=get("max_detections", _count, defaults.max_detections),
        classes=_classes(parameters["classes"], labels) if "classes" in parameters else None,
        agnostic_nms=get("agnostic_nms", _truth, defaults.agnostic_nms),
        return_image=get("return_image", _truth, defaults.return_image),
        mask_format=get("mask_format", _mask_format, defaults.mask_format),
        use_cache=get("use_cache", _truth, defaults.use_cache),
    )


def _fraction(name: str, value: Parameter) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:  # false for NaN too
        raise InvalidRequest(f"parameter '{name}' must be a number from 0 to 1, not '{_shown(value)}'")
    return number


def _count(name: str, value: Parameter) -> int:
    try:
        number = 0 if isinstance(value, bool) else float(value)
    except (ValueError, OverflowError):
        number = 0
    if not 1 <= number <= MAX_DETECTIONS or number != int(number):
        raise InvalidRequest(f"parameter '{name}' must be a whole number from 1 to {MAX_DETECTIONS}")
    return int(number)


def _truth(name: str, value: Parameter) -> bool:
    truth = _TRUTHS.get(str(value).strip().lower())
    if truth is None:
        raise InvalidRequest(f"parameter '{name}' must be true or false, not '{_shown(value)}'")
    return truth


def _mask_format(name: str, value: Parameter) -> str:
    if value not in MASK_FORMATS:
        raise InvalidRequest(f"parameter '{name}' must be one of {', '.join(MASK_FORMATS)}, not '{_shown(value)}'")
    return str(value)


def _classes(value: Parameter, labels: Sequence[str]) -> frozenset[int]:
    ids = {label: number for number, label in enumerate(labels)}
    wanted = set()
    for word in str(value).split(","):
        name = word.strip()
        number = int(name) if name.isdecimal() and len(name) < 10 else ids.get(name, -1)
        if not 0 <= number < len(labels):
            raise InvalidRequest(f"parameter 'classes': the model knows no class '{_shown(name)}'")
        wanted.add(number)
    return frozenset(wanted)


def _shown(value: object) -> str:
    return str(value)[:40]
