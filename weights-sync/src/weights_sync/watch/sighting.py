"""What a source says of its content without giving it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from weights_sync.catalogue import Site, find
from weights_sync.credentials import host_login
from weights_sync.errors import SourceError
from weights_sync.exchange import shown
from weights_sync.hub import pinned
from weights_sync.limits import Limits
from weights_sync.objects import read_object_mark
from weights_sync.oci import read_artefact_mark
from weights_sync.sidecar import beside
from weights_sync.sources import CLAIMS, split_digest
from weights_sync.stores.azure import needs_azure
from weights_sync.web import read_mark


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a URI stands for now."""

    uri: str
    """What to pull: for a branch of the hub, the file at the commit that it is at."""
    mark: str
    """A text that is another when the content may be; "" where only the content itself tells."""


def sight(uri: str, limits: Limits, site: Site) -> Sighting:
    """Ask a source what it has; no weights are transferred."""
    place, wanted = split_digest(uri)
    scheme, separator, _ = place.partition(":")
    scheme = scheme.lower() if separator else "file"
    if scheme == "yolo":
        entry = find(place.partition("://")[2], site)
        wanted = wanted or entry.sha256
        return Sighting(uri, wanted or _first_mark(site.sources(entry), limits, site))
    if wanted:
        return Sighting(uri, wanted)
    if scheme == "hf":
        now = pinned(place, limits)
        return Sighting(now, now)
    return Sighting(uri, _MARKS.get(scheme, _unmarked)(place, limits))


def safe(uri: str) -> str:
    """Return a URI without what may be secret in it."""
    return shown(uri) if "://" in uri else uri


def _first_mark(sources: tuple[str, ...], limits: Limits, site: Site) -> str:
    """Return the mark of the first source that answers."""
    failures = []
    for source in sources:
        try:
            return f"{source} {sight(source, limits, site).mark}"
        except SourceError as error:
            failures.append(str(error))
    raise SourceError("; ".join(failures))


def _web_mark(place: str, limits: Limits) -> str:
    if needs_azure(urlsplit(place), os.environ):
        return read_object_mark(place, limits)
    return read_mark(place, limits, host_login(place))


def _file_mark(place: str, _limits: Limits) -> str:
    return _stat(Path(unquote(urlsplit(place).path)) if place.lower().startswith("file:") else Path(place))


def _claim_mark(place: str, _limits: Limits) -> str:
    return _stat(CLAIMS / PurePosixPath(unquote(place.partition("://")[2].partition("/")[2])))


def _stat(file: Path) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise SourceError(f"can not read {file}: {error.strerror}") from error
    own = f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    yaml = beside(file)
    return f"{own} {_stat(yaml)}" if yaml else own


def _packaged_mark(place: str, _limits: Limits) -> str:
    return place


def _unmarked(_place: str, _limits: Limits) -> str:
    return ""


_MARKS: dict[str, Callable[[str, Limits], str]] = {
    "az": read_object_mark,
    "file": _file_mark,
    "gs": read_object_mark,
    "http": _web_mark,
    "https": _web_mark,
    "oci": read_artefact_mark,
    "package": _packaged_mark,
    "pvc": _claim_mark,
    "s3": read_object_mark,
}
