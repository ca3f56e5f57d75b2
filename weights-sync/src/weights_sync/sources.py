"""Where weights come from: a URI in, a verified file on this disk out."""

import hashlib
import http.client
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from weights_sync import sidecar
from weights_sync.archives import ONE_MODEL, is_archive, unpack
from weights_sync.catalogue import Site, find
from weights_sync.credentials import host_login
from weights_sync.errors import ArchiveError, DeadlineError, DigestError, SourceError, TooLargeError
from weights_sync.hub import hub_address, hub_login
from weights_sync.limits import Limits
from weights_sync.manifest import in_manifest
from weights_sync.objects import download_object
from weights_sync.oci import download_artefact
from weights_sync.place import digest_of, place
from weights_sync.signatures import beside, names_beside
from weights_sync.stores.azure import needs_azure
from weights_sync.transfer import Fetched
from weights_sync.web import download, read

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_MAX_MANIFEST_BYTES = 1 << 16
_MAX_SIGNATURE_BYTES = 16 << 20
CLAIMS = Path("/mnt/pvc")


def fetch(uri: str, incoming: Path, limits: Limits, *, known: str = "", site: Site | None = None) -> Fetched:
    """Bring a model to this disk and check it; the file lies in `incoming` unless it was here already.

    A URI may end in `#sha256=` and the digest that the bytes must have; without one, a manifest beside the file
    (`model.onnx.sha256`) is asked. `known` is the ETag of content that is not wanted again.
    """
    place, wanted = split_digest(uri)
    scheme = _SCHEME.match(place)
    reader = _READERS.get(scheme.group()[:-1].lower()) if scheme else _local
    if reader is None:
        raise SourceError(
            f"can not read {scheme.group() if scheme else ''} URIs; there are {', '.join(sorted(_READERS))}"
        )
    task = _Task(incoming, limits, wanted, known, site or Site())
    if reader in {_named, _registry}:
        return reader(place, task)
    cache = task.site.cache
    fetched = (
        cache.fetched(wanted, incoming, limits, lambda: reader(place, task))
        if cache and wanted and not known and reader not in {_local, _mounted}
        else reader(place, task)
    )
    if fetched.unchanged:
        return fetched
    if is_archive(place):
        model = unpack(fetched.file, incoming / "unpacked", limits)
        if model is None:
            raise ArchiveError(f"the archive holds no models: {ONE_MODEL}")
        fetched = replace(fetched, file=model, unpacked=True, signature=beside(model), yaml=sidecar.beside(model))
    elif task.site.signatures.wanted:
        fetched = replace(fetched, signature=_signature(place, task, reader))
    return fetched


def _signature(place: str, task: "_Task", reader: "_Reader") -> Path | None:
    """Fetch the signature that lies beside a model, None where there is none."""
    path, mark, query = place.partition("?")
    folder, slash, name = path.rpartition("/")
    few = replace(task, wanted="", known="", proven=True, limits=replace(task.limits, max_bytes=_MAX_SIGNATURE_BYTES))
    for candidate in names_beside(name):
        try:
            return reader(f"{folder}{slash}{candidate}{mark}{query}", few).file
        except DeadlineError:
            raise
        except SourceError:
            continue
    return None


def split_digest(uri: str) -> tuple[str, str]:
    """Return a URI without its fragment, and the sha256 (hex) in that, empty where there is none."""
    place, mark, wanted = uri.partition("#sha256=")
    wanted = wanted.lower()
    if mark and not _SHA256.fullmatch(wanted):
        raise DigestError("the sha256 in the URI must be 64 hexadecimal digits")
    scheme = _SCHEME.match(place)
    if "#" in place and scheme and scheme.group()[:-1].lower() not in _FINDERS:
        raise DigestError("what follows the # of a URI must be sha256= and 64 hexadecimal digits")
    return place, wanted


def promised(uri: str, site: Site | None = None) -> str:
    """Return the sha256 (hex) that the bytes of a URI must have, empty where only the source knows."""
    place, wanted = split_digest(uri)
    if not wanted and place.lower().startswith("yolo://"):
        return find(place.partition("://")[2], site).sha256
    return wanted


@dataclass(frozen=True, slots=True)
class _Task:
    """What a reader is asked for."""

    incoming: Path
    limits: Limits
    wanted: str
    known: str
    site: Site
    proven: bool = False
    """Whether what is fetched proves itself, and so may change."""

    def part(self, uri: str) -> Path:
        """Return where the bytes of a URI gather; the same place next time, whatever its query says then."""
        name = hashlib.sha256(f"{uri.partition('?')[0]} {self.wanted}".encode()).hexdigest()
        return self.incoming / f"{name[:32]}.part"


def _check(found: str, wanted: str) -> None:
    if wanted and found != wanted:
        raise DigestError(f"the bytes are not the ones asked for: their sha256 is {found}, not {wanted}")


def local_file(uri: str) -> Path | None:
    """Return the model that a URI names on this machine, None where it is elsewhere or in an archive."""
    place, _ = split_digest(uri)
    scheme = _SCHEME.match(place)
    finder = _FINDERS.get(scheme.group()[:-1].lower()) if scheme else _path
    return finder(place) if finder and not is_archive(place) else None


