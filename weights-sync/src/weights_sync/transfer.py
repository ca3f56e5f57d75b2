"""One file from a server that fails now and then: resumed, tried again, counted and digested as it streams."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from weights_sync.errors import DigestError, NoSpaceError, SourceError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.metrics import BYTES
from weights_sync.place import digest_of, written
from weights_sync.progress import Progress
from weights_sync.retry import Interrupted, Patience, Stale

_PIECE = 1 << 20
_SPARE_BYTES = 16 << 20
"""Left free on the disk for everybody else."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a server answers."""

    pieces: Iterator[memoryview]
    """The bytes, as they arrive."""
    offset: int = 0
    """Where in the file they begin."""
    total: int | None = None
    """Size of the file, where the server says it."""
    etag: str = ""
    """What the server calls this content, where that is exact."""
    unchanged: bool = False
    """Whether the content is the known one, and not sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is here whole."""

    file: Path
    sha256: str = ""
    """Hexadecimal; empty where the content is unchanged."""
    etag: str = ""
    unchanged: bool = False
    unpacked: bool = False
    """Whether the file comes out of an archive; the sha256 is the archive's then."""
    signature: Path | None = None
    """The signature that came with it."""
    yaml: Path | None = None
    """The YAML that came with it: a sidecar, or what a checkpoint's network is."""

    @property
    def source(self) -> str:
        """sha256 (hex) of all that came: an archive has its YAML inside, a registry has it apart."""
        if not self.yaml or self.unpacked:
            return self.sha256
        return hashlib.sha256(f"{self.sha256} {digest_of(self.yaml)}".encode()).hexdigest()


Opener = Callable[[int, str], AbstractContextManager[Body]]
"""From an offset and the ETag of the bytes before it to what the server answers."""


class Transfer:
    """Brings one file to `part`, which may hold the start of it already."""

    def __init__(self, opener: Opener, part: Path, name: str, limits: Limits, wanted: str = "") -> None:
        self._open = opener
        self._part = part
        self._tag = part.with_suffix(".etag")
        self._name = name
        self._limits = limits
        self._wanted = wanted
        self._progress = Progress(name)
        self._furthest = 0
        self._joined = False

    def run(self) -> Fetched:
        """Return the whole file; bytes that were joined from two transfers and do not fit are fetched anew."""
        try:
            fetched = self._until_whole()
            if self._joined and not self._is_wanted(fetched):
                self._start_anew()
                fetched = self._until_whole()
        finally:
            self._progress.close()
        if not self._is_wanted(fetched):
            self._start_anew()
            raise DigestError(
                f"the bytes are not the ones asked for: their sha256 is {fetched.sha256}, not {self._wanted}"
            )
        return fetched

    def _is_wanted(self, fetched: Fetched) -> bool:
        return fetched.unchanged or not self._wanted or fetched.sha256 == self._wanted

    def _until_whole(self) -> Fetched:
        patience = Patience(self._name, self._limits)
        while True:
            before = self._furthest
            try:
                return self._attempt()
            except Interrupted as error:
                if isinstance(error, Stale):
                    self._start_anew()
                patience.wait(error, progressed=self._furthest > before)

    def _attempt(self) -> Fetched:
        offset = self._resumable()
        tag = self._tag.read_text(encoding="utf-8") if offset and self._tag.is_file() else ""
        with self._open(offset, tag) as body:
            if body.unchanged:
                return Fetched(self._part, etag=body.etag, unchanged=True)
            self._joined |= body.offset > 0
            self._check(body)
            with written(self._part):
                if not body.offset:
                    self._tag.write_text(body.etag, encoding="utf-8")
                return Fetched(self._part, self._save(body), body.etag)

    def _resumable(self) -> int:
        """Return how many bytes of the file are here and can be trusted to be followed by the rest."""
        if not self._part.is_file() or not (self._wanted or (self._tag.is_file() and self._tag.stat().st_size)):
            return 0
        return self._part.stat().st_size

    def _start_anew(self) -> None:
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def _check(self, body: Body) -> None:
        if body.total is None:
            return
        self._limits.check_size(body.total, self._name)
        missing = body.total - body.offset + _SPARE_BYTES
        free = shutil.disk_usage(self._part.parent).free
        if missing > free:
            raise NoSpaceError(
                f"{self._name} needs {missing} bytes more on the disk of {self._part.parent}, where {free} are free"
            )

    def _save(self, body: Body) -> str:
        """Append the pieces to what is here; return the sha256 of all of it."""
        digest = hashlib.sha256()
        size = body.offset
        if not body.offset:
            # A cache may hold the bytes of before under another name: they stay as they are.
            self._part.unlink(missing_ok=True)
        with self._part.open("r+b" if body.offset else "wb", buffering=0) as file:
            _digest_start(file, body.offset, digest.update)
            file.truncate()
            for piece in body.pieces:
                size += len(piece)
                if size > self._limits.max_bytes:
                    raise TooLargeError(f"{self._name} has more than {self._limits.max_bytes} bytes, the limit")
                self._limits.left_s(f"the download of {self._name}")
                digest.update(piece)
                BYTES.inc(len(piece))
                rest = piece
                while rest:
                    rest = rest[file.write(rest) :]
                self._furthest = max(self._furthest, size)
                self._progress.at(size, body.total)
        if body.total is not None and size < body.total:
            raise Interrupted(f"the connection ended {body.total - size} bytes before the end")
        if body.total is not None and size > body.total:
            raise Stale(f"the server sent more than the {body.total} bytes it said")
        return digest.hexdigest()


def _digest_start(file: io.FileIO, length: int, update: Callable[[bytes], None]) -> None:
    """Digest the first `length` bytes of a file, and stand behind them."""
    while length:
        piece = file.read(min(_PIECE, length))
        if not piece:
            raise SourceError("what was fetched before is gone: try again")
        update(piece)
        length -= len(piece)
