"""Placing files so that a reader sees the whole of the new one or the whole of the old one."""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from weights_sync.errors import NoSpaceError, SourceError

_FICLONE = 0x40049409
"""ioctl_ficlone(2)."""
_PIECE = 1 << 20


def place(data: bytes, dest: Path) -> None:
    """Write `dest` under a temporary name, flush it to the disk, then rename it."""
    place_pieces((data,), dest)


def place_pieces(pieces: Iterable[bytes | memoryview], dest: Path) -> str:
    """Write `dest` piece after piece, as `place` does; return the sha256 (hex) of all of it."""
    digest = hashlib.sha256()
    with written(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{dest.name}.", dir=dest.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; a server under another user reads these.
            temporary.chmod(0o644)
            temporary.replace(dest)
        finally:
            temporary.unlink(missing_ok=True)
        sync(dest.parent)
    return digest.hexdigest()


def share(source: Path, dest: Path) -> None:
    """Make `dest` the same file as `source`, by rename; where there can be no hard link, a flushed copy."""
    temporary = dest.with_name(f".{dest.name}.next")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        _copy(source, temporary)
        sync(temporary)
    # The mode of another user's file, which may be shared, is not ours to set.
    if stat.S_IMODE(temporary.stat().st_mode) != 0o644:
        temporary.chmod(0o644)
    temporary.replace(dest)
    sync(dest.parent)
    # Renaming one name of a file to another of the same file does nothing: POSIX leaves both.
    temporary.unlink(missing_ok=True)


def _copy(source: Path, dest: Path) -> None:
    """Copy a file; its blocks are shared until one of the two changes, where the file system can."""
    with source.open("rb") as old, dest.open("xb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, _PIECE)


def digest_of(file: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a directory and so the renames in it, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Name the file or directory in what the system says against writing it."""
    try:
        yield
    except OSError as error:
        if error.errno in {ENOSPC, EDQUOT}:
            raise NoSpaceError(f"can not write {path}: the disk is full") from error
        raise SourceError(f"can not write {path}: {error.strerror or error}") from error
