"""The sidecar: a small YAML beside a model that says what its file does not, or says wrongly.

`names` is written as the data YAMLs of Ultralytics and MindYOLO write it: a list, or a map from 0, 1, 2… to names.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from weights_sync.errors import SidecarError, SourceError
from weights_sync.plain_yaml import only_document

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1 << 18
"""A sidecar with the names of ten thousand classes has fewer."""
MAX_SIDE = 8192
MAX_STRIDE = 1024
MAX_CLASSES = 100_000
TASKS = ("detect", "segment")
SAME = {"labels": "names", "size": "imgsz"}
"""Other names of the same keys."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says; None and empty where it says nothing."""

    name: str
    """The file's, for messages."""
    sha256: str
    """Hexadecimal, of its bytes."""
    labels: tuple[str, ...] = ()
    classes: int | None = None
    """How many there are; as many as labels, where there are any."""
    task: str | None = None
    stride: int | None = None
    """Pixels; of several the largest."""
    size: tuple[int, int] | None = None
    """Height and width of the letterbox, in pixels."""
    family: str | None = None

    def over(self, metadata: Mapping[str, str], default: Callable[[int], tuple[str, ...]]) -> dict[str, str]:
        """Return what it says as metadata, as Ultralytics writes them; `default` names classes that nobody named."""
        labels = self.labels or (default(self.classes) if self.classes and "names" not in metadata else ())
        pairs = {
            "names": str(list(labels)) if labels else "",
            "task": self.task or "",
            "stride": str(self.stride or ""),
            "imgsz": str(list(self.size)) if self.size else "",
        }
        return {key: value for key, value in pairs.items() if value}

    def digest(self, digest: str) -> str:
        """Return the sha256 (hex) of a model of that sha256 and this: other labels are another model to a cache."""
        return hashlib.sha256(f"{digest} {self.sha256}".encode()).hexdigest()


def beside(model: Path) -> Path | None:
    """Return the YAML of the same name beside a file."""
    try:
        return next((file for suffix in SUFFIXES if (file := model.with_suffix(suffix)).is_file()), None)
    except (OSError, ValueError):
        # A name that no file can have; whoever reads the model says so.
        return None


def read_bytes(file: Path) -> bytes:
    """Return the bytes of a sidecar, which are few."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"can not read {file.name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SidecarError(f"{file.name} is no sidecar: it has more than {MAX_BYTES} bytes")
    return data


def read_sidecar(file: Path) -> Sidecar:
    """Read a sidecar; whatever is wrong with it is refused as `SidecarError`."""
    data = read_bytes(file)
    try:
        said = _fields(_parsed(data))
    except ValueError as error:
        raise SidecarError(f"the sidecar {file.name} {error}") from error
    return Sidecar(file.name, hashlib.sha256(data).hexdigest(), **said)


def _parsed(data: bytes) -> dict[str, Any]:
    found = only_document(data)
    if not isinstance(found, dict):
        raise ValueError("holds no keys and values")  # noqa: TRY004 - the caller names the file for all alike
    return found


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Sidecar`; a `ValueError` says what the file does wrong."""
    stated: dict[str, Any] = {}
    for key, value in found.items():
        if key not in _READERS and key not in SAME:
            raise ValueError(_unknown(str(key)))
        known = SAME.get(key, key)
        if known in stated:
            raise ValueError(f"has two keys for one thing: {key} is {known}")
        stated[known] = _READERS[known](known if known == key else key, value)
    names, count = stated.get("names", ()), stated.get("nc")
    if names and count not in {None, len(names)}:
        raise ValueError(f"names {len(names)} classes, and its nc is {count}")
    return {_FIELDS.get(key, key): value for key, value in stated.items()} | {"classes": len(names) or count}


def _unknown(key: str) -> str:
    known = (*_READERS, *SAME)
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"has an unknown key {key[:40]!r}: {hint}"


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        if set(value) != set(range(len(value))):
            raise ValueError(f"has {key} that are not numbered 0, 1, 2…")
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list) or not value:
        raise ValueError(f"has {key} that are no list, and no map from 0, 1, 2… to names")
    for number, name in enumerate(value):
        # YAML reads no, off and y as truth values, and 1.0 as a number.
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise ValueError(f"has a class {number} whose name is no text: put it in quotes")
    return tuple(str(name) for name in value)


def _count(key: str, value: Any) -> int:
    return _number(key, value, MAX_CLASSES)


def _stride(key: str, value: Any) -> int:
    return max(_number(key, each, MAX_STRIDE) for each in (value if isinstance(value, list) and value else [value]))


def _size(key: str, value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise ValueError(f"has an {key} that is no number of pixels, and no list of height and width")
    height, width = (_number(key, side, MAX_SIDE) for side in sides)
    return height, width


def _number(key: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"has a value of {key} that is no whole number of 1 to {most}")
    return value


def _task(key: str, value: Any) -> str:
    if value not in TASKS:
        raise ValueError(f"has a {key} that is none of {', '.join(TASKS)}")
    return str(value)


def _family(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has a {key} that is no text")  # noqa: TRY004 - the caller names the file for all alike
    return value


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "names": _names,
    "nc": _count,
    "task": _task,
    "stride": _stride,
    "imgsz": _size,
    "family": _family,
}
_FIELDS = {"names": "labels", "nc": "classes", "imgsz": "size"}
