"""Placing files so that a reader sees the whole of the new one or the whole of the old one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from weights_sync.errors import NoSpaceError, SourceError


def place(data: bytes, dest: Path) -> None:
    """Write `dest` under a temporary name, flush it to the disk, then rename it."""
    with written(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{dest.name}.", dir=dest.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; a server under another user reads these.
            temporary.chmod(0o644)
            temporary.replace(dest)
        finally:
            temporary.unlink(missing_ok=True)
        sync(dest.parent)


def share(source: Path, dest: Path) -> None:
    """Make `dest` the same file as `source`, by rename; where the file system has no hard links, a flushed copy."""
    temporary = dest.with_name(f".{dest.name}.next")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        sync(temporary)
    temporary.chmod(0o644)
    temporary.replace(dest)
    sync(dest.parent)
    # Renaming one name of a file to another of the same file does nothing: POSIX leaves both.
    temporary.unlink(missing_ok=True)


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
