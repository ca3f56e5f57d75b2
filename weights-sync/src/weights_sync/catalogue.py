"""The models that have a name: those of this package, and a site's own."""

from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from weights_sync.cache import Cache
from weights_sync.errors import CatalogueError, UnknownModelError
from weights_sync.signatures import Signatures


@dataclass(frozen=True, slots=True)
class Entry:
    """One named model."""

    name: str
    sources: tuple[str, ...]
    """URIs of the same bytes, tried in order."""
    licence: str = ""
    family: str = ""
    task: str = ""
    sha256: str = ""
    """Hexadecimal digest; empty for a model that comes with this package."""
    bytes: int = 0
    """Size of the file, 0 where it is not fixed."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a place says of its models: its own ones, where they lie, whom it trusts."""

    catalogue: str = ""
    """Path of a catalogue file; its models come before those of this package with the same name."""
    mirror: str = ""
    """URI under which the web's files lie as HOST/PATH; it is asked before the web is."""
    cache: Cache | None = None
    """What this node has already."""
    signatures: Signatures = field(default_factory=Signatures)
    """Whose models are trusted."""

    def sources(self, entry: Entry) -> tuple[str, ...]:
        """Return the URIs of a model, in the order in which to try them."""
        mirrored = []
        if self.mirror:
            webs = (urlsplit(source) for source in entry.sources)
            mirrored = [f"{self.mirror.rstrip('/')}/{web.hostname}{web.path}" for web in webs if web.hostname]
        return (*mirrored, *entry.sources)


def catalogue(site: Site | None = None) -> dict[str, Entry]:
    """Return every named model, the site's before the package's."""
    file = (site or Site()).catalogue
    if not file:
        return _packaged()
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CatalogueError(f"can not read the catalogue {file}: {getattr(error, 'strerror', error)}") from error
    own = _parse(text, file, Path(file).absolute().parent)
    return own | {name: entry for name, entry in _packaged().items() if name not in own}


def find(name: str, site: Site | None = None) -> Entry:
    """Return the model of that name."""
    models = catalogue(site)
    try:
        return models[name]
    except KeyError:
        raise UnknownModelError(f"no model {name[:80]!r} in the catalogue; there are {', '.join(models)}") from None


@cache
def _packaged() -> dict[str, Entry]:
    text = resources.files("weights_sync").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return _parse(text, "catalogue.yaml", Path())


def _parse(text: str, file: str, folder: Path) -> dict[str, Entry]:
    """Read a catalogue; paths in it start at `folder`."""
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise CatalogueError(f"the catalogue {file} is no YAML: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(found, dict):
        raise CatalogueError(f"the catalogue {file} must map names to models")
    return {str(name): _entry(str(name), stated, file, folder) for name, stated in found.items()}


def _entry(name: str, stated: Any, file: str, folder: Path) -> Entry:
    where = f"the catalogue {file}, model {name[:80]!r}:"
    types = {known.name: known.type for known in fields(Entry) if known.name not in {"name", "sources"}}
    sources = stated.pop("sources", None) if isinstance(stated, dict) else None
    if not isinstance(sources, list) or not sources or not all(isinstance(source, str) for source in sources):
        raise CatalogueError(f"{where} it needs `sources`, a list of URIs")
    if any(source.lower().startswith("yolo:") for source in sources):
        raise CatalogueError(f"{where} a source is a URI of a file, not another name")
    for key, value in stated.items():
        if key not in types:
            raise CatalogueError(f"{where} there is no {str(key)[:40]!r}; there are sources, {', '.join(types)}")
        if not isinstance(value, types[key]) or isinstance(value, bool):  # type: ignore[arg-type] # classes, not texts
            raise CatalogueError(f"{where} {key} must be of type {types[key].__name__}")  # type: ignore[union-attr]
    whole = tuple(source if ":" in source else str(folder / source) for source in sources)
    return Entry(name=name, sources=whole, **stated)