def _path(uri: str) -> Path:
    parts = urlsplit(uri) if uri.lower().startswith("file:") else None
    if parts and parts.netloc not in {"", "localhost"}:
        raise SourceError(f"a file:// URI names a file of this machine, as file:///models/x.onnx; not {uri[:120]}")
    return Path(unquote(parts.path) if parts else uri)


def _on_claim(uri: str) -> Path:
    """Return where a file lies on a claim that KServe has mounted: pvc://NAME/PATH is /mnt/pvc/PATH."""
    path = PurePosixPath(unquote(uri.partition("://")[2].partition("/")[2]))
    if not path.parts or ".." in path.parts:
        raise SourceError("a pvc:// URI names a file on a claim, as pvc://models/yolo/x.onnx")
    return CLAIMS / path


def _local(uri: str, task: _Task) -> Fetched:
    """Find a file by its path or file:// URI."""
    file = _path(uri)
    try:
        if not file.is_file():
            raise SourceError(f"no file {file}")
        task.limits.check_size(file.stat().st_size, str(file))
        beside = file.with_name(f"{file.name}.sha256")
        manifest = beside.read_text(errors="replace") if not task.wanted and beside.is_file() else ""
        found = digest_of(file)
    except OSError as error:
        raise SourceError(f"can not read {file}: {error.strerror}") from error
    wanted = task.wanted or in_manifest(manifest, file.name)
    if manifest and not wanted:
        raise DigestError(f"{beside} has no sha256 of {file.name}")
    _check(found, wanted)
    return Fetched(file, found)


def _web(uri: str, task: _Task) -> Fetched:
    if needs_azure(urlsplit(uri), os.environ):
        return _object(uri, task)
    login = host_login(uri)
    fetched = download(uri, task.part(uri), task.limits, wanted=task.wanted, known=task.known, login=login)
    if not task.wanted and not fetched.unchanged:
        parts = urlsplit(uri)
        beside = parts._replace(path=f"{parts.path}.sha256").geturl()
        answer = read(beside, task.limits, _MAX_MANIFEST_BYTES, login=login)
        text = answer.data.decode(errors="replace") if answer.status == http.client.OK else ""
        # A server may answer anything with some page: what has no digest in it is no manifest.
        _check(fetched.sha256, in_manifest(text, PurePosixPath(unquote(parts.path)).name) or fetched.sha256)
    return fetched


def _object(uri: str, task: _Task) -> Fetched:
    return download_object(uri, task.part(uri), task.limits, wanted=task.wanted, known=task.known)


def _hub(uri: str, task: _Task) -> Fetched:
    address = hub_address(uri, checked=bool(task.wanted) or task.proven)
    return download(address, task.part(uri), task.limits, wanted=task.wanted, known=task.known, login=hub_login())


def _registry(uri: str, task: _Task) -> Fetched:
    return download_artefact(
        uri, task.incoming, task.limits, wanted=task.wanted, known=task.known, cache=task.site.cache
    )


def _mounted(uri: str, task: _Task) -> Fetched:
    return _local(str(_on_claim(uri)), task)


def _packaged(uri: str, task: _Task) -> Fetched:
    """Copy a file of this package out of it, for a package may lie in a zip archive."""
    name = uri.partition(":")[2]
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise SourceError("a package: URI names a file inside weights-sync, as package:models/x.onnx")
    try:
        data = resources.files("weights_sync").joinpath(name).read_bytes()
    except OSError as error:
        raise SourceError(f"this installation of weights-sync comes without {name}") from error
    found = hashlib.sha256(data).hexdigest()
    _check(found, task.wanted)
    file = task.incoming / Path(name).name
    place(data, file)
    return Fetched(file, found)


def _named(uri: str, task: _Task) -> Fetched:
    """Fetch a model of the catalogue from the first of its sources that answers."""
    entry = find(uri.partition("://")[2], task.site)
    most = replace(task.limits, max_bytes=min(entry.bytes or task.limits.max_bytes, task.limits.max_bytes))
    wanted = task.wanted or entry.sha256
    failures = []
    for source in task.site.sources(entry):
        try:
            return fetch(f"{source}#sha256={wanted}" if wanted else source, task.incoming, most, site=task.site)
        except DeadlineError:
            raise
        except (SourceError, DigestError, TooLargeError) as error:
            failures.append(str(error))
    raise SourceError(f"no source of {entry.name} gave it: {'; '.join(failures)}")


_FINDERS: dict[str, Callable[[str], Path]] = {"file": _path, "pvc": _on_claim}
_Reader = Callable[[str, _Task], Fetched]
_READERS: dict[str, _Reader] = {
    "az": _object,
    "file": _local,
    "gs": _object,
    "hf": _hub,
    "http": _web,
    "https": _web,
    "oci": _registry,
    "package": _packaged,
    "pvc": _mounted,
    "s3": _object,
    "yolo": _named,
}
