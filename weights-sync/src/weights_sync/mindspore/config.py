"""MindYOLO's model YAML: what its network is built of, and what its classes are called."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights_sync.errors import SourceError, UnsupportedModelError
from weights_sync.plain_yaml import first_document, only_document

MAX_BYTES = 1 << 20
MAX_BASES = 16
MAX_ROWS = 1000
MAX_REPEATS = 100
MAX_CHANNELS = 1 << 16
USUAL_SIZE, MAX_SIDE = 640, 8192
CONSTANTS = {"None": None, "True": True, "False": False}
PARTS = ("backbone", "head")


@dataclass(frozen=True, slots=True)
class Row:
    """One module of the network."""

    sources: tuple[int, ...]
    """Rows that it reads: -1 for the one before."""
    joins: bool
    """Whether it takes a list of values, even if of one."""
    repeats: int
    """Already scaled."""
    module: str
    args: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """A network, as its YAML describes it."""

    name: str
    """The file's, for messages."""
    rows: tuple[Row, ...]
    classes: int
    labels: tuple[str, ...]
    """Empty where the YAML names none."""
    side: int
    """Pixels, of the square picture that the network was trained with."""
    width: float
    max_channels: float
    scale: str

    def channels(self, nominal: Any) -> int:
        """Return the scaled number of channels, a multiple of eight."""
        scaled = math.ceil(min(_number(nominal), self.max_channels) * self.width / 8) * 8
        if not 0 < scaled <= MAX_CHANNELS:
            raise ValueError(f"{scaled} channels")
        return scaled


def read_config(path: Path) -> tuple[Config, bytes]:
    """Read a YAML and the ones it is based on; return it, and all their bytes."""
    texts: list[bytes] = []
    try:
        fields = _merged(path, texts)
        return _config(path.name, fields), b"".join(texts)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UnsupportedModelError(f"{path.name} describes no MindYOLO network: {reason}") from error


def _config(name: str, fields: Mapping[str, Any]) -> Config:
    network = _mapping(fields.get("network") or fields)
    rows = [row for part in PARTS for row in network.get(part) or ()]
    if not rows or len(rows) > MAX_ROWS or not network.get("head"):
        raise ValueError(f"it has {len(rows)} rows of backbone and head")
    data = _mapping(fields.get("data") or {})
    labels = next((places["names"] for places in (data, fields, network) if places.get("names")), ())
    labels = list(labels.values() if isinstance(labels, Mapping) else labels)
    counts = [places["nc"] for places in (data, fields, network) if "nc" in places]
    classes = int(next(iter(counts), len(labels) or 80))
    known = CONSTANTS | {key: value for key, value in network.items() if key not in PARTS} | {"nc": classes}
    depth = _number(network.get("depth_multiple", 1))
    return Config(
        name,
        tuple(_row(row, depth, known) for row in rows),
        classes,
        tuple(_text(label) for label in labels),
        _side(fields.get("img_size", USUAL_SIZE)),
        _number(network.get("width_multiple", 1)),
        _number(network.get("max_channels") or math.inf),
        _text(network.get("scale") or ""),
    )


def _row(row: Any, depth: float, known: Mapping[str, Any]) -> Row:
    sources, repeats, module, given = row
    module, args, options = _text(module), [], {}
    for value in given:
        key, equals, text = value.partition("=") if isinstance(value, str) else ("", "", "")
        if equals:
            options[key.strip()] = known.get(text.strip(), only_document(text))
        else:
            args.append(known.get(value, value) if isinstance(value, str) else value)
    repeats = int(repeats)
    repeats = max(round(repeats * depth), 1) if repeats > 1 else repeats
    if not 0 < repeats <= MAX_REPEATS:
        raise ValueError(f"{repeats} repeats of {module}")
    joins = isinstance(sources, list)
    read = tuple(int(source) for source in (sources if joins else [sources]))
    return Row(read, joins, repeats, module, tuple(args), options)


def _side(size: Any) -> int:
    sides = {int(side) for side in (size if isinstance(size, list) else [size])}
    if len(sides) != 1 or not 0 < min(sides) <= MAX_SIDE:
        raise ValueError("its img_size is no square of pixels")
    return sides.pop()


def _number(value: Any) -> float:
    number = float(value)
    if not number > 0:
        raise ValueError(f"{number} is no positive number")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str | int):
        # Not shown: it may be as long as the file.
        raise TypeError(f"it holds {type(value).__name__} where a text belongs")
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it holds {type(value).__name__} where keys and values belong")
    return value


def _merged(path: Path, texts: list[bytes]) -> Mapping[str, Any]:
    """Read a YAML over those in its `__BASE__`, which may be missing: most hold what training needs."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"can not read {path.name}: {error.strerror}") from error
    texts.append(text)
    if len(text) > MAX_BYTES or len(texts) > MAX_BASES:
        raise UnsupportedModelError(f"{path.name} is no model YAML: over {MAX_BYTES} bytes or {MAX_BASES} base files")
    own = first_document(text)
    if not isinstance(own, dict):
        raise UnsupportedModelError(f"{path.name} is no model YAML: it holds no keys and values")
    fields: Mapping[str, Any] = {}
    bases = own.pop("__BASE__", None)
    for base in bases if isinstance(bases, list) else ():
        below = path.parent / _text(base)
        if below.is_file():
            fields = _over(_merged(below, texts), fields)
    return _over(own, fields)


def _over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees of settings; the upper one's win."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _over(value, below) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
