"""The models that have a name."""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from weights_sync.errors import UnknownModelError


@dataclass(frozen=True, slots=True)
class Entry:
    """One named model."""

    name: str
    sources: tuple[str, ...]
    """URIs of the same bytes, tried in order."""
    licence: str
    family: str
    task: str
    sha256: str = ""
    """Hexadecimal digest; empty for a model that comes with this package."""
    bytes: int = 0
    """Size of the file, 0 where it is not fixed."""


@cache
def catalogue() -> dict[str, Entry]:
    """Return every named model, in the order of the file."""
    text = resources.files("weights_sync").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return {
        name: Entry(name=name, **{**fields, "sources": tuple(fields["sources"])})
        for name, fields in yaml.safe_load(text).items()
    }


def find(name: str) -> Entry:
    """Return the model of that name."""
    try:
        return catalogue()[name]
    except KeyError:
        raise UnknownModelError(
            f"no model {name[:80]!r} in the catalogue; there are {', '.join(catalogue())}"
        ) from None
