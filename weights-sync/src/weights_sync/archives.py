"""Models in archives: unpacked under a limit, refused where an archive reaches out of itself."""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from weights_sync.errors import ArchiveError, TooLargeError
from weights_sync.limits import Limits
from weights_sync.order import CHECKPOINT
from weights_sync.place import written

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_MAX_FILES = 1000
ONE_MODEL = "one .onnx file, one model.onnx, or one .ckpt is served"
_PIECE = 1 << 20
_MAX_READ = 8 << 20
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, UnicodeDecodeError),
)
_ZIP_END_BYTES = 22 + 65535 + 20
"""The record at the end of a zip archive, its comment, and what may stand before it."""


def is_archive(uri: str) -> bool:
    """Tell by its name whether a URI, without its fragment, is one of an archive."""
    return uri.partition("?")[0].lower().endswith(_SUFFIXES)


def unpack(archive: Path, folder: Path, limits: Limits, *, under: str = "") -> Path | None:
    """Unpack an archive into `folder`; return the model in it, None without one.

    That is `model.onnx`, the only .onnx file, or without any the only checkpoint. Only what lies `under` a
    folder of the archive is looked at, where one is named.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with written(folder):
        folder.mkdir()
    left = limits.max_bytes
    with _damage_named():
        for count, (name, size, content) in enumerate(_files(archive, under, limits)):
            # What the archive says of itself comes first, what comes out of it is counted all the same.
            if count >= _MAX_FILES or size > left:
                raise TooLargeError(f"the archive unpacks to more than {limits.max_bytes} bytes or {_MAX_FILES} files")
            left -= _copy(content, _inside(folder, name), left)
            limits.left_s("the unpacking")
    models = sorted(folder.rglob("*.onnx")) or sorted(folder.rglob(f"*{CHECKPOINT}"))
    named = [model for model in models if model.name == "model.onnx"] or models
    if len(named) > 1:
        raise ArchiveError(f"the archive holds {len(named)} models: {ONE_MODEL}")
    return named[0] if named else None


def _files(archive: Path, under: str, limits: Limits) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield the name, the stated size and the content of every file; anything but files and folders is refused."""
    if zipfile.is_zipfile(archive):
        _check_directory(archive)
        with zipfile.ZipFile(archive) as whole:
            for entry in whole.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise ArchiveError(
                        f"the archive has a link or device in it ({entry.filename[:80]!r}): not unpacked"
                    )
                if not entry.is_dir():
                    with whole.open(entry) as content:
                        yield entry.filename, entry.file_size, content
        return
    with _Tape.opened(archive, limits) as stream, tarfile.open(fileobj=stream, mode="r:") as tape:  # type: ignore[call-overload] # needs less
        for member in tape:
            # What it remembers of members that were looked at is of no use, and can be without end.
            tape.members = []
            limits.left_s("the unpacking")
            if under and PurePosixPath("/", member.name).parts[1:2] != (under,):
                continue
            if not (member.isreg() or member.isdir()):
                raise _no_file(member.name)
            inside = tape.extractfile(member)
            if inside is not None:
                yield member.name, member.size, inside


@dataclass(frozen=True, slots=True)
class _Tape:
    """The bytes of a tar archive, of which no header makes more than a little be read at once."""

    stream: IO[bytes]
    limits: Limits
    zipped: bool

    @classmethod
    @contextmanager
    def opened(cls, archive: Path, limits: Limits) -> Iterator["_Tape"]:
        with archive.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                yield cls(file, limits, zipped)
                return
            with gzip.GzipFile(fileobj=file) as stream:
                yield cls(stream, limits, zipped)  # type: ignore[arg-type] # as much of a stream as tarfile needs

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise TooLargeError("the archive has a header that is larger than any model needs")
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        # A zipped stream reads what it passes, which an archive can make terabytes of.
        while self.zipped and offset - self.stream.tell() > _MAX_READ:
            self.limits.left_s("the unpacking")
            if not self.stream.read(_MAX_READ):
                break
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _check_directory(archive: Path) -> None:
    """Refuse a zip archive whose list of files, which is read whole, is longer than that of any model.

    The end of the archive says how long it is (APPNOTE.TXT 4.3.16), or that another record does, in which it may be
    longer than four gigabytes.
    """
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _ZIP_END_BYTES))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if length > _MAX_READ or tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise TooLargeError("the archive lists more files than any model needs")


def _no_file(name: str) -> ArchiveError:
    return ArchiveError(f"the archive has a link or device in it ({name[:80]!r}): not unpacked")


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a member, which has to stay in the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise ArchiveError(f"the archive reaches out of its folder ({name[:80]!r}): not unpacked")
    return folder / path


def _copy(content: IO[bytes], file: Path, most: int) -> int:
    """Write a member; return its size in bytes."""
    size = 0
    with written(file), _damage_named():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as stream:
            while piece := content.read(_PIECE):
                size += len(piece)
                if size > most:
                    raise TooLargeError("the archive unpacks to more than it says, and more than the limit")
                stream.write(piece)
    return size


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        UnicodeDecodeError,
    ) as error:
        raise ArchiveError(f"the archive is damaged: {' '.join(str(error).split())[:120]}") from error
    except (RuntimeError, NotImplementedError) as error:
        raise ArchiveError(f"the archive can not be unpacked: {' '.join(str(error).split())[:120]}") from error
