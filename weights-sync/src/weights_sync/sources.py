"""Where weights come from: a URI in, a verified file on this disk out."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from weights_sync import download
from weights_sync.catalogue import find
from weights_sync.errors import DigestError, SourceError, TooLargeError
from weights_sync.prepare.checks import MAX_BYTES

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a transfer may do."""

    max_bytes: int = MAX_BYTES
    allow_http: bool = False
    """Whether plain HTTP may leave this machine."""


def fetch(uri: str, scratch: Path, limits: Limits = Limits()) -> Path:
    """Bring a model to this disk and check it; return the file, which lies in `scratch` unless it was here already.

    A URI may end in `#sha256=` and the digest that the bytes must have.
    """
    place, _, wanted = uri.partition("#sha256=")
    wanted = wanted.lower()
    if wanted and not _SHA256.fullmatch(wanted):
        raise DigestError("the sha256 in the URI must be 64 hexadecimal digits")
    scheme = _SCHEME.match(place)
    reader = _READERS.get(scheme.group()[:-1].lower()) if scheme else _local
    if reader is None:
        raise SourceError(
            f"can not read {scheme.group() if scheme else ''} URIs; there are {', '.join(sorted(_READERS))}"
        )
    file = reader(place, scratch, limits)
    if wanted:
        check_digest(file, wanted)
    return file


def check_digest(file: Path, wanted: str) -> None:
    """Refuse a file with another sha256 (hexadecimal)."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wanted:
        raise DigestError(f"the bytes are not the ones asked for: their sha256 is {found}, not {wanted}")


def _local(uri: str, _scratch: Path, limits: Limits) -> Path:
    """Find a file by its path or file:// URI."""
    parts = urlsplit(uri) if uri.lower().startswith("file:") else None
    if parts and parts.netloc not in {"", "localhost"}:
        raise SourceError(f"a file:// URI names a file of this machine, as file:///models/x.onnx; not {uri[:120]}")
    file = Path(unquote(parts.path) if parts else uri)
    try:
        if not file.is_file():
            raise SourceError(f"no file {file}")
        size = file.stat().st_size
    except OSError as error:
        raise SourceError(f"can not read {file}: {error.strerror}") from error
    if size > limits.max_bytes:
        raise TooLargeError(f"{file} has {size} bytes; the limit is {limits.max_bytes}")
    return file


def _web(uri: str, scratch: Path, limits: Limits) -> Path:
    file = scratch / "download.onnx"
    download.download(uri, file, max_bytes=limits.max_bytes, allow_http=limits.allow_http)
    return file


def _packaged(uri: str, scratch: Path, _limits: Limits) -> Path:
    """Copy a file of this package out of it, for a package may lie in a zip archive."""
    name = uri.partition(":")[2]
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise SourceError("a package: URI names a file inside weights-sync, as package:models/x.onnx")
    try:
        data = resources.files("weights_sync").joinpath(name).read_bytes()
    except OSError as error:
        raise SourceError(f"this installation of weights-sync comes without {name}") from error
    file = scratch / Path(name).name
    file.write_bytes(data)
    return file


def _named(uri: str, scratch: Path, limits: Limits) -> Path:
    """Fetch a model of the catalogue from the first of its sources that answers."""
    entry = find(uri.partition("://")[2])
    most = Limits(entry.bytes or limits.max_bytes, limits.allow_http)
    failures = []
    for source in entry.sources:
        try:
            return fetch(f"{source}#sha256={entry.sha256}" if entry.sha256 else source, scratch, most)
        except (SourceError, DigestError, TooLargeError) as error:
            failures.append(str(error))
    raise SourceError(f"no source of {entry.name} gave it: {'; '.join(failures)}")


_READERS: dict[str, Callable[[str, Path, Limits], Path]] = {
    "file": _local,
    "http": _web,
    "https": _web,
    "package": _packaged,
    "yolo": _named,
}
